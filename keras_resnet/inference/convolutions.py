"""Convolutions that are put off until it is known what can be done in the same step.

What follows a convolution may scale its filters, add to its bias or be its activation; what
precedes it may be its padding. TensorFlow's remapper computes a convolution, ``tf.nn.bias_add``
and an activation in one step. Keras adds a reshaped bias, which it does not recognise: a ResNet-50
in bfloat16 is three times slower by that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from keras_resnet.kernels import has_vendor_kernels

# Channels below which Eigen's convolutions lose time; see `in_parts`.
NARROW = 16


@dataclass(frozen=True)
class Padded:
    """A tensor that is still to be padded with zeros: ``((top, bottom), (left, right))``."""

    tensor: tf.Tensor
    padding: tuple

    @property
    def pairs(self) -> list[list[int]]:
        """The padding of every axis."""
        return [[0, 0], *map(list, self.padding), [0, 0]]

    def emit(self) -> tf.Tensor:
        """Pad it."""
        return tf.pad(self.tensor, self.pairs)


@dataclass(frozen=True)
class Convolved:
    """A convolution that is still to be computed.

    Attributes:
        tensor: What is convolved.
        kernel: Filters, ``(..., inputs of a group, outputs)``.
        bias: One number for each output, or ``None``.
        relu: Whether a ReLU follows.
        convolve: From a tensor and a kernel to a tensor.
        constant: From a name and an array to a tensor.
        compute: How: one of this module's functions from a `Convolved` to a tensor.
    """

    tensor: tf.Tensor
    kernel: np.ndarray
    bias: np.ndarray | None
    relu: bool
    convolve: Callable
    constant: Callable
    compute: Callable

    def scaled(self, scale, offset) -> Convolved:
        """The same followed by ``y * scale + offset``, for each channel."""
        bias = offset if self.bias is None else self.bias * scale + offset
        return replace(self, kernel=self.kernel * scale, bias=bias)

    def emit(self) -> tf.Tensor:
        """Compute it."""
        return self.compute(self)


def emitted(value):
    """The tensor of a value that may be still to be computed."""
    return value.emit() if isinstance(value, Padded | Convolved) else value


def tensor_of(value) -> tf.Tensor:
    """The tensor of a value; of one that is still to be computed, the tensor that it comes from."""
    return value.tensor if isinstance(value, Padded | Convolved) else value


def with_bias_add(c: Convolved) -> tf.Tensor:
    """In the form that is fused, wherever it has no groups; with groups, by oneDNN only.

    Eigen and cuDNN end in "Fused conv implementation does not support grouped convolutions".
    """
    y = c.convolve(c.tensor, c.constant("kernel", c.kernel))
    y = y if c.bias is None else tf.nn.bias_add(y, c.constant("bias", c.bias))
    return tf.nn.relu(y) if c.relu else y


def with_add(c: Convolved) -> tf.Tensor:
    """In a form that nothing fuses and every machine computes."""
    y = c.convolve(c.tensor, c.constant("kernel", c.kernel))
    y = y if c.bias is None else y + c.constant("bias", c.bias)
    return tf.nn.relu(y) if c.relu else y


def in_parts(c: Convolved) -> tf.Tensor:
    """A grouped convolution as several plain ones of at least `NARROW` channels each.

    A part of several groups has a block-diagonal kernel. Eigen takes 74 ms for 32 groups of four
    channels (8 x 56 x 56 x 128) in this way, 254 ms for one convolution for each group, and
    290 ms by its own grouped kernel; from 16 channels a group on, the second is the fastest.
    """
    channels, width = c.tensor.shape[-1], c.kernel.shape[-2]
    groups = channels // width
    together = max(n for n in range(1, groups + 1) if groups % n == 0 and (n == 1 or n * width <= NARROW))
    parts = groups // together
    biases = [None] * parts if c.bias is None else np.split(c.bias, parts)
    kernels = [_block_diagonal(k, together) for k in np.split(c.kernel, parts, axis=-1)]
    tensors = tf.split(c.tensor, parts, axis=-1)

    def part(i):
        def constant(name, values):
            return c.constant(f"{name}{i}", values)

        return with_bias_add(
            replace(c, tensor=tensors[i], kernel=kernels[i], bias=biases[i], constant=constant)
        )

    return tf.concat([part(i) for i in range(parts)], axis=-1)


@functools.cache
def fastest_with_groups() -> Callable[[Convolved], tf.Tensor]:
    """How this process best computes a grouped convolution."""
    if tf.config.list_physical_devices("GPU"):
        return with_add
    return with_bias_add if has_vendor_kernels() else in_parts  # oneDNN, or Eigen


def _block_diagonal(kernel, groups):
    *window, inputs, outputs = kernel.shape
    dense = np.zeros((*window, groups, inputs, groups, outputs // groups), kernel.dtype)
    blocks = kernel.reshape(*window, inputs, groups, outputs // groups)
    for g in range(groups):
        dense[..., g, :, g, :] = blocks[..., :, g, :]
    return dense.reshape(*window, groups * inputs, outputs)
