"""The layers that are computed in another way than their own, and when they are understood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_resnet.copying import own_methods
from keras_resnet.inference.convolutions import Convolved, Padded, emitted, tensor_of, with_bias_add
from keras_resnet.layers import DropBlock, StandardizedConv2D


@dataclass(frozen=True)
class Rule:
    """How the layers of one class, and not of its subclasses, are computed.

    Attributes:
        lower: From ``(lowering, layer, name, inputs)`` to outputs.
        weights: Names of all weights that such a layer can have. One with any other weight, of
            LoRA or `quantize` for example, has become another kind of layer.
        rank: Of the input; 0 for any.
        takes_open: Whether `lower` takes values that are still to be computed.
        when: Further conditions, from a layer.
    """

    lower: Callable
    weights: tuple[str, ...] = ()
    rank: int = 0
    takes_open: bool = False
    when: Callable = lambda layer: True

    def understands(self, layer, args, kwargs) -> bool:
        """Whether `lower` computes what this layer would, called on these arguments."""
        if not takes_inputs_only(args, kwargs) or own_methods(layer):
            return False
        tensors = [tensor_of(x) for x in keras.tree.flatten(args[0])]
        ranks = {len(x.shape) for x in tensors}
        expected = [getattr(layer, name) for name in self.weights if getattr(layer, name, None) is not None]
        return (
            len(ranks) == 1
            and ranks <= {self.rank or max(ranks)}
            and all(x.dtype.is_floating and getattr(x, "_keras_mask", None) is None for x in tensors)
            and set(map(id, expected)) == set(map(id, layer.variables))
            and all(tf.as_dtype(v.dtype).is_floating for v in expected)
            and getattr(layer, "data_format", "channels_last") == "channels_last"
            and getattr(layer, "axis", -1) in (-1, max(ranks) - 1)
            and self.when(layer)
        )


def takes_inputs_only(args, kwargs) -> bool:
    """Whether a call passes inputs and nothing that could change what is computed in inference."""
    return len(args) == 1 and all(key == "training" or value is None for key, value in kwargs.items())


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
    return _relu_of(x)


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


_CONVOLUTION = ("kernel", "bias")
RULES = {
    layers.Conv2D: Rule(_conv, _CONVOLUTION, 4, takes_open=True),
    StandardizedConv2D: Rule(_conv, _CONVOLUTION, 4, takes_open=True),
    layers.Conv1D: Rule(
        _conv1d, _CONVOLUTION, 3, when=lambda layer: layer.padding != "causal" and layer.groups == 1
    ),
    layers.Dense: Rule(_dense, ("kernel", "bias")),
    layers.BatchNormalization: Rule(
        _batch_norm, ("gamma", "beta", "moving_mean", "moving_variance"), takes_open=True
    ),
    layers.GroupNormalization: Rule(_group_norm, ("gamma", "beta"), 4),
    layers.ZeroPadding2D: Rule(_zero_padding, rank=4, takes_open=True),
    layers.ReLU: Rule(
        _relu, takes_open=True,
        when=lambda layer: layer.max_value is None and not layer.negative_slope and not layer.threshold,
    ),
    layers.Activation: Rule(_activation, takes_open=True),
    layers.Add: Rule(_add),
    layers.Multiply: Rule(_multiply),
    layers.GlobalAveragePooling2D: Rule(_global_average, rank=4),
    layers.Dropout: Rule(_nothing, takes_open=True),
    DropBlock: Rule(_nothing, takes_open=True),
}  # fmt: skip
