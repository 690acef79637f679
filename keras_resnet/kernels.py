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

from keras_resnet.processor import processor


def accelerate(model: keras.Model) -> keras.Model:
    """Give the layers of `model` TensorFlow's own kernels, in place, before it is compiled.

    Batch normalizations get the fused kernel in place of Keras's primitive operations, which
    takes a tenth to a fifth off a ResNet's training step on a CPU (`benchmarks/NOTES.md`) and
    takes 16-bit features as they are; grouped convolutions get TensorFlow's, where Keras goes through XLA.
    `train` does this first. A model that came from a file needs it again: a ``.keras`` file
    holds stock layers. Outputs, gradients and statistics stay stock Keras's within rounding.

    Args:
        model: Any Keras model. Nested models are visited too.

    Returns:
        The same model.
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            accelerate(layer)
        elif isinstance(layer, keras.layers.Conv2D):
            use_native_grouped_kernel(layer)
        elif isinstance(layer, keras.layers.BatchNormalization) and has_vendor_kernels():
            use_fused_normalization(layer)
    return model


def use_native_grouped_kernel(layer: keras.layers.Conv2D) -> None:
    """Replace XLA by TensorFlow's kernel in one grouped, channels-last ``Conv2D``.

    The builders do this by themselves: on a CPU, XLA takes 65 to 265 times as long to train.
    Layers that convolve in a way of their own are left as they are.
    """
    fits = (
        layer.groups > 1
        and layer.data_format == "channels_last"
        and type(layer).convolution_op is keras.layers.Conv2D.convolution_op
        and "convolution_op" not in vars(layer)
    )
    if keras.config.backend() == "tensorflow" and fits:
        layer.convolution_op = types.MethodType(_grouped_convolution, layer)


def use_fused_normalization(layer: keras.layers.BatchNormalization) -> None:
    """Replace primitive operations by TensorFlow's fused kernel in one batch normalization.

    Layers that the kernel does not fit are left as they are: another axis than the last of
    four, no gamma or beta, statistics over several devices, renormalization, subclasses, another
    `call` of their own.
    """
    fits = (
        type(layer) is keras.layers.BatchNormalization
        and layer.built
        and layer.input_spec.ndim == 4
        and layer.axis in (-1, 3)
        and layer.scale
        and layer.center
        and not layer.synchronized
        and not layer.renorm
        and "call" not in vars(layer)
    )
    if keras.config.backend() == "tensorflow" and fits:
        layer.call = types.MethodType(_fused_normalization, layer)


def _fused_normalization(layer, inputs, training=None, mask=None):
    import tensorflow as tf

    if mask is not None or layer.dtype_policy.variable_dtype != "float32":
        return type(layer).call(layer, inputs, training=training, mask=mask)
    # Half-precision policies hand over their own features; 64 bits have no such kernel.
    inputs = tf.cast(inputs, layer.compute_dtype)
    training = bool(training and layer.trainable)
    mean, variance = (v.value for v in (layer.moving_mean, layer.moving_variance))
    none = tf.constant([], tf.float32)
    outputs, batch_mean, batch_variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=layer.gamma.value, offset=layer.beta.value, epsilon=layer.epsilon,
        mean=none if training else mean, variance=none if training else variance, is_training=training,
    )  # fmt: skip
    if training:
        # The kernel estimates the variance of the population (n - 1); Keras keeps the batch's (n).
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
        batch_variance *= (count - 1) / count
        keep = layer.momentum
        layer.moving_mean.assign(mean * keep + batch_mean * (1 - keep))
        layer.moving_variance.assign(variance * keep + batch_variance * (1 - keep))
    return outputs


def _grouped_convolution(layer, inputs, kernel):
    import tensorflow as tf

    def convolve(x, k):
        return tf.nn.conv2d(x, k, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate)

    if has_vendor_kernels():
        return convolve(inputs, kernel)
    parts = zip(tf.split(inputs, layer.groups, axis=-1), tf.split(kernel, layer.groups, axis=-1), strict=True)
    return tf.concat([convolve(x, k) for x, k in parts], axis=-1)


@functools.cache
def has_vendor_kernels() -> bool:
    """Whether cuDNN or oneDNN computes in this process, found by what only they can do.

    TensorFlow leaves oneDNN off on CPUs other than Intel's, unless ``TF_ENABLE_ONEDNN_OPTS=1``
    was in the environment before its import. Its Eigen kernels cannot differentiate a grouped
    ``tf.nn.conv2d``: there one convolution for each group is the fastest exact way (33 ms
    forward and backward for 32 groups of a 14x14x1024 input, batch 8, where a block-diagonal
    dense kernel takes 1195 ms; two EPYC cores). Their fused batch normalization is no faster
    than Keras's.
    """
    if keras.config.backend() != "tensorflow":
        return False
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


@functools.cache
def computes_bfloat16() -> bool:
    """Whether bfloat16 is fast here: on a GPU, and on CPUs with AVX512-BF16 or AMX units.

    Others emulate it, many times slower than float32.
    """
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return True
    _, features = processor()
    return bool({"avx512_bf16", "amx_bf16"} & (features or set())) and has_vendor_kernels()
