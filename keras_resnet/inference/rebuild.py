"""The network that is exported: float32, without what only training or Keras needs."""

from __future__ import annotations

import types

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.graphs import deep_graphs, functional_model
from keras_resnet.layers import StandardizedConv2D
from keras_resnet.output_kind import output_kind
from keras_resnet.tails import units


def rebuild(model: keras.Model, outputs: str | None = None) -> keras.Model:
    """Build `model` anew in float32, with the same weights, as every format can take it.

    Whatever the policy was, layers compute in float32: onnxruntime and LiteRT refuse what
    mixed precision leaves in a graph. Grouped convolutions become TensorFlow's own node
    instead of a function that XLA must compile. Filters that are standardised at every call
    (Big Transfer) are standardised once. A resize and crop of `preprocess=True` in front are
    left out: the new model takes what comes out of them. Logits get a softmax, and of a single
    output come the probabilities of both classes.

    Args:
        model: A classifier of one image input.
        outputs: What it returns, if its graph does not tell; see `output_kind`.

    Returns:
        A Functional model from ``(batch, height, width, channels)`` to probabilities.
    """
    with deep_graphs():
        source = functional_model(prepared_input(model), model.output, name=model.name)
        clone = keras.models.clone_model(source, clone_function=_in_float32, recursive=True)
    clone.set_weights(source.get_weights())
    for old, new in zip(_leaves(source), _leaves(clone), strict=True):
        if isinstance(old, StandardizedConv2D):
            new.kernel.assign(_standardize(new.kernel.numpy()))
        if isinstance(new, keras.layers.Conv2D) and new.groups > 1:
            new.convolution_op = types.MethodType(_grouped_convolution, new)
    return _with_probabilities(clone, output_kind(model, outputs))


def prepared_input(model: keras.Model):
    """The Keras tensor of the prepared pixels: the model's input, behind a resize and crop if it has them."""
    x = model.input
    for layer in model.layers[1:3]:
        if not isinstance(layer, keras.layers.Resizing | keras.layers.Cropping2D):
            break
        x = layer.output
    return x


def is_float32(model: keras.Model) -> bool:
    """Whether every layer computes in float32."""
    return all(layer.compute_dtype == "float32" for layer in _leaves(model))


def _in_float32(layer):
    kind = keras.layers.Conv2D if isinstance(layer, StandardizedConv2D) else type(layer)
    return kind.from_config(layer.get_config() | {"dtype": "float32"})


def _leaves(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _standardize(kernel):
    """As `StandardizedConv2D` does it."""
    kernel = kernel.astype(np.float64)
    variance = kernel.var(axis=(0, 1, 2), keepdims=True)
    return ((kernel - kernel.mean(axis=(0, 1, 2), keepdims=True)) / np.sqrt(variance + 1e-8)).astype(
        np.float32
    )


def _grouped_convolution(layer, inputs, kernel):
    def convolve(x, k):
        return tf.nn.conv2d(x, k, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)

    if not layer.use_bias:
        return convolve(inputs, kernel)
    # Without oneDNN, TensorFlow fuses a grouped convolution with its bias and then refuses to run it.
    parts = zip(tf.split(inputs, layer.groups, axis=-1), tf.split(kernel, layer.groups, axis=-1), strict=True)
    return tf.concat([convolve(x, k) for x, k in parts], axis=-1)


def _with_probabilities(model, kind):
    """The model with what `to_probabilities` does, as layers."""
    x = model.output
    if units(model) == 1:
        # The softmax of these two is the sigmoid of x.
        both = [x / -2, x / 2] if kind == "logits" else [1 - x, x]
        x = keras.layers.Concatenate(dtype="float32", name="both_classes")(both)
    if kind == "logits":
        x = keras.layers.Softmax(dtype="float32", name="probabilities")(x)
    return model if x is model.output else functional_model(model.input, x, name=model.name)
