"""Whether a classifier returns probabilities, logits or sigmoids: its graph says so, its numbers do not."""

from __future__ import annotations

import keras
import numpy as np

from keras_resnet.tails import KINDS, UnknownOutputs, read_tail, units


def output_kind(model: keras.Model, outputs: str | None = None) -> str:
    """What a classifier returns: "probabilities", "logits" or "sigmoid".

    One sigmoid stands for two classes and is the probability of the second; several are
    labels that exclude nothing. Logits are those of a softmax. One output without an activation
    can be the logit of the second of two classes or a number of its own: it must be told.

    Args:
        model: From images to ``(batch, classes)``.
        outputs: The same, said by the user where the graph cannot tell.

    Raises:
        ValueError: the graph does not tell, or contradicts `outputs`; the model is no classifier.
    """
    count = units(model)
    if outputs is not None and outputs not in KINDS:
        raise ValueError(f"outputs={outputs!r} is unknown; choose one of {', '.join(map(repr, KINDS))}.")
    try:
        kind = read_tail(model).kind
    except UnknownOutputs:
        if outputs is None:
            raise
        kind = outputs
    if outputs not in (None, kind):
        raise ValueError(f"outputs={outputs!r} for {model.name!r}, whose graph returns {kind!r}.")
    if count == 1 and kind == "probabilities":
        raise ValueError(
            f"{model.name!r} has one output; as a probability that sums to one it is 1 for every image: two "
            "classes need a sigmoid, or two outputs."
        )
    if count == 1 and kind == "logits" and outputs is None:
        raise UnknownOutputs(
            f"{model.name!r} has one output without an activation: say outputs='logits' if it is the logit "
            "of the second of two classes."
        )
    return kind


def to_probabilities(outputs: np.ndarray, kind: str) -> np.ndarray:
    """The probabilities that a classifier's outputs stand for.

    Args:
        outputs: ``(images, n)``, of any floating dtype.
        kind: Of `output_kind`.

    Returns:
        float32 ``(images, classes)``: of a single output, that of both classes. Several sigmoids
        stay as they are; they do not sum to one.

    Raises:
        ValueError: `outputs` cannot be what `kind` says.
    """
    outputs = np.asarray(outputs).astype(np.float32)
    if kind != "logits":
        _check_range(outputs, kind)
        return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs
    if outputs.shape[1] == 1:
        outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=1)
    # 16 bits overflow to infinity, of which the difference would be NaN.
    outputs = np.clip(outputs, -1e38, 1e38)
    exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _check_range(outputs, kind):
    """A wrong word of the user's shows here; NaN is not its fault."""
    outside = (outputs < -1e-3) | (outputs > 1 + 1e-3)
    if outside.any():
        raise ValueError(
            f"outputs={kind!r}, but one of them is {outputs[outside][0]:.4g}, not within 0 to 1."
        )
    sums = outputs.sum(axis=1)
    if kind == "probabilities" and (away := abs(sums - 1) > 0.05).any():
        raise ValueError(f"outputs={kind!r}, but those of an image sum to {sums[away][0]:.4g}.")
