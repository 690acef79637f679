"""The network that is exported: float32, without what only training or Keras needs."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.copying import copy_layer, copy_model, is_stock, parts_of
from keras_resnet.graphs import deep_graphs, functional_model
from keras_resnet.layers import StandardizedConv2D
from keras_resnet.output_kind import output_kind
from keras_resnet.preprocessing import find_front
from keras_resnet.tails import output_of, units


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
        # Not of the model itself: Keras would note the new input in the layers of its owner.
        clone = copy_model(functional_model(model.inputs[0], output_of(model), name=model.name), _for_export)
        clone = functional_model(prepared_input(clone), clone.output, name=model.name)
    return _with_probabilities(clone, output_kind(model, outputs))


def prepared_input(model: keras.Model):
    """The Keras tensor of the prepared pixels: the model's input, behind a resize and crop if it has them."""
    front = find_front(model)
    return model.inputs[0] if front is None else front.output


def from_prepared(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from a batch of prepared pixels to what the model itself computes of them.

    It is traced anew, for any batch: what `predict` traced before does not know of LoRA that came later,
    and Keras 3.15 adds a number for each image, ``(n, 1, 1, 1)``, as a bias to features of n channels.
    """
    start = prepared_input(model)
    run = model if start is model.inputs[0] else AsItIs(keras.Function(start, output_of(model)))
    spec = tf.TensorSpec(start.shape, start.dtype)
    step = tf.function(lambda pixels: run(pixels, training=False), [spec])
    return lambda pixels: np.asarray(step(tf.cast(pixels, spec.dtype)))


def lowest_precision(model: keras.Model) -> str:
    """The coarsest dtype in which a layer computes: "float32", "float16" or "bfloat16"."""
    found = {part.compute_dtype for part in parts_of(model)}
    return next((dtype for dtype in ("bfloat16", "float16") if dtype in found), "float32")


class AsItIs(keras.layers.Layer):
    """Computes what another layer computes, which stays as it is."""

    def __init__(self, layer, **kwargs):
        super().__init__(name=layer.name, autocast=False, **kwargs)
        self.layer = layer
        self.built = True

    def call(self, *args, training=False, **kwargs):
        """Call the layer."""
        if "training" in inspect.signature(self.layer.call).parameters:
            kwargs["training"] = training
        return self.layer(*args, **kwargs)


def _for_export(layer):
    """The layer, or what takes its place, in float32."""
    if not isinstance(layer, keras.layers.Layer):
        return copy_layer(layer)
    if not is_stock(layer) and layer.compute_dtype == "float32":
        return AsItIs(layer, dtype="float32")
    new = copy_layer(layer, "float32")
    if type(layer) is StandardizedConv2D:
        new = _standardized(new)
    if type(new) is keras.layers.Conv2D and new.groups > 1 and new.data_format == "channels_last":
        new.convolution_op = types.MethodType(_grouped_convolution, new)
    return new


def _standardized(layer):
    """A plain convolution by the filters that this one computes."""
    new = keras.layers.Conv2D.from_config(layer.get_config() | {"lora_rank": None})
    new.build_from_config(layer.get_build_config())
    new.kernel.assign(_standardize(keras.ops.convert_to_numpy(layer.kernel)))
    if layer.use_bias:
        new.bias.assign(layer.bias)
    return new


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
