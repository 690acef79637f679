"""Residual blocks as functions on tensors: a block is a shortcut plus a branch.

Every function takes a tensor of shape ``(batch, height, width, channels)``, the row of the
table that says how the network is built, and the name under which its layers appear. Only
stock Keras layers are used.
"""

from __future__ import annotations

from keras import layers

from keras_resnet.parts import ATTENTIONS, DOWNSAMPLES, conv, conv_norm_act, norm, norm_act, subsample
from keras_resnet.variant import Variant


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


def stage(x, number: int, variant: Variant, *, stride: int = 2, drop_paths=None):
    """The blocks of stage `number`, one-based; the one that `variant.stride_block` names strides.

    A block projects where the channels change, or where the first block of a stage strides.
    """
    reps, filters = variant.stages[number - 1]
    drop_paths = drop_paths or [0.0] * reps
    strides = [1] * reps
    strides[0 if variant.stride_block == "first" else -1] = stride
    for i, (s, drop_path) in enumerate(zip(strides, drop_paths, strict=True), start=1):
        row = variant.block_row(number, i)
        projects = x.shape[-1] != row.out_channels(filters) or (s > 1 and row.stride_block == "first")
        block = projection_block if projects else identity_block
        x = block(x, filters, row, name=f"stage{number}_block{i}", stride=s, drop_path=drop_path)
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
    first = filters // variant.reduce_first
    x = DOWNSAMPLES[variant.downsample](x, first, 3, stride, 1, variant, name, 1)
    x = conv(x, filters, 3, variant, normalized=not variant.preactivation, name=f"{name}_conv2")
    return _end_of_branch(x, filters, variant, name, 2)


def _bottleneck_branch(x, filters, stride, variant, name):
    first, second, channels = variant.channels(filters)
    stride1, stride2 = (stride, 1) if variant.stride_conv == "conv1" else (1, stride)
    x = conv_norm_act(x, first, 1, stride1, 1, variant, name, 1)
    x = DOWNSAMPLES[variant.downsample](x, second, 3, stride2, variant.cardinality, variant, name, 2)
    x = conv(x, channels, 1, variant, normalized=not variant.preactivation, name=f"{name}_conv3")
    return _end_of_branch(x, filters, variant, name, 3)


BRANCHES = {"basic": _basic_branch, "bottleneck": _bottleneck_branch}


def _end_of_branch(x, filters, variant, name, number):
    if not variant.preactivation:
        x = norm(x, variant, name, number, zero_init=variant.zero_init_last)
    return ATTENTIONS[variant.attention](x, filters, variant, f"{name}_{variant.attention}")


# Projections.


def _conv_norm_shortcut(x, channels, stride, variant, name):
    x = conv(x, channels, 1, variant, stride=stride, name=f"{name}_conv")
    return norm(x, variant, name)


def _conv3_norm_shortcut(x, channels, stride, variant, name):
    x = conv(x, channels, 1 if stride == 1 else 3, variant, stride=stride, name=f"{name}_conv")
    return norm(x, variant, name)


def _conv_shortcut(x, channels, stride, variant, name):
    return conv(x, channels, 1, variant, stride=stride, normalized=False, name=f"{name}_conv")


def _pool_conv_norm_shortcut(x, channels, stride, variant, name):
    return _conv_norm_shortcut(_average(x, stride, f"{name}_avg"), channels, 1, variant, name)


def _pool_conv_shortcut(x, channels, stride, variant, name):
    return _conv_shortcut(_average(x, stride, f"{name}_avg"), channels, 1, variant, name)


def _average(x, stride, name):
    # "same" averages what is there at an odd border, as torch does with ceil_mode.
    return x if stride == 1 else layers.AveragePooling2D(2, stride, "same", name=name)(x)


def _pad_shortcut(x, channels, stride, variant, name):
    x = subsample(x, stride, name=f"{name}_pool")
    missing = channels - x.shape[-1]
    if missing == 0:
        return x
    # Padding what channels-first calls the width pads our channels.
    pad = ((0, 0), (missing // 2, missing - missing // 2))
    return layers.ZeroPadding2D(pad, data_format="channels_first", name=f"{name}_pad")(x)


SHORTCUTS = {
    "conv_norm": _conv_norm_shortcut,
    "conv3_norm": _conv3_norm_shortcut,
    "conv": _conv_shortcut,
    "pool_conv_norm": _pool_conv_norm_shortcut,
    "pool_conv": _pool_conv_shortcut,
    "pad": _pad_shortcut,
}
