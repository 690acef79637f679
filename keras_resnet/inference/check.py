"""Whether an export computes what the model does: on real images, within the bar of its precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_resnet.data.errors import DataError, clear_errors
from keras_resnet.data.names import are_numbers
from keras_resnet.data.pipeline import make_dataset
from keras_resnet.inference.evaluate import outputs_of_labels
from keras_resnet.inference.preparation import Preparation

_BATCH = 32
# Where the two likeliest classes are closer than this, the model itself does not decide.
TIE = 0.01


class ExportError(ValueError):
    """An export that could not be written, or that does not compute what the model does."""


@dataclass(frozen=True)
class Bar:
    """What an export of a precision must keep.

    Attributes:
        difference: Largest difference of any probability.
        drop: Largest loss of top-1, as a share of the images; without labels, largest share of
            the images that get another likeliest class. Images on which the model itself does
            not decide (two likeliest classes within `TIE`) do not count.
    """

    difference: float
    drop: float


# By the precision of an export, and by the dtype in which the given model computes.
BARS = {
    "float32": Bar(1e-5, 0.0),
    "float16": Bar(0.02, 0.005),
    "bfloat16": Bar(0.15, 0.005),
    "int8": Bar(1.0, 0.005),
}


def bar_of(precision: str, policy: str) -> Bar:
    """What an export of `precision` must keep of a model whose layers compute in `policy`."""
    bars = BARS[precision], BARS[policy]
    return Bar(max(bar.difference for bar in bars), max(bar.drop for bar in bars))


@dataclass(frozen=True)
class Comparison:
    """An export beside the model that was given, on `count` images.

    Attributes:
        count: Images.
        difference: Largest difference of any probability.
        agreement: Share of the images with the same likeliest class.
        drop: As in `Bar`, of these images.
        top1: Shares of right answers of the model and of the export; None without labels.
        policy: In which dtype the model computes: "float32", "bfloat16" or "float16".
        difference_float32: Largest difference of any probability from the network of the model
            in float32; `difference` itself where the model computes in float32.
    """

    count: int
    difference: float
    agreement: float
    drop: float
    top1: tuple[float, float] | None
    policy: str = "float32"
    difference_float32: float | None = None

    def __str__(self):
        text = f"{self.count} images, max|dp| {self.difference:.1e}, top-1 agreement {self.agreement:.2%}"
        if self.policy != "float32":
            text += f" with the model in {self.policy}; max|dp| {self.difference_float32:.1e} in float32"
        return text + (f", top-1 {self.top1[1]:.2%} of {self.top1[0]:.2%}" if self.top1 else "")


def load_images(data, split: str, preparation: Preparation, count: int, **options):
    """Images and labels for calibration or comparison.

    Args:
        data: What `make_dataset` takes; ``None`` for the embedded digits, enlarged.
        split: "train" or "held_out".
        preparation: How the images are prepared.
        count: At most so many images, drawn at random but always the same.
        **options: `data_dir`, `download` and `layout` of `make_dataset`.

    Returns:
        uint8 ``(images, size, size, channels)``, int64 ``(images,)``, and the dataset that they are from.

    Raises:
        DataError: the data cannot be used, or have other channels.
    """
    prepared = preparation.options
    if data is None:
        data, prepared = "digits", {"image_size": preparation.size}
    # A shuffled pass: stored orders are often sorted by class.
    dataset = make_dataset(data, split, training=True, batch_size=1, **prepared, **options)
    with clear_errors():
        pairs = list(dataset.take(min(count, dataset.num_examples)).as_numpy_iterator())
    images, labels = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    if isinstance(data, str) and data == "digits" and preparation.channels == 3:
        images = np.repeat(images, 3, axis=-1)
    if images.shape[-1] != preparation.channels:
        raise DataError(
            f"the images have {images.shape[-1]} channels; the model takes {preparation.channels}."
        )
    return images, labels, dataset


def right_outputs(artifact, labels, source):
    """The outputs that are right for the labels of `source`, or ``None``, and what is to be said of them.

    Raises:
        DataError: the model of `artifact` does not know the classes of `source`.
    """
    names = artifact.class_names
    if are_numbers(names) and len(source.class_names) != len(names):
        return None, f"{artifact.model.name!r} has no class names to compare with those of the images"
    outputs, note = outputs_of_labels(artifact, source)
    return outputs[labels], note


def run_all(run, images) -> np.ndarray:
    """The probabilities of all images, batch by batch; the last batch is smaller, to use another size."""
    return np.concatenate([run(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)])


def compare(reference: np.ndarray, found: np.ndarray, labels, policy: str = "float32") -> Comparison:
    """Compare an export with its model.

    Args:
        reference: Probabilities of the model, ``(images, classes)``.
        found: Probabilities of the export.
        labels: Classes ``(images,)``, or None where unknown.
        policy: In which dtype the model computes. Below float32 it does not decide between classes
            that are as close as the tolerance of that dtype.

    Raises:
        ExportError: the export gives another shape, or values that are not finite.
    """
    if found.shape != reference.shape or not np.isfinite(found).all():
        kind = "values that are not finite" if found.shape == reference.shape else f"shape {found.shape}"
        raise ExportError(f"its runtime gives {kind} for {len(reference)} images.")
    ours, theirs = reference.argmax(axis=1), found.argmax(axis=1)
    second, first = np.sort(reference, axis=1)[:, -2:].T if reference.shape[1] > 1 else (0, reference[:, 0])
    decided = first - second > (TIE if policy == "float32" else BARS[policy].difference)
    right = [choice == (ours if labels is None else labels) for choice in (ours, theirs)]
    lost = right[0].astype(int) - right[1]
    return Comparison(
        len(reference),
        float(abs(reference - found).max()),
        float((ours == theirs).mean()),
        float(lost[decided].sum() / len(reference)),
        None if labels is None else tuple(float(r.mean()) for r in right),
        policy,
    )


def check(comparison: Comparison, bar: Bar) -> None:
    """Raise `ExportError` for a comparison that is not within `bar`; one image may always be lost."""
    allowed = max(bar.drop, 1 / comparison.count) if bar.drop else 0.0
    if comparison.difference > bar.difference:
        raise ExportError(f"{comparison}: at most {bar.difference:.0e} is allowed for a probability.")
    if comparison.drop > allowed:
        raise ExportError(f"{comparison}: a loss of at most {allowed:.2%} is allowed.")
