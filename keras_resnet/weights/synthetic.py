"""Weights that anyone can make again: a tensor of random numbers is a function of its name."""

from __future__ import annotations

import hashlib
import math

import numpy as np

_NORM_WEIGHTS = ("gamma", "running_var", "moving_variance")


def synthetic_tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers that depend on `key` and `shape` only, float32, uniformly distributed.

    The numbers are the upper 24 bits of what PCG64, seeded with the SHA-256 of `key` (UTF-8, as
    one big-endian integer), puts out. They are the same on every machine and with every release
    of numpy, which may change what its distributions draw but not its bit generators.

    Kernels (two or more axes) are within ``sqrt(3 / fan_in)``: their variance is
    ``1 / fan_in``, so that the branches of a residual network, whose normalisations have
    statistics of about one here, add to the shortcut but never outgrow it in hundreds of
    blocks. Of the vectors, gammas and running variances are within [0.75, 1.25]; biases,
    betas and running means are within [-0.25, 0.25]. The gammas before the last convolution of a
    preactivation bottleneck (timm's ``norm3``) are a quarter of that: standardised filters have
    a variance of one, and hundreds of branches as strong as the shortcut amplify rounding.

    Args:
        key: The name of the tensor in its library, such as ``"layer1.0.conv1.weight"`` or
            ``"conv1_conv/kernel"``. Its last word tells what the tensor is; a ``kernel`` has
            its filters on the last axis, as in Keras, and others on the first, as in torch.
        shape: The shape of the tensor in that library.
    """
    bits = np.random.PCG64(int.from_bytes(hashlib.sha256(key.encode()).digest()))
    raw = bits.random_raw(math.prod(shape)) >> np.uint64(40)
    unit = raw.astype(np.float32).reshape(shape) * np.float32(2**-23) - np.float32(1)
    word = key.replace("/", ".").rpartition(".")[2]
    if len(shape) > 1:
        fan_in = math.prod(shape[:-1] if word == "kernel" else shape[1:])
        return unit * np.float32(math.sqrt(3 / fan_in))
    if word in _NORM_WEIGHTS or word == "weight":
        return (1 + unit * np.float32(0.25)) * np.float32(0.25 if key.endswith("norm3.weight") else 1)
    return unit * np.float32(0.25)
