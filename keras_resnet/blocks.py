"""Residual blocks as functions on tensors: a block is a shortcut plus a branch.

Every function takes a tensor of shape ``(batch, height, width, channels)``, the row of the
table that says how the network is built, and the name under which its layers appear. Only
stock Keras layers are used.
"""

from __future__ import annotations

from keras import initializers, layers

from keras_resnet.kernels import use_native_grouped_kernel
from keras_resnet.variants import Variant


def identity_block(x, filters: int, variant: Variant, *, name: str, stride: int = 1, drop_path: float = 0.0):
    """A block whose shortcut is its input (arXiv:1512.03385, equation 1).

    Args:
        x: Tensor of ``variant.out_channels(filters)`` channels.
        filters: Filters of the stage.
        variant: How the network is built.
        name: Prefix of the layers' names.
        stride: Above 1, the shortcut keeps every `stride`-th pixel.
        drop_path: Probability of leaving the branch out for an image in training
            (stochastic depth, arXiv:1603.09382).

    Returns:
        Tensor of the same number of channels.
    """
    preact = norm_act(x, variant, f"{name}_preact") if variant.preactivation else x
    shortcut = subsample(x, stride, name=f"{name}_pool")
    return _join(shortcut, preact, filters, stride, variant, drop_path, name)


def projection_block(
    x, filters: int, variant: Variant, *, name: str, stride: int = 1, drop_path: float = 0.0
):
    """A block whose shortcut is projected to the branch's shape (arXiv:1512.03385, equation 2).

    With preactivation the projection reads the activated input (arXiv:1603.05027). The
    arguments are those of `identity_block`; `x` may have any number of channels.
    """
    preact = norm_act(x, variant, f"{name}_preact") if variant.preactivation else x
    project = SHORTCUTS[variant.shortcut]
    shortcut = project(preact, variant.out_channels(filters), stride, variant, f"{name}_proj")
    return _join(shortcut, preact, filters, stride, variant, drop_path, name)


def stage(x, reps: int, filters: int, variant: Variant, *, name: str, stride: int = 2, drop_paths=None):
    """`reps` blocks; the one that `variant.stride_block` names strides.

    A block projects where the channels change, or where the first block of a stage strides.
    """
    drop_paths = drop_paths or [0.0] * reps
    strides = [1] * reps
    strides[0 if variant.stride_block == "first" else -1] = stride
    for i, (s, drop_path) in enumerate(zip(strides, drop_paths, strict=True)):
        projects = x.shape[-1] != variant.out_channels(filters) or (s > 1 and variant.stride_block == "first")
        block = projection_block if projects else identity_block
        x = block(x, filters, variant, name=f"{name}_block{i + 1}", stride=s, drop_path=drop_path)
    return x


def _join(shortcut, x, filters, stride, variant, drop_path, name):
    """The branch, added to the shortcut."""
    x = BRANCHES[variant.block](x, filters, stride, variant, name)
    if drop_path:
        x = layers.Dropout(drop_path, noise_shape=(None, 1, 1, 1), name=f"{name}_drop_path")(x)
    if variant.preactivation:
        return layers.Add(name=f"{name}_out")([shortcut, x])
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_out")(x)


# Branches. They end in a normalisation, unless the next block begins with one.


def _basic_branch(x, filters, stride, variant, name):
    x = conv(x, filters, 3, variant, stride=stride, name=f"{name}_conv1")
    x = norm_act(x, variant, name, 1)
    x = conv(x, filters, 3, variant, normalized=not variant.preactivation, name=f"{name}_conv2")
    return last_norm(x, variant, name=f"{name}_bn2")


