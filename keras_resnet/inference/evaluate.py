"""How good a model is on data that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_resnet.data.errors import DataError, clear_errors
from keras_resnet.data.labels import check_label_spec, check_labels
from keras_resnet.data.names import match_classes
from keras_resnet.data.pipeline import make_dataset, raw_dataset
from keras_resnet.inference.artifacts import Artifact, to_artifact
from keras_resnet.inference.forward import batch_function
from keras_resnet.inference.pixels import check_range, check_takes_pixels, prepares_images
from keras_resnet.output_kind import output_kind, to_probabilities
from keras_resnet.tails import class_count, units


@dataclass(frozen=True)
class Evaluation:
    """Figures of one pass over `count` images.

    Attributes:
        count: Images.
        top1: Share of the images whose likeliest class is right.
        top5: Share of those whose class is among the five likeliest.
        loss: Mean cross-entropy, in nats.
        confusion: Counts, ``(true class, predicted class)``.
        note: How classes of the data and of the model were brought together, unless they are the same.
    """

    count: int
    top1: float
    top5: float
    loss: float
    confusion: np.ndarray
    note: str | None = None

    def __str__(self):
        text = f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%}, loss {self.loss:.4f}, {self.count} images"
        return f"{text}; {self.note}" if self.note else text


def evaluate(
    model,
    data,
    split: str = "held_out",
    *,
    on_batch: Callable | None = None,
    outputs: str | None = None,
    **options,
) -> Evaluation:
    """Evaluate a classifier.

    Images are resized and cropped as the model says (`open_model`); one that prepares its images
    itself gets them as they are. Classes of the model and of the data are matched by name.

    Args:
        model: A Keras model, a run folder, a ``.keras`` file or an `Artifact`. It takes pixels of
            0 to 255 and returns probabilities, logits, or one sigmoid for two classes.
        data: A finite dataset of `make_dataset`, or anything that `make_dataset` takes.
        split: Of data that are not a dataset yet, which split.
        on_batch: Called with the images, labels and probabilities of each batch, as arrays; labels are
            outputs of the model.
        outputs: What the model returns, "probabilities", "logits" or "sigmoid": needed only if its
            graph does not tell, see `output_kind`.
        **options: Of data that are not a dataset yet, further arguments of `make_dataset`, instead of
            what the model says.

    Raises:
        DataError: the data cannot be used, or have other classes or channels than the model; a label is
            none of the classes.
        ValueError: the model does not normalise its input, does not tell what it returns, or has
            several sigmoids: labels that exclude nothing, where the data have one class an image.
    """
    artifact = to_artifact(model)
    model = artifact.model
    check_takes_pixels(model)
    kind = _one_class_kind(model, outputs)
    if not isinstance(data, tf.data.Dataset):
        data = evaluation_dataset(artifact, data, split, **options)
    _check_fit(model, data)
    mapping, note = outputs_of_labels(artifact, data)
    classes = class_count(model)
    confusion = np.zeros((classes, classes), np.int64)
    hits5, loss, brightest, outputs_of = 0, 0.0, 0.0, batch_function(model)
    with clear_errors():
        for images, labels in data.as_numpy_iterator():
            brightest = max(brightest, check_range(images, True, model.name, dark=brightest > 1))
            check_labels(labels, classes if mapping is None else len(mapping), first=int(confusion.sum()))
            labels = labels if mapping is None else mapping[labels]
            probabilities = to_probabilities(outputs_of(images), kind)
            if on_batch is not None:
                on_batch(images, labels, probabilities)
            order = np.argsort(-probabilities, axis=1, kind="stable")
            np.add.at(confusion, (labels, order[:, 0]), 1)
            hits5 += int((order[:, :5] == labels[:, None]).sum())
            right = probabilities[np.arange(len(labels)), labels]
            loss -= float(np.log(np.maximum(right, np.finfo(np.float32).tiny)).sum(dtype=np.float64))
    if not (count := int(confusion.sum())):
        raise DataError("the dataset is empty.")
    return Evaluation(count, confusion.trace() / count, hits5 / count, loss / count, confusion, note)


def evaluation_dataset(artifact: Artifact, data, split: str = "held_out", **options):
    """One pass over a split of `data`, as the model of `artifact` wants its images.

    Args:
        artifact: See `to_artifact`.
        data: See `make_dataset`.
        split: See `make_dataset`.
        **options: Further arguments of `make_dataset`, instead of what the model says.

    Raises:
        DataError: the data cannot be used, or the options are about images that the model prepares itself.
    """
    if not prepares_images(artifact.model):
        size = artifact.model.input_shape[1] or artifact.geometry.size
        return make_dataset(
            data, split, **{"training": False, "image_size": size} | artifact.options | options
        )
    if wrong := set(options) & {"image_size", "crop_fraction", "interpolation", "antialias"}:
        raise DataError(
            f"{', '.join(sorted(wrong))}: {artifact.model.name!r} resizes and crops its images itself."
        )
    return raw_dataset(data, split, **options)


def _one_class_kind(model, outputs):
    kind = output_kind(model, outputs)
    if kind == "sigmoid" and units(model) > 1:
        raise ValueError(
            f"{model.name!r} returns {units(model)} sigmoids, each the probability of a label of its own; "
            "the data have one class for each image."
        )
    return kind


def outputs_of_labels(artifact, data):
    """Match the classes of a dataset of `make_dataset` with those of a model, by name.

    Returns:
        The output of the model for each label, as an array, or ``None`` for a dataset without class
        names; and what a reader of the result must know, or ``None``.

    Raises:
        DataError: the data have other classes; see `match_classes`.
    """
    names = getattr(data, "class_names", None)
    if names is None:
        return None, None
    named = getattr(data, "named", True)
    outputs, note = match_classes(artifact.class_names, names, repr(artifact.model.name), data_named=named)
    return np.array(outputs), note


def check_finite(dataset, what: str) -> None:
    """Raise `DataError` for a dataset without end; `what` names it.

    That of a dataset whose length TensorFlow does not know, such as one of a generator, cannot be told.
    """
    if not isinstance(dataset, tf.data.Dataset):
        return
    batches = int(dataset.cardinality())
    if batches == tf.data.INFINITE_CARDINALITY or batches > 2**40:
        raise DataError(f"{what} has no end; make it with training=False, or take(...) a part of it.")


def check_batched(dataset, name: str) -> None:
    """Raise `DataError` unless a dataset gives batches of images, and labels."""
    spec = dataset.element_spec
    images = spec[0] if isinstance(spec, tuple) and spec else spec
    if getattr(images, "shape", None) is not None and images.shape.rank == 3:
        raise DataError(f"{name} gives single images, {tuple(images.shape)}: batch it, dataset.batch(32).")


def _check_fit(model, data):
    check_finite(data, "the dataset")
    check_batched(data, "the dataset")
    check_label_spec(data)
    _, *found, channels = data.element_spec[0].shape
    _, *sides, wanted = model.input_shape
    if channels != wanted:
        raise DataError(f"the images have {channels} channels; {model.name!r} takes {wanted}.")
    if any(None not in pair and pair[0] != pair[1] for pair in zip(found, sides, strict=True)):
        raise DataError(
            f"the images are {tuple(found)} pixels, height and width; {model.name!r} takes {tuple(sides)}."
        )
    if getattr(data, "prepared", False) and prepares_images(model):
        raise DataError(
            f"the images of this dataset are resized and cropped, which {model.name!r} does itself: "
            "they would be prepared twice. Give evaluate the data themselves, not a dataset of them."
        )
