"""Where a network's head begins: its graph says so, the names of its layers do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
from keras import layers

from keras_resnet.copying import copy_layer
from keras_resnet.nearest import suggest
from keras_resnet.tails import HEADS, Tail, UnknownOutputs, decision, describe_operation, output_of, read_tail

POOLS = (
    layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
)  # fmt: skip
_OPAQUE = (layers.Lambda, layers.Wrapper, layers.TFSMLayer)


@dataclass(frozen=True)
class Head:
    """The layers that turn features into classes.

    Attributes:
        features: The Keras tensor that the first of them is given.
        operations: All of them, in their order.
    """

    features: keras.KerasTensor
    operations: tuple

    def __str__(self):
        return ", ".join(map(describe_operation, self.operations))


def find_head(model: keras.Model, name: str | None = None) -> Head | None:
    """The last dense layer, or a 1x1 convolution in its place, and what follows.

    Args:
        model: A Functional or Sequential model.
        name: The layer with which the head begins; by default the graph tells.

    Returns:
        The head; ``None`` for a model that ends in features.

    Raises:
        ValueError: the graph does not tell, or there is no such layer.
    """
    output = output_of(model)
    if not isinstance(output, keras.KerasTensor):
        raise ValueError(f"{model.name!r} returns several outputs; a network with one is wanted.")
    if name is not None:
        return _named(model, name)
    if len(output.shape) != 2:
        return None
    nodes = list(single_inputs(output))
    try:
        last = read_tail(model).operation
    except UnknownOutputs as error:
        if _are_features(nodes):
            return None
        raise _unclear(model, error.__cause__) from error
    start = next((i for i, node in enumerate(nodes) if node.operation is last), len(nodes))
    for i, node in enumerate(nodes[start:], start):
        if isinstance(node.operation, keras.Model):
            break
        if type(node.operation) in HEADS and _sees_all(node):
            return Head(node.input_tensors[0], tuple(n.operation for n in reversed(nodes[: i + 1])))
    raise _unclear(model, f"no dense layer or 1x1 convolution leads to {describe_operation(last)} alone")


def single_inputs(tensor) -> Iterator:
    """The calls from `tensor` back to the first that takes several tensors, or none, as nodes."""
    while True:
        operation, index, *_ = tensor._keras_history
        node = operation._inbound_nodes[index]
        if len(node.input_tensors) != 1:
            return
        yield node
        (tensor,) = node.input_tensors


def logits_function(tail: Tail) -> Callable:
    """The end of a classifier without its activation.

    Returns:
        Function from the values of ``tail.source`` to logits ``(batch, classes)``, both of them
        of a single output.
    """
    layer = tail.operation
    start = _without_activation(layer) if type(layer) in HEADS else lambda x: x

    def to_logits(x):
        x = start(x)
        for node in tail.after:
            x = _call_again(node, x)
        return keras.ops.concatenate([-x, x], axis=1) if x.shape[1] == 1 else x

    return to_logits


def _without_activation(layer):
    copy = copy_layer(layer)
    copy.activation = keras.activations.linear
    return copy


def _call_again(node, x):
    """What a call of the graph makes of `x` in place of its one Keras tensor."""
    args, kwargs = keras.tree.map_structure(
        lambda value: x if isinstance(value, keras.KerasTensor) else value,
        (node.arguments.args, node.arguments.kwargs),
    )
    return node.operation(*args, **kwargs)


def _named(model, name):
    found = {layer.name: layer for layer in model.layers}
    if name not in found:
        hint = suggest(name, list(found), f"its last layers are {', '.join(list(found)[-4:])}.")
        raise ValueError(f"head={name!r}: {model.name!r} has no layer of that name; {hint}")
    layer = found[name]
    if len(layer._inbound_nodes) != 1 or not isinstance(layer.input, keras.KerasTensor):
        raise ValueError(f"head={name!r} takes several tensors, or is called more than once.")
    return Head(layer.input, (layer,))


def _sees_all(node):
    """Whether a layer weighs all features of a place, or of the image, as a dense layer does."""
    kernel, after = getattr(node.operation, "kernel_size", ()), node.outputs[0].shape[1:-1]
    return all(n == 1 for n in kernel) or all(n == 1 for n in after)


def _are_features(nodes):
    """Whether what a network ends in is no classifier's: a ReLU, a sum, normalized maps and their means."""
    for node in nodes:
        operation = node.operation
        function = getattr(operation, "activation", None)
        if not _is_known(operation) or (function is not None and not _is_known(function)):
            return False
        if decision(operation)[0] in ("probabilities", "sigmoid"):
            return False
        if getattr(operation, "weights", ()):
            return True
    return True


def _is_known(thing):
    module = getattr(thing, "__module__", None) or ""
    return module.startswith(("keras.src.", "keras_resnet.")) and not isinstance(thing, _OPAQUE)


def _unclear(model, reason):
    return ValueError(
        f"the graph of {model.name!r} does not tell where its head begins: {reason}; "
        "name its first layer by head=."
    )
