"""The end of a classifier's graph: what makes its outputs probabilities, logits or sigmoids.

`read_tail` walks from the output back to the operation that decides. It passes what leaves
values or their meaning as they are (reshapes, casts, dropout, means over pixels), enters nested
models, and stops with a `ValueError` at the first operation that it does not fully understand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

KINDS = ("probabilities", "logits", "sigmoid")

_FUNCTIONS = {
    keras.activations.linear: "linear",
    keras.activations.softmax: "probabilities",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.hard_sigmoid: "sigmoid",
    # Its softmax is that of the logits.
    keras.activations.log_softmax: "logits",
    keras.ops.softmax: "probabilities",
    keras.ops.sigmoid: "sigmoid",
    keras.ops.hard_sigmoid: "sigmoid",
    keras.ops.log_softmax: "logits",
}
# Of the same under TensorFlow's own names, which need no import of TensorFlow.
_TENSORFLOW = {"softmax_v2": "probabilities", "sigmoid": "sigmoid", "log_softmax_v2": "logits"}
_OPERATIONS = {
    "Softmax": "probabilities",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "sigmoid",
    "LogSoftmax": "logits",
}
HEADS = (
    layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.Conv3D,
    layers.SeparableConv1D, layers.SeparableConv2D,
)  # fmt: skip
_SAME = (
    layers.Identity, layers.ActivityRegularization, layers.Dropout, layers.SpatialDropout1D,
    layers.SpatialDropout2D, layers.SpatialDropout3D, layers.AlphaDropout, layers.GaussianDropout,
    layers.GaussianNoise,
)  # fmt: skip
_MEANS = (layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D)
_MAXIMA = (layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D)


@dataclass(frozen=True)
class Tail:
    """The end of a classifier's graph.

    Attributes:
        kind: "probabilities" (they sum to one), "logits" (of a softmax) or "sigmoid" (each
            output is a probability of its own).
        operation: What decides: the last activation, or the last dense layer or convolution.
        source: The Keras tensor that `operation` is given; ``None`` for a mean of several.
        after: The calls between `operation` and the output, in their order, as nodes of Keras's graph.
        nested: Whether `operation` is in a model inside the model.
    """

    kind: str
    operation: Any
    source: keras.KerasTensor | None
    after: tuple = ()
    nested: bool = False


class UnknownOutputs(ValueError):
    """The graph does not say what the outputs are."""


def units(model: keras.Model) -> int:
    """The number of outputs of a model that returns ``(batch, units)``.

    Raises:
        ValueError: it returns something else.
    """
    output = output_of(model)
    if not isinstance(output, keras.KerasTensor) or len(output.shape) != 2 or output.shape[1] is None:
        found = keras.tree.map_structure(lambda tensor: getattr(tensor, "shape", "no known shape"), output)
        raise ValueError(
            f"{model.name!r} has no head to classify with: it returns {found}, not one output "
            "(batch, classes)."
        )
    return output.shape[1]


def output_of(model: keras.Model):
    """What a model returns: a Keras tensor, a list or dict of them, or ``None`` if it has no graph.

    A shape alone does not tell one output from a list or dict of one.
    """
    if isinstance(model, keras.Sequential):  # has no `output` until it is called
        outputs = getattr(model, "outputs", None)
        return outputs[0] if outputs else None
    return getattr(model, "output", None)


def class_count(model: keras.Model) -> int:
    """How many classes a model with outputs ``(batch, n)`` tells apart: a single output stands for two."""
    return max(units(model), 2)


def read_tail(model: keras.Model) -> Tail:
    """The end of the graph of a model with one output ``(batch, classes)``.

    Raises:
        UnknownOutputs: it has no graph of layers, or ends in something else than a classifier's.
    """
    units(model)
    try:
        if not _is_graph(model):
            raise UnknownOutputs("it is no graph of layers")
        return _walk(model.outputs[0], ((model, None),), 1, frozenset(KINDS))
    except UnknownOutputs as error:
        choices = ", ".join(map(repr, KINDS))
        raise UnknownOutputs(
            f"the graph of {model.name!r} does not tell what its outputs are: {error}; say so by outputs=, "
            f"one of {choices}."
        ) from error


def _walk(tensor, levels, axis, allowed) -> Tail:
    """Go back from `tensor` to what decides.

    Args:
        tensor: In the graph of the last of `levels`.
        levels: The models around it, from the outermost, each with its call in the one before.
        axis: Of the classes.
        allowed: The kinds that what was passed so far would leave as they are.
    """
    after = []
    while True:
        operation, node, levels = _producer(tensor, levels)
        if type(operation) is layers.Average:
            return _of_mean(node, levels, axis, allowed, after)
        kind, axes = decision(operation)
        if kind is not None:
            _check(operation, node, kind, axes, axis, allowed)
            return Tail(kind, operation, node.input_tensors[0], tuple(reversed(after)), len(levels) > 1)
        passed = _passed(operation, node, axis, allowed)
        if passed is None:
            raise UnknownOutputs(f"the outputs come from {describe_operation(operation)}")
        axis, allowed = passed
        after.append(node)
        tensor = node.input_tensors[0]


def _producer(tensor, levels):
    """The operation that made a tensor, its call, and the models around it: across their borders."""
    while True:
        model, node = levels[-1]
        at = next((i for i, t in enumerate(model.inputs) if t is tensor), None)
        if at is not None:
            if node is None or len(node.input_tensors) != len(model.inputs):
                raise UnknownOutputs("the outputs are its inputs")
            tensor, levels = node.input_tensors[at], levels[:-1]
            continue
        operation, index, output, *_ = tensor._keras_history
        node = operation._inbound_nodes[index]
        if not _is_graph(operation):
            return operation, node, levels
        tensor, levels = operation.outputs[output], (*levels, (operation, node))


def _is_graph(operation):
    """Whether it is a Functional or Sequential model, with no ``call`` of its own."""
    return (
        isinstance(operation, keras.Model)
        and type(operation).call.__module__ in ("keras.src.models.functional", "keras.src.models.sequential")
        and hasattr(operation, "outputs")
    )


def decision(operation) -> tuple:
    """The kind that an operation makes of whatever it is given, and the axes of a softmax.

    Both are ``None`` for one that decides nothing, or is not understood.
    """
    if type(operation) in HEADS:
        kind, axes = _function_kind(operation.activation)
        return ("logits", None) if kind == "linear" else (kind, axes)
    if type(operation) is layers.Activation:
        kind, axes = _function_kind(operation.activation)
        return (None, None) if kind == "linear" else (kind, axes)
    if type(operation) is layers.Softmax:
        return "probabilities", operation.axis
    name = _name_in_ops(operation)
    return _OPERATIONS.get(name), getattr(operation, "axis", None) if name in _OPERATIONS else None


def _function_kind(function):
    if isinstance(function, keras.Layer):
        return decision(function)
    module, name = getattr(function, "__module__", ""), getattr(function, "__name__", "")
    if str(module).startswith("tensorflow.python.ops."):
        return _TENSORFLOW.get(name), -1
    return (_FUNCTIONS.get(function), -1) if getattr(function, "__hash__", None) else (None, None)


def _name_in_ops(operation):
    """The name of an operation of keras.ops; whatever else may bear the same name."""
    return type(operation).__name__ if type(operation).__module__.startswith("keras.src.ops.") else None


def _check(operation, node, kind, axes, axis, allowed):
    if kind not in allowed:
        raise UnknownOutputs(f"what follows {describe_operation(operation)} changes its {kind}")
    if kind == "sigmoid" or axes is None:
        return
    shape = node.outputs[0].shape
    axes = {a % len(shape) for a in (axes if isinstance(axes, tuple | list) else [axes])}
    if axis not in axes or any(shape[a] != 1 for a in axes - {axis}):
        raise UnknownOutputs(
            f"the softmax of {describe_operation(operation)} runs over axis {sorted(axes)} of {shape}, "
            f"the classes are axis {axis}"
        )


def _of_mean(node, levels, axis, allowed, after):
    """A mean of probabilities is one, too; so it is with logits and with sigmoids."""
    tails = [_walk(tensor, levels, axis, allowed) for tensor in node.input_tensors]
    if len({tail.kind for tail in tails}) > 1 or len({tensor.shape for tensor in node.input_tensors}) > 1:
        raise UnknownOutputs(f"{describe_operation(node.operation)} averages different things")
    return Tail(tails[0].kind, node.operation, None, tuple(reversed(after)), len(levels) > 1)


def _passed(operation, node, axis, allowed):
    """The axis of the classes and the kinds before an operation that is passed; ``None`` at others."""
    kind, name, before = type(operation), _name_in_ops(operation), node.input_tensors[0].shape
    if kind in _SAME and not node.arguments.kwargs.get("training"):
        return axis, allowed
    if kind is layers.Activation and operation.activation is keras.activations.linear:
        return axis, allowed
    if name in ("Cast", "StopGradient", "Copy"):
        return axis, allowed
    if kind in (layers.Reshape, layers.Flatten) or name in ("Reshape", "Squeeze", "ExpandDims"):
        return _reshaped(before, node.outputs[0].shape, axis, allowed, keeps_batch=name is None)
    if kind in _MEANS + _MAXIMA:
        lost = {"probabilities"} if kind in _MAXIMA else set()
        return (len(before) - 1 if operation.data_format == "channels_last" else 1), allowed - lost
    if kind is layers.Permute:
        return operation.dims[axis - 1], allowed
    if name == "Mean":
        return _averaged(operation, len(before), axis, allowed)
    if name == "GetItem":
        return _picked(node.arguments.args[1], len(before), axis, allowed)
    if kind is layers.Rescaling or _is_scaling(name, node):
        return axis, allowed & {"logits"}
    return None


def _reshaped(before, after, axis, allowed, keeps_batch):
    """Only sides of 1 may come and go; otherwise a softmax does not run over all that are classes now."""
    wide = [[i for i, n in enumerate(shape) if i and n != 1] for shape in (before, after)]
    if [before[i] for i in wide[0]] == [after[i] for i in wide[1]]:
        return (wide[0][wide[1].index(axis)] if axis in wide[1] else len(before) - 1), allowed
    return (len(before) - 1, allowed - {"probabilities"}) if keeps_batch else None


def _averaged(operation, rank, axis, allowed):
    axes = operation.axis if isinstance(operation.axis, tuple | list) else [operation.axis]
    if None in axes or 0 in (axes := {a % rank for a in axes}):
        return None
    if operation.keepdims:
        return None if axis in axes else (axis, allowed)
    return [a for a in range(rank) if a not in axes][axis], allowed


def _picked(key, rank, axis, allowed):
    """``x[:, 0, 0]``, also with ``...``: places are chosen, or some of the classes."""
    key = key if isinstance(key, tuple) else (key,)
    at = key.index(Ellipsis) if Ellipsis in key else len(key)
    key = key[:at] + (slice(None),) * (rank - len(key) + (at < len(key))) + key[at + 1 :]
    if key[0] != slice(None) or not all(isinstance(k, int | slice) for k in key):
        return None
    axis = [i for i, k in enumerate(key) if isinstance(k, slice)][axis]
    return axis, allowed if key[axis] == slice(None) else allowed - {"probabilities"}


def _is_scaling(name, node):
    """A tensor times or by a plain number."""
    args = node.arguments.args
    numbers = [not hasattr(arg, "shape") or isinstance(arg, float) for arg in args]
    return (name == "Multiply" and sorted(numbers) == [False, True]) or (
        name in ("Divide", "TrueDivide") and numbers == [False, True]
    )


def describe_operation(operation) -> str:
    """Its class and its name, as an error may say it."""
    function = getattr(operation, "activation", None)
    if function is None or function is keras.activations.linear:
        return f"{type(operation).__name__} {operation.name!r}"
    what = getattr(function, "name", None) or getattr(function, "__name__", function)
    return f"{type(operation).__name__} {operation.name!r} with the activation {what!r}"
