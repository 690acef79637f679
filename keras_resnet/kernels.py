"""Faster TensorFlow kernels for stock Keras layers, bound to the layer's instance.

A stock layer whose instance carries another method keeps its class, its configuration and
its saved file; only this process computes differently. On other backends than TensorFlow
nothing is changed. This is the one module below the wings that touches TensorFlow, and it
imports it only where the TensorFlow backend is in use.
"""

from __future__ import annotations

import functools
import types

import keras


def accelerate(model: keras.Model) -> keras.Model:
    """Give the grouped convolutions of `model` TensorFlow's own kernel, in place.

    The builders do this by themselves. A model that came from a file needs it: a
    ``.keras`` file holds stock layers, and a stock grouped convolution goes through XLA,
    which on a CPU takes 65 to 265 times as long to train.

    Args:
        model: any Keras model. Nested models are visited too.

    Returns:
        The same model.
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            accelerate(layer)
        elif isinstance(layer, keras.layers.Conv2D) and layer.groups > 1:
            use_native_grouped_kernel(layer)
    return model


def use_native_grouped_kernel(layer: keras.layers.Conv2D) -> None:
    """Replace XLA by TensorFlow's kernel in one grouped, channels-last ``Conv2D``."""
    if keras.config.backend() == "tensorflow" and layer.data_format == "channels_last":
        layer.convolution_op = types.MethodType(_grouped_convolution, layer)


def _grouped_convolution(layer, inputs, kernel):
    import tensorflow as tf

    def convolve(x, k):
        return tf.nn.conv2d(x, k, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)

    if _has_native_grouped_gradient():
        return convolve(inputs, kernel)
    parts = zip(tf.split(inputs, layer.groups, axis=-1), tf.split(kernel, layer.groups, axis=-1), strict=True)
    return tf.concat([convolve(x, k) for x, k in parts], axis=-1)


@functools.cache
def _has_native_grouped_gradient() -> bool:
    """Whether this process can differentiate a grouped ``tf.nn.conv2d``.

    cuDNN and oneDNN can. TensorFlow's Eigen kernels, in use on CPUs for which it leaves
    oneDNN off (AMD's, by default), cannot: there one convolution for each group is the
    fastest exact way (33 ms forward and backward for 32 groups of a 14x14x1024 input,
    batch 8, where a block-diagonal dense kernel takes 1195 ms; two EPYC cores).
    """
    import tensorflow as tf

    with tf.init_scope():  # outside of the graph that is being traced; it stops gradient tapes too
        x, kernel = tf.ones((1, 3, 3, 4)), tf.ones((3, 3, 2, 4))
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=x.shape, filter=kernel, out_backprop=x, strides=[1, 1, 1, 1], padding="SAME"
            )
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True