def _bottleneck_branch(x, filters, stride, variant, name):
    width, channels = variant.width(filters), variant.out_channels(filters)
    stride1, stride2 = (stride, 1) if variant.stride_conv == "conv1" else (1, stride)
    x = conv(x, width, 1, variant, stride=stride1, name=f"{name}_conv1")
    x = norm_act(x, variant, name, 1)
    x = conv(x, width, 3, variant, stride=stride2, groups=variant.cardinality, name=f"{name}_conv2")
    x = norm_act(x, variant, name, 2)
    x = conv(x, channels, 1, variant, normalized=not variant.preactivation, name=f"{name}_conv3")
    return last_norm(x, variant, name=f"{name}_bn3")


BRANCHES = {"basic": _basic_branch, "bottleneck": _bottleneck_branch}


# Projections.


def _conv_norm_shortcut(x, channels, stride, variant, name):
    x = conv(x, channels, 1, variant, stride=stride, name=f"{name}_conv")
    return norm(x, variant, name=f"{name}_bn")


def _conv_shortcut(x, channels, stride, variant, name):
    return conv(x, channels, 1, variant, stride=stride, normalized=False, name=f"{name}_conv")


def _pad_shortcut(x, channels, stride, variant, name):
    x = subsample(x, stride, name=f"{name}_pool")
    missing = channels - x.shape[-1]
    if missing == 0:
        return x
    # Padding what channels-first calls the width pads our channels.
    pad = ((0, 0), (missing // 2, missing - missing // 2))
    return layers.ZeroPadding2D(pad, data_format="channels_first", name=f"{name}_pad")(x)


SHORTCUTS = {"conv_norm": _conv_norm_shortcut, "conv": _conv_shortcut, "pad": _pad_shortcut}


# Parts.


def conv(x, filters, kernel_size, variant, *, stride=1, groups=1, normalized=True, name):
    """A convolution padded by ``kernel_size // 2`` on every side, as torch pads.

    At stride 2 Keras's "same" pads even sizes on one side only, which no torch weight fits:
    there the padding is a layer of its own.
    """
    padding = "same"
    if stride > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    use_bias = variant.conv_bias == "all" or (variant.conv_bias == "unnormalized" and not normalized)
    layer = layers.Conv2D(
        filters, kernel_size, stride, padding, groups=groups, use_bias=use_bias,
        kernel_initializer=_kernel_initializer(variant), name=name,
    )  # fmt: skip
    if groups > 1:
        use_native_grouped_kernel(layer)
    return layer(x)


def norm(x, variant, *, zero_init=False, name):
    """Batch normalization (arXiv:1502.03167) over the channels."""
    return layers.BatchNormalization(
        momentum=variant.norm_momentum, epsilon=variant.norm_epsilon,
        gamma_initializer="zeros" if zero_init else "ones", name=name,
    )(x)  # fmt: skip


def last_norm(x, variant, *, name):
    """The normalisation that ends a branch; with preactivation there is none."""
    return x if variant.preactivation else norm(x, variant, zero_init=variant.zero_init_last, name=name)


def norm_act(x, variant, name, number=""):
    """Normalisation, then ReLU."""
    x = norm(x, variant, name=f"{name}_bn{number}")
    return layers.ReLU(name=f"{name}_relu{number}")(x)


def subsample(x, stride, *, name):
    """Every `stride`-th pixel."""
    return x if stride == 1 else layers.MaxPooling2D(1, stride, name=name)(x)


def max_pool(x, variant, *, name):
    """3x3 max pooling of stride 2, padded by one on every side as `variant.stem_pool` says."""
    if variant.stem_pool == "max_zero":
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        return layers.MaxPooling2D(3, 2, name=name)(x)
    # Minus infinity on both sides: stride 1 pads evenly, and every second value of it is
    # what stride 2 would have given. Keras has no layer that pads with minus infinity.
    x = layers.MaxPooling2D(3, 1, "same", name=f"{name}_dense")(x)
    return subsample(x, 2, name=name)


def _kernel_initializer(variant):
    if variant.kernel_initializer == "he_fan_out":
        # A new object for each layer: one object repeats its values.
        return initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    return variant.kernel_initializer
