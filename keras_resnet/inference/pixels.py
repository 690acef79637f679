"""Whether images are what a model takes: pixels of 0 to 255, or numbers that were normalized outside."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

_NORMALIZERS = (keras.layers.Rescaling, keras.layers.Normalization)
# Resizing with a bicubic or Lanczos filter overshoots the range of its pixels by up to this much.
_OVERSHOOT = 64


def takes_pixels(model: keras.Model) -> bool:
    """Whether a model normalizes its input itself, by a Rescaling or Normalization layer."""
    return any(isinstance(layer, _NORMALIZERS) for layer in _front(model))


def check_takes_pixels(model: keras.Model) -> None:
    """Raise ``ValueError`` for a model that does not take pixels of 0 to 255.

    Without a normalization of its own, they would go straight into its first convolution; with one for
    values of 0 to 1 they would be 255 times too large. The answer would be confident and wrong.
    """
    if not takes_pixels(model):
        raise ValueError(
            f"{model.name!r} does not normalise its input: it has no Rescaling or Normalization layer. "
            "Build it with normalization=(mean, std)."
        )
    gain = _gain(model)
    # Means in use are at most 255 apart, and no standard deviation of pixels is below 1.
    if gain > 1:
        raise ValueError(
            f"{model.name!r} does not take pixels of 0 to 255: its normalization multiplies them by "
            f"{gain:.3g}, as for values of 0 to 1. Put keras.layers.Rescaling(1 / 255) in front of it."
        )


def prepares_images(model: keras.Model) -> bool:
    """Whether a model takes images of any size and resizes them itself."""
    resizes = any(isinstance(layer, keras.layers.Resizing) for layer in _flat(model))
    return resizes and None in model.input_shape[1:3]


def _gain(model) -> float:
    """By how much the layers before the first weights multiply pixels, at most over the channels."""
    gain = np.ones(1)
    for layer in _front(model):
        if isinstance(layer, keras.layers.Rescaling):
            gain = gain * np.abs(np.asarray(layer.scale, np.float64))
        elif isinstance(layer, keras.layers.Normalization) and layer.variance is not None:
            deviation = np.maximum(np.sqrt(np.asarray(layer.variance, np.float64)), keras.config.epsilon())
            gain = gain * deviation if layer.invert else gain / deviation
    return float(gain.max())


def _front(model):
    """The layers before the first weights that are not those of a normalization of pixels."""
    for layer in _flat(model):
        if layer.weights and not isinstance(layer, keras.layers.Normalization):
            return
        yield layer


def _flat(model):
    """The layers in their order, nested models opened."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer


def check_images(images, input_shape, pixels: bool, name: str) -> None:
    """Raise ``ValueError`` for a batch that a model would answer wrongly, and without an error.

    Args:
        images: An array or an eager tensor.
        input_shape: ``(None, height, width, channels)``; height and width may be ``None``.
        pixels: Whether the model takes 0 to 255; else it takes what was normalised outside.
        name: What to call the model.
    """
    _check_shape(tuple(images.shape), input_shape, name)
    check_range(images, pixels, name)


def check_range(images, pixels: bool, name: str, *, dark: bool = False) -> float:
    """Raise ``ValueError`` for values that are not on the scale that a model takes.

    Args:
        images: An array or an eager tensor of any shape.
        pixels: Whether the model takes 0 to 255; else it takes what was normalized outside.
        name: What to call the model.
        dark: Accept floats that are all small: it is known that these images are on the scale of 0 to 255.

    Returns:
        The largest value; 255 for uint8.
    """
    dtype = tf.as_dtype(images.dtype)
    if not (dtype.is_floating or (dtype.is_integer and pixels)):
        wanted = "uint8 or float pixels of 0 to 255" if pixels else "floats normalised as in its training"
        hint = "" if pixels else "; build it with normalization=(mean, std) to give it pixels"
        raise ValueError(f"the images are {dtype.name}; {name!r} takes {wanted}{hint}.")
    if dtype == tf.uint8:
        return 255.0
    values = np.asarray(images)
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("the images hold values that are not finite.")
    kind = "floats" if dtype.is_floating else dtype.name
    found = f"the images are {kind} from {low:.3g} to {high:.3g}"
    if pixels:
        beyond = _OVERSHOOT if dtype.is_floating else 0
        # Whole numbers that small are a black image.
        small = dtype.is_floating and not dark and max(-low, high) <= 8 and (values != np.round(values)).any()
        if small or low < -beyond or high > 255 + beyond:
            raise ValueError(
                f"{found}; {name!r} takes pixels of 0 to 255 and normalises them itself"
                + (
                    ": multiply them by 255 if they are on the scale of 0 to 1."
                    if small and low >= 0
                    else "."
                )
            )
    # The widest range in use subtracts means of 104 or more from pixels: it ends at 152.
    elif low >= 0 and high > 152:
        raise ValueError(
            f"{found}, which looks like pixels; {name!r} takes "
            "images normalised as in its training: build it with normalization=(mean, std) to give it pixels."
        )
    return high


def _check_shape(shape, wanted, name):
    takes = f"{name!r} takes ({', '.join(['batch', *(str(n) if n else 'any' for n in wanted[1:])])})"
    if len(shape) == 4 and shape[1] == wanted[3] != shape[3]:
        raise ValueError(f"the images are {shape}: channels first; {takes}: transpose them to channels last.")
    if len(shape) == 3 and shape[2] == wanted[3]:
        raise ValueError(f"the images are {shape}: a single one; {takes}: add an axis, images[None].")
    if len(shape) != 4 or any(n not in (None, m) for n, m in zip(wanted, shape, strict=True)):
        raise ValueError(f"the images are {shape}; {takes}.")
    if shape[0] == 0:
        raise ValueError(f"the images are {shape}: the batch is empty.")
