"""A Keras model as the TensorFlow operations that compute it fastest, for inference only.

Batch normalisation goes into the convolution before it; filters are standardised and folded
once, in float64; zero padding goes into the convolution after it. Weights are constants.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_resnet.graphs import deep_graphs
from keras_resnet.inference.convolutions import Convolved, Padded, emitted, with_bias_add
from keras_resnet.layers import DropBlock, StandardizedConv2D

# A graph of constants is one protocol buffer, which ends at two GB.
MAX_CONSTANTS = 2_000_000_000


class Store(tf.Module):
    """What the operations of one model hold, as tensors.

    Attributes:
        dtype: In which convolutions compute.
        big: Weights that are no constants, because all together would make the graph too large.
        kept: Copies of layers that are computed as they are.
    """

    def __init__(self, model: keras.Model, dtype: str):
        super().__init__(name="store")
        self.dtype = tf.as_dtype(dtype)
        self.big: dict[str, tf.Variable] = {}
        self.kept: dict[str, layers.Layer] = {}
        size = sum(int(np.prod(v.shape)) for v in model.weights) * self.dtype.size
        self._fits_graph = size < MAX_CONSTANTS

    def constant(self, name: str, values: np.ndarray, dtype=None) -> tf.Tensor:
        """The weights `values` as a tensor, by default in the dtype of the computation."""
        # Converted here: TensorFlow would do it again at each call for more than 100 kB.
        values = values.astype((dtype or self.dtype).as_numpy_dtype)
        if self._fits_graph:
            return tf.constant(values)
        if name not in self.big:
            with tf.init_scope():
                self.big[name] = tf.Variable(values, trainable=False)
        return tf.convert_to_tensor(self.big[name])

    def copy_of(self, layer, name: str, dtype: str) -> layers.Layer:
        """The layer, whatever its dtype policy was, computing in `dtype`."""
        key = f"{name} {dtype}"
        if key not in self.kept:
            with tf.init_scope():
                copy = type(layer).from_config(layer.get_config() | {"dtype": dtype})
                if layer.weights:
                    copy.build(layer.input.shape)
                    copy.set_weights(layer.get_weights())
            self.kept[key] = copy
        return self.kept[key]


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
            outputs = self._run(self.model, tf.cast(images, tf.float32), "")
        return keras.tree.map_structure(lambda y: tf.cast(emitted(y), tf.float32), outputs)

    def _run(self, model, x, prefix):
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                x = self._lower(layer, prefix, True, x)
            return x
        # How often each tensor of the graph is read: only what one layer reads can be left open.
        reads = Counter(
            id(t) for nodes in model._nodes_by_depth.values() for n in nodes for t in n.input_tensors
        )
        reads.update(map(id, model.outputs))

        def call(layer, *args, **kwargs):
            # A layer that is called more than once has no `output`.
            once = len(layer._inbound_nodes) == 1 and reads[id(layer.output)] == 1
            return self._lower(layer, prefix, once, *args, **kwargs)

        return model._run_through_graph([x], call_fn=call)

    def _lower(self, layer, prefix, once, *args, **kwargs):
        name = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model):
            return self._run(layer, emitted(args[0]), f"{name}/")
        lower = LOWERINGS.get(type(layer), _as_it_is) if _is_channels_last(layer) else _as_it_is
        if lower not in OPEN:
            args, kwargs = keras.tree.map_structure(emitted, (args, kwargs))
        with tf.name_scope(re.sub(r"[^\w./-]|^[^a-zA-Z0-9]", "_", name)):
            # Masks and the like are for layers that are computed as they are.
            y = lower(self, layer, name, *args, **kwargs if lower is _as_it_is else {})
            return y if once else emitted(y)


def _is_channels_last(layer):
    return getattr(layer, "data_format", "channels_last") == "channels_last" and getattr(
        layer, "axis", -1
    ) in (-1, 3)


def _weights(layer, *names):
    """Weights of a layer as float64, ``None`` for those that it does not have."""
    values = [getattr(layer, name, None) for name in names]
    with tf.init_scope():  # out of the graph that is being traced
        return [None if v is None else keras.ops.convert_to_numpy(v).astype(np.float64) for v in values]


def _activated(layer, y):
    if layer.activation is keras.activations.linear:
        return y
    if layer.activation is keras.activations.relu:
        return _relu_of(y)
    return layer.activation(emitted(y))


def _relu_of(y):
    return replace(y, relu=True) if isinstance(y, Convolved) else tf.nn.relu(emitted(y))


def _conv(lowering, layer, name, x):
    kernel, bias = _weights(layer, "kernel", "bias")
    if isinstance(layer, StandardizedConv2D):
        mean, variance = (f(kernel, axis=(0, 1, 2), keepdims=True) for f in (np.mean, np.var))
        kernel = (kernel - mean) / np.sqrt(variance + 1e-8)
    padding = layer.padding.upper()
    if isinstance(x, Padded) and padding == "VALID":
        x, padding = x.tensor, x.pairs
    y = Convolved(
        tf.cast(emitted(x), lowering.store.dtype), kernel, bias, False,
        lambda x, k: tf.nn.conv2d(x, k, layer.strides, padding, dilations=layer.dilation_rate),
        lambda what, values: lowering.store.constant(f"{name}/{what}", values),
        with_bias_add if layer.groups == 1 else lowering.grouped,
    )  # fmt: skip
    return _activated(layer, y)


def _conv1d(lowering, layer, name, x):
    if layer.padding == "causal" or layer.groups > 1:
        return _as_it_is(lowering, layer, name, x)
    kernel, bias = _weights(layer, "kernel", "bias")
    x = tf.cast(x, lowering.store.dtype)
    kernel = lowering.store.constant(f"{name}/kernel", kernel)
    y = tf.nn.conv1d(x, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)
    if bias is not None:
        y = tf.nn.bias_add(y, lowering.store.constant(f"{name}/bias", bias))
    return _activated(layer, y)


def _dense(lowering, layer, name, x):
    kernel, bias = _weights(layer, "kernel", "bias")
    y = tf.cast(x, tf.float32) @ lowering.store.constant(f"{name}/kernel", kernel, tf.float32)
    if bias is not None:
        y = tf.nn.bias_add(y, lowering.store.constant(f"{name}/bias", bias, tf.float32))
    return _activated(layer, y)


def _batch_norm(lowering, layer, name, x):
    gamma, beta, mean, variance = _weights(layer, "gamma", "beta", "moving_mean", "moving_variance")
    scale = (1 if gamma is None else gamma) / np.sqrt(variance + layer.epsilon)
    offset = (0 if beta is None else beta) - mean * scale
    if isinstance(x, Convolved) and not x.relu:
        return x.scaled(scale, offset)
    x = emitted(x)
    scale, offset = (
        lowering.store.constant(f"{name}/{what}", values, x.dtype)
        for what, values in (("scale", scale), ("offset", offset))
    )
    return x * scale + offset


def _group_norm(lowering, layer, name, x):
    gamma, beta = _weights(layer, "gamma", "beta")
    shape, channels = tf.shape(x), x.shape[-1]
    size = channels // layer.groups
    groups = tf.reshape(tf.cast(x, tf.float32), [shape[0], shape[1] * shape[2], layer.groups, size])
    mean, variance = tf.nn.moments(groups, [1, 3], keepdims=True)
    scale = tf.math.rsqrt(variance + layer.epsilon)
    if gamma is not None:
        scale *= lowering.store.constant(f"{name}/gamma", gamma.reshape(1, 1, layer.groups, size), tf.float32)
    offset = -mean * scale
    if beta is not None:
        offset += lowering.store.constant(f"{name}/beta", beta.reshape(1, 1, layer.groups, size), tf.float32)
    scale, offset = (
        tf.reshape(tf.broadcast_to(v, [shape[0], 1, layer.groups, size]), [-1, 1, 1, channels])
        for v in (scale, offset)
    )
    return x * tf.cast(scale, x.dtype) + tf.cast(offset, x.dtype)


def _zero_padding(lowering, layer, name, x):
    return Padded(emitted(x), layer.padding)


def _relu(lowering, layer, name, x):
    if layer.max_value is None and not layer.negative_slope and not layer.threshold:
        return _relu_of(x)
    return _as_it_is(lowering, layer, name, emitted(x))


def _activation(lowering, layer, name, x):
    return _activated(layer, x)


def _add(lowering, layer, name, xs):
    first, *others = xs
    for x in others:
        first = first + tf.cast(x, first.dtype)
    return first


def _multiply(lowering, layer, name, xs):
    first, *others = xs
    for x in others:
        first = first * tf.cast(x, first.dtype)
    return first


def _global_average(lowering, layer, name, x):
    return tf.reduce_mean(tf.cast(x, tf.float32), [1, 2], keepdims=layer.keepdims)


def _nothing(lowering, layer, name, x):
    return x


def _as_it_is(lowering, layer, name, *args, **kwargs):
    """What the layer itself computes, in float32 if it has weights and else in the dtype of its input."""
    if not isinstance(layer, layers.Layer):  # an operation of keras.ops
        return layer(*args, **kwargs)
    first = keras.tree.flatten(args)[0]
    copy = lowering.store.copy_of(layer, name, "float32" if layer.weights else first.dtype.name)
    if "training" in inspect.signature(layer.call).parameters:
        kwargs["training"] = False  # without it, layers that augment do
    return copy(*args, **kwargs)


LOWERINGS = {
    layers.Conv2D: _conv,
    StandardizedConv2D: _conv,
    layers.Conv1D: _conv1d,
    layers.Dense: _dense,
    layers.BatchNormalization: _batch_norm,
    layers.GroupNormalization: _group_norm,
    layers.ZeroPadding2D: _zero_padding,
    layers.ReLU: _relu,
    layers.Activation: _activation,
    layers.Add: _add,
    layers.Multiply: _multiply,
    layers.GlobalAveragePooling2D: _global_average,
    layers.Dropout: _nothing,
    DropBlock: _nothing,
}
# Those that take values that are still to be computed; the others take tensors.
OPEN = {_conv, _batch_norm, _zero_padding, _relu, _activation, _nothing}
