"""Image transforms for `tf.data`: pure functions of an image and of uniform random numbers.

Images are uint8 of shape ``(height, width, channels)`` and stay so. `u` is what `uniforms`
returns for the image: a function that draws from it gives the same for the same numbers.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from PIL import Image

_TRIES = 10
# Which of the numbers decides what.
_FLIP, _TOP, _LEFT = 0, 1, 2
_AREA = slice(3, 3 + _TRIES)
_ASPECT = slice(3 + _TRIES, 3 + 2 * _TRIES)
_COUNT = 3 + 2 * _TRIES
# Pixels of a resized image beyond which only its middle is computed.
_MAX_RESIZED = 2**24


def uniforms(seed: int, epoch, index):
    """Random numbers in [0, 1) for one image: a pure function of its three arguments."""
    return tf.random.stateless_uniform([_COUNT], seed=[(seed << 32) + epoch, index])


def flip(image, u):
    """Mirror left to right, for one half of the images."""
    return tf.cond(u[_FLIP] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


def pad_crop(image, u, padding: int):
    """Pad with zeros on every side, and cut out the former size at a random place."""
    height, width, channels = image.shape
    padded = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]])
    top, left = (tf.cast(u[which] * (2 * padding + 1), tf.int32) for which in (_TOP, _LEFT))
    return tf.slice(padded, [top, left, 0], [height, width, channels])


def random_resized_crop(image, u, size: int, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """Cut out a random part of the image and resize it to ``(size, size)``.

    The part has `scale` of the area and an aspect `ratio`, both drawn until it fits, ten
    times at most (arXiv:1409.4842, section 6; torchvision's RandomResizedCrop).
    """
    height, width = _size(image)
    area = height * width * (scale[0] + u[_AREA] * (scale[1] - scale[0]))
    aspect = tf.exp(math.log(ratio[0]) + u[_ASPECT] * math.log(ratio[1] / ratio[0]))
    # What the image itself allows comes last, for when nothing that was drawn fits.
    widths = tf.concat([tf.sqrt(area * aspect), [tf.minimum(width, height * ratio[1])]], 0)
    heights = tf.concat([tf.sqrt(area / aspect), [tf.minimum(height, width / ratio[0])]], 0)
    widths, heights = tf.maximum(tf.round(widths), 1), tf.maximum(tf.round(heights), 1)
    first = tf.argmax(tf.cast((widths <= width) & (heights <= height), tf.int32))
    crop = tf.stack([heights[first], widths[first]])
    corner = tf.floor(tf.stack([u[_TOP], u[_LEFT]]) * (tf.stack([height, width]) - crop + 1))
    return _crop_and_resize(image, size, crop, corner)


def resize_and_crop(image, size: int, crop_fraction: float = 1.0, interpolation: str = "bilinear"):
    """Resize the short side to ``floor(size / crop_fraction)`` and cut ``(size, size)`` out of the middle.

    Pillow does it, antialiased: what it computes is what torchvision and timm evaluate on.
    `interpolation` is "bilinear" or "bicubic".
    """
    if image.shape[:2] == (size, size) and crop_fraction == 1.0:
        return image
    resized = tf.numpy_function(
        lambda pixels: _pillow_resize_and_crop(pixels, size, crop_fraction, interpolation), [image], tf.uint8
    )
    return tf.ensure_shape(resized, (size, size, image.shape[-1]))


def _pillow_resize_and_crop(pixels, size, crop_fraction, interpolation):
    extent = np.array(pixels.shape[1::-1])
    resized = math.floor(size / crop_fraction) * extent // extent.min()
    corner = np.round((resized - size) / 2).astype(int)
    kept = tuple(np.concatenate([corner, corner + size]).tolist())
    method = Image.Resampling[interpolation.upper()]

    def one(image):
        if resized.prod() <= _MAX_RESIZED:
            return np.asarray(image.resize(tuple(resized.tolist()), method).crop(kept))
        # A thread of 1 x 10,000 would fill the memory: compute only what is kept. (Always doing
        # so would be up to 11 grey levels off: Pillow orders its two passes by their cost.)
        return np.asarray(image.resize((size, size), method, tuple(kept * np.tile(extent / resized, 2))))

    if pixels.shape[-1] == 3:
        return one(Image.fromarray(pixels))
    bands = (np.ascontiguousarray(pixels[..., i]) for i in range(pixels.shape[-1]))
    return np.stack([one(Image.fromarray(band)) for band in bands], axis=-1)


def _crop_and_resize(image, size, crop, corner):
    """The part of the image with the extent `crop` that starts at `corner`, bilinear, not antialiased."""
    scale = size / crop
    window = tf.raw_ops.ScaleAndTranslate(
        images=image[None], size=[size, size], scale=scale, translation=-corner * scale,
        kernel_type="triangle", antialias=False,
    )[0]  # fmt: skip
    window = tf.saturate_cast(tf.round(window), tf.uint8)
    return tf.ensure_shape(window, (size, size, image.shape[-1]))


def _size(image):
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    return height, width
