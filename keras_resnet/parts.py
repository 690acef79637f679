"""What blocks and stems are made of: convolutions, normalisations, poolings, attention.

Every function takes and returns a tensor of shape ``(batch, height, width, channels)``; `variant`
says how, and `name` is the prefix or the name of its layers.
"""

from __future__ import annotations

import math

from keras import initializers, layers

from keras_resnet.kernels import use_native_grouped_kernel
from keras_resnet.layers import DropBlock, ReflectionPadding2D, StandardizedConv2D
from keras_resnet.variant import EXPANSION


def conv(x, filters, kernel_size, variant, *, stride=1, groups=1, normalized=True, name):
    """A convolution padded by ``kernel_size // 2`` on every side, as torch pads.

    At stride 2 Keras's "same" pads even sizes on one side only, which no torch weight fits:
    there the padding is a layer of its own.
    """
    padding = "same"
    if stride > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    elif stride > 1 and x.shape[-1] < 16:
        # With fewer channels oneDNN's gradient of a strided 1x1 kernel writes past its memory
        # (uxlfoundation/oneDNN#6035), and the process dies. These are the same sums.
        x, stride = subsample(x, stride, name=f"{name}_subsample"), 1
    use_bias = variant.conv_bias == "all" or (variant.conv_bias == "unnormalized" and not normalized)
    kind = StandardizedConv2D if variant.standardize_weights else layers.Conv2D
    layer = kind(
        filters, kernel_size, stride, padding, groups=groups, use_bias=use_bias,
        kernel_initializer=_kernel_initializer(variant), name=name,
    )  # fmt: skip
    if groups > 1:
        use_native_grouped_kernel(layer)
    return layer(x)


def norm(x, variant, name, number="", *, zero_init=False):
    """Batch (arXiv:1502.03167) or group normalization (arXiv:1803.08494) over the channels."""
    gamma = "zeros" if zero_init else "ones"
    if variant.norm == "group":
        return layers.GroupNormalization(
            32, epsilon=variant.norm_epsilon, gamma_initializer=gamma, name=f"{name}_gn{number}"
        )(x)
    return layers.BatchNormalization(
        momentum=variant.norm_momentum, epsilon=variant.norm_epsilon, gamma_initializer=gamma,
        name=f"{name}_bn{number}",
    )(x)  # fmt: skip


def norm_act(x, variant, name, number=""):
    """Normalisation, then ReLU."""
    return layers.ReLU(name=f"{name}_relu{number}")(norm(x, variant, name, number))


def conv_norm_act(x, filters, kernel_size, stride, groups, variant, name, number):
    """A convolution of a branch with what follows it."""
    x = conv(x, filters, kernel_size, variant, stride=stride, groups=groups, name=f"{name}_conv{number}")
    return norm_act(x, variant, name, number)


# The same for the convolution of a branch that may stride, in three ways.


def _strided(x, filters, kernel_size, stride, groups, variant, name, number):
    x = conv(x, filters, kernel_size, variant, stride=stride, groups=groups, name=f"{name}_conv{number}")
    x = norm(x, variant, name, number)
    if variant.drop_block:
        x = DropBlock(*variant.drop_block, name=f"{name}_drop_block")(x)
    return layers.ReLU(name=f"{name}_relu{number}")(x)


def _blurred(x, filters, kernel_size, stride, groups, variant, name, number):
    x = _strided(x, filters, kernel_size, 1, groups, variant, name, number)
    return x if stride == 1 else blur_pool(x, name=f"{name}_blur")


def _averaged(x, filters, kernel_size, stride, groups, variant, name, number):
    x = _strided(x, filters, kernel_size, 1, groups, variant, name, number)
    return x if stride == 1 else layers.AveragePooling2D(2, 2, name=f"{name}_avg")(x)


DOWNSAMPLES = {"stride": _strided, "blur": _blurred, "avg": _averaged}


def subsample(x, stride, *, name):
    """Every `stride`-th pixel."""
    return x if stride == 1 else layers.MaxPooling2D(1, stride, name=name)(x)


def blur_pool(x, *, name):
    """Blur by [1, 2, 1] both ways and take every second pixel (arXiv:1904.11486)."""
    x = ReflectionPadding2D(1, name=f"{name}_pad")(x)
    # Averaging pairs twice is that blur.
    x = layers.AveragePooling2D(2, 1, name=f"{name}_pairs")(x)
    return layers.AveragePooling2D(2, 2, name=name)(x)


# What follows the stem: half the resolution.


def _max_zero_pool(x, variant, name):
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(3, 2, name=name)(x)


def _max_pool(x, variant, name):
    # Minus infinity on both sides: stride 1 pads evenly, and every second value of it is
    # what stride 2 would have given. Keras has no layer that pads with minus infinity.
    x = layers.MaxPooling2D(3, 1, "same", name=f"{name}_dense")(x)
    return subsample(x, 2, name=name)


def _blur_pool(x, variant, name):
    return blur_pool(layers.MaxPooling2D(3, 1, "same", name=f"{name}_dense")(x), name=name)


def _average_pool(x, variant, name):
    return layers.AveragePooling2D(2, 2, name=name)(x)


def _conv_pool(x, variant, name):
    return norm_act(conv(x, x.shape[-1], 3, variant, stride=2, name=f"{name}_conv"), variant, name)


POOLS = {
    "max_zero": _max_zero_pool,
    "max": _max_pool,
    "blur": _blur_pool,
    "avg": _average_pool,
    "conv": _conv_pool,
    None: lambda x, variant, name: x,
}


def _kernel_initializer(variant):
    if variant.kernel_initializer == "he_fan_out":
        # A new object for each layer: one object repeats its values.
        return initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    return variant.kernel_initializer


# Attention.


def squeeze_excite(x, filters, variant, name):
    """Scale each channel by what a small network makes of all channels' means (arXiv:1709.01507)."""
    channels = x.shape[-1]
    # Rounded to the nearest multiple of eight, at least eight, as timm does.
    squeezed = max(8, int(channels * variant.se_ratio + 4) // 8 * 8)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    gate = layers.Conv2D(squeezed, 1, activation="relu", name=f"{name}_conv1")(gate)
    gate = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}_conv2")(gate)
    return layers.Multiply(name=name)([x, gate])


def efficient_channel_attention(x, filters, variant, name):
    """Scale each channel by a convolution over neighbouring channels' means (arXiv:1910.03151)."""
    channels = x.shape[-1]
    # As wide as the block was before it was pruned.
    size = int((math.log2(filters * EXPANSION[variant.block]) + 1) / 2)
    gate = layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
    gate = layers.Reshape((channels, 1), name=f"{name}_line")(gate)
    gate = layers.Conv1D(
        1, max(size | 1, 3), padding="same", use_bias=False, activation="sigmoid", name=f"{name}_conv"
    )(gate)
    gate = layers.Reshape((1, 1, channels), name=f"{name}_gate")(gate)
    return layers.Multiply(name=name)([x, gate])


def _no_attention(x, filters, variant, name):
    return x


ATTENTIONS = {None: _no_attention, "se": squeeze_excite, "eca": efficient_channel_attention}
