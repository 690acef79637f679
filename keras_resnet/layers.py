"""The few layers that Keras lacks. They are registered: models that hold one name it in their file.

Loading such a file needs ``import keras_resnet.layers`` first; every other model loads in
plain Keras.
"""

from __future__ import annotations

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("keras_resnet")
class ReflectionPadding2D(layers.Layer):
    """Pad height and width by `padding` pixels that mirror those next to the border."""

    def __init__(self, padding: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.padding = padding

    def call(self, inputs):
        """(batch, height, width, channels) -> (batch, height + 2 padding, width + 2 padding, channels)."""
        pad = (self.padding, self.padding)
        return ops.pad(inputs, ((0, 0), pad, pad, (0, 0)), mode="reflect")

    def get_config(self):
        """What `from_config` needs."""
        return super().get_config() | {"padding": self.padding}


@keras.saving.register_keras_serializable("keras_resnet")
class StandardizedConv2D(layers.Conv2D):
    """A convolution whose filters are standardised before use (arXiv:1903.10520, equation 3).

    Each filter is brought to zero mean and unit variance over its height, width and inputs,
    with 1e-8 added to the variance (arXiv:1912.11370).
    """

    def convolution_op(self, inputs, kernel):
        """Convolve with the standardised kernel."""
        kernel = ops.cast(kernel, "float32")
        mean, variance = ops.moments(kernel, axes=(0, 1, 2), keepdims=True)
        kernel = (kernel - mean) * ops.rsqrt(variance + 1e-8)
        return super().convolution_op(inputs, ops.cast(kernel, self.compute_dtype))


@keras.saving.register_keras_serializable("keras_resnet")
class DropBlock(layers.Layer):
    """Drop square regions in training (arXiv:1810.12890); the others are scaled up.

    Args:
        rate: Expected share of what is dropped, in [0, 1).
        block_size: Side of a region, in pixels; no larger than the feature map.
        gamma_scale: Multiplies the rate at which regions start.
    """

    def __init__(self, rate: float, block_size: int = 7, gamma_scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.block_size, self.gamma_scale = rate, block_size, gamma_scale
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs, training=False):
        """(batch, height, width, channels), unchanged but in training."""
        if not training or self.rate == 0:
            return inputs
        height, width = inputs.shape[1:3]
        side = min(self.block_size, height, width)
        starts = (height - side + 1) * (width - side + 1)
        gamma = self.gamma_scale * self.rate * height * width / side**2 / starts
        noise = keras.random.uniform(ops.shape(inputs), dtype="float32", seed=self.seed_generator)
        dropped = ops.max_pool(ops.cast(noise < gamma, "float32"), side, 1, "same", "channels_last")
        kept = 1 - dropped
        return inputs * ops.cast(kept / (ops.mean(kept) + 1e-7), inputs.dtype)

    def get_config(self):
        """What `from_config` needs."""
        options = {"rate": self.rate, "block_size": self.block_size, "gamma_scale": self.gamma_scale}
        return super().get_config() | options
