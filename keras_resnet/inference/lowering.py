"""A Keras model as the TensorFlow operations that compute it fastest, for inference only.

Batch normalization goes into the convolution before it; filters are standardized and folded
once, in float64; zero padding goes into the convolution after it. Weights are constants. Only
layers that `RULES` understands in full are computed in another way than their own.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import layers

from keras_resnet.copying import own_methods
from keras_resnet.graphs import deep_graphs
from keras_resnet.inference.convolutions import emitted, tensor_of
from keras_resnet.inference.rules import RULES, takes_inputs_only
from keras_resnet.inference.store import Store


@dataclass(frozen=True)
class Lowering:
    """How a model is computed: ``lowering(images)`` adds its operations to the current graph.

    Attributes:
        model: A Functional or Sequential model. Where its convolutions compute in bfloat16,
            means over all pixels and dense layers stay float32.
        store: Of that model.
        grouped: How grouped convolutions are computed; see `convolutions`.
    """

    model: keras.Model
    store: Store
    grouped: Callable

    def __call__(self, images):
        """Add the operations to the current graph; the outputs are float32."""
        with deep_graphs():
            outputs = _Inference(lambda x: self._run(self.model, [x], ""))(images, training=False)
        return keras.tree.map_structure(lambda y: tf.cast(emitted(y), tf.float32), outputs)

    def _run(self, model, inputs, prefix):
        graph = keras.Function(model.inputs, model.outputs)
        nodes = [
            node for depth in sorted(graph._nodes_by_depth)[::-1] for node in graph._nodes_by_depth[depth]
        ]
        # How often each tensor is read: only what one layer reads can be left open.
        reads = Counter(id(t) for node in nodes for t in node.input_tensors)
        reads.update(map(id, graph.outputs))
        values = {id(t): _as_input(t, x) for t, x in zip(graph.inputs, inputs, strict=True)}
        for node in nodes:
            if node.is_input or any(id(t) not in values for t in node.input_tensors):
                continue
            args, kwargs = node.arguments.fill_in(values)
            outputs = keras.tree.flatten(self._lower(node.operation, prefix, args, kwargs))
            for t, value in zip(node.outputs, outputs, strict=False):
                values[id(t)] = value if reads[id(t)] == 1 else emitted(value)
        outputs = [values[id(t)] for t in graph.outputs]
        # As Keras, which takes a list of one tensor for that tensor.
        return outputs[0] if len(outputs) == 1 else keras.tree.pack_sequence_as(model.output, outputs)

    def _lower(self, layer, prefix, args, kwargs):
        name = f"{prefix}{layer.name}"
        rule = RULES.get(type(layer))
        if is_graph(layer) and _are_inputs_of(layer, args, kwargs):
            inputs = keras.tree.flatten(args[0])
            return self._run(layer, list(map(emitted, inputs)), f"{name}/")
        understood = rule is not None and rule.understands(layer, args, kwargs)
        if not (understood and rule.takes_open):
            args, kwargs = keras.tree.map_structure(emitted, (args, kwargs))
        with tf.name_scope(re.sub(r"[^\w./-]|^[^a-zA-Z0-9]", "_", name)):
            return (
                rule.lower(self, layer, name, args[0])
                if understood
                else self._as_it_is(layer, name, args, kwargs)
            )

    def _as_it_is(self, layer, name, args, kwargs):
        if not isinstance(layer, layers.Layer):  # an operation of keras.ops
            return layer(*args, **kwargs)
        if "training" in inspect.signature(layer.call).parameters:
            kwargs = kwargs | {"training": False}
        return self.store.call(layer, name, args, kwargs)


class _Inference(layers.Layer):
    """Calls a function as `predict` calls a model: no layer in it is in training, not even by default."""

    def __init__(self, function):
        super().__init__(name="inference", dtype="float32", autocast=False)
        self._function = function

    def call(self, images, training=False):
        return self._function(images)


def is_graph(layer) -> bool:
    """Whether a layer is a Functional or Sequential model that computes its graph and nothing else."""
    return (
        isinstance(layer, keras.Model)
        and isinstance(layer, keras.Sequential | keras.Function)
        and type(layer).call.__module__.startswith("keras.")
        and not own_methods(layer)
        and bool(layer.inputs)
    )


def _are_inputs_of(model, args, kwargs):
    """Whether a nested model is called with just what its graph takes."""
    if not takes_inputs_only(args, kwargs):
        return False
    # Keras goes by the names of a dictionary, and drops or adds a last axis of one.
    ranks = [len(tensor_of(x).shape) for x in keras.tree.flatten(args[0])]
    return not isinstance(args[0], dict) and ranks == [len(t.shape) for t in model.inputs]


def _as_input(tensor, x):
    """What Keras makes of an input; floating-point dtypes are ours to choose."""
    return x if tf.as_dtype(tensor.dtype).is_floating else tf.cast(x, tensor.dtype)
