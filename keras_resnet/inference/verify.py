"""Proof of parity: a variant beside its original in another library, with the same random weights.

Random weights tell more than trained ones: no gamma is zero, no statistic is one, and no branch
is so weak that an error in it drowns.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import keras
import numpy as np

from keras_resnet.graphs import functional_model
from keras_resnet.inference.references import COUNTER, open_reference, references
from keras_resnet.resnet import build_variant
from keras_resnet.summary import stage_outputs
from keras_resnet.variants import VARIANTS
from keras_resnet.weights.convert import assign, find_layout, to_state_dict
from keras_resnet.weights.tensors import Tensor, WeightsError

# Largest differences that rounding in float32 may make; it makes about 1e-6.
LOGITS_BAR = 1e-4
STAGES_BAR = 1e-4


@dataclass(frozen=True)
class Difference:
    """How far a variant is from its original.

    Attributes:
        name: The variant.
        against: The library of the original.
        logits: The largest difference between logits, as a part of the largest logit of the
            original; of all sizes the worst. Infinite where nothing could be compared.
        stages: The same for the features of the worst stage.
        back: Whether `to_state_dict` gave back the weights of the original bit for bit.
        seconds: What the comparison took.
        note: What was not compared, and why; empty for nothing.
    """

    name: str
    against: str
    logits: float
    stages: float
    back: bool
    seconds: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether all three are within their bars."""
        return self.logits <= LOGITS_BAR and self.stages <= STAGES_BAR and self.back


def verify(
    names: Iterable[str], *, against: str = "timm", sizes=(128, 97), progress=None
) -> Iterator[Difference]:
    """Compare variants with their originals, one at a time, on the CPU and in float32.

    The original gets `synthetic_tensor` weights, statistics, gammas and betas included; they are
    converted with `assign`, and both networks run on the same image of noise. After each
    variant Keras's session is cleared.

    Args:
        names: Variants, such as `references(against)`.
        against: "timm", "torchvision" or "keras".
        sizes: Sides of the images in pixels: an even and an odd one, because odd sizes tell
            paddings apart that are the same for even ones.
        progress: Function that is called with each name before its comparison.

    Yields:
        A `Difference` for each name. One whose weights do not convert has infinite ones.

    Raises:
        ValueError: `against` is unknown, or does not have one of the variants.
        ImportError: torch, timm or torchvision is not installed.
    """
    names, available = list(names), references(against)
    if missing := [name for name in names if name not in available]:
        raise ValueError(f"{against} has no {', '.join(map(repr, missing))}; it has {', '.join(available)}.")
    return _differences(names, against, tuple(sizes), progress)


def _differences(names, against, sizes, progress):
    for name in names:
        if progress:
            progress(name)
        try:
            # GPUs multiply float32 with fewer bits.
            with keras.device("cpu:0"):
                difference = _compare(name, against, sizes)
        finally:
            keras.backend.clear_session()
        yield difference


def _compare(name, against, sizes):
    start = time.perf_counter()
    reference = open_reference(name, against)
    row = replace(VARIANTS[name], kernel_initializer="zeros")
    model = build_variant(row, input_shape=(None, None, 3), classifier_activation=None, name=name)
    try:
        assign(model, as_tensors(reference.tensors), f"{against}'s {name}")
    except WeightsError as error:
        seconds = time.perf_counter() - start
        return Difference(name, against, math.inf, math.inf, False, seconds, " ".join(str(error).split()))
    found, notes = _measure(model, reference, against, sizes)
    logits = max((errors.pop("logits") for errors in found), default=math.inf)
    stages = max((error for errors in found for error in errors.values()), default=math.inf)
    back = _gives_back(model, reference)
    return Difference(name, against, logits, stages, back, time.perf_counter() - start, "; ".join(notes))


def _measure(model, reference, against, sizes):
    """For each size that the reference takes, the relative difference of each of its outputs."""
    outputs = functional_model(model.input, {**stage_outputs(model), "logits": model.output})
    found, notes = [], []
    for size in sizes:
        images = np.random.default_rng(size).normal(size=(1, size, size, 3)).astype(np.float32)
        try:
            theirs = reference.run(images)
        except RuntimeError:
            notes.append(f"{against} cannot take {size} px")
            continue
        ours = outputs(images)
        found.append({key: _relative(np.array(ours[key]), theirs[key]) for key in theirs})
    return found, notes


def _relative(ours, theirs):
    if ours.shape != theirs.shape:
        return math.inf
    with np.errstate(invalid="ignore", divide="ignore"):
        error = float(abs(ours - theirs).max() / abs(theirs).max())
    return error if math.isfinite(error) else math.inf


def _gives_back(model, reference):
    theirs = {key: array for key, array in reference.tensors.items() if not key.endswith(COUNTER)}
    ours = to_state_dict(model, find_layout(model, theirs))
    return ours.keys() == theirs.keys() and all(
        ours[key].dtype == array.dtype and np.array_equal(ours[key], array) for key, array in theirs.items()
    )


def as_tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays in memory as `assign` takes them."""
    return {
        key: Tensor(array.shape, array.dtype.name, functools.partial(np.asarray, array))
        for key, array in arrays.items()
    }


def format_differences(rows: Iterable[Difference]) -> str:
    """The rows as an aligned table."""
    cells = [("variant", "against", "logits", "stages", "weights back", "seconds", "", "note")]
    for row in rows:
        verdict = "passed" if row.passed else "FAILED"
        numbers = (
            f"{row.logits:.1e}",
            f"{row.stages:.1e}",
            "yes" if row.back else "NO",
            f"{row.seconds:.1f}",
        )
        cells.append((row.name, row.against, *numbers, verdict, row.note))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if 2 <= i < 6 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines)
