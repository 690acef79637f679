"""Transforms of whole batches for `tf.data`: pure functions of images and of uniform random numbers.

Images are uint8 of shape ``(batch, height, width, channels)`` and stay so. `u` is what `uniforms`
returns for the batch, one row an image. `keras_resnet.data.images` does the same to one image
at a time, from the same numbers, where images need more than this.
"""

from __future__ import annotations

import tensorflow as tf

from keras_resnet.data import images as one_image
from keras_resnet.data.workers import python_function

_TRIES = 10
# Which of the numbers of an image decides what.
FLIP, TOP, LEFT = 0, 1, 2
AREA = slice(3, 3 + _TRIES)
ASPECT = slice(3 + _TRIES, 3 + 2 * _TRIES)
ERASE, ERASE_TOP, ERASE_LEFT = 23, 24, 25
ERASE_AREA = slice(26, 26 + _TRIES)
ERASE_ASPECT = slice(26 + _TRIES, 26 + 2 * _TRIES)
JITTER = slice(46, 50)
AUGMENT = 50
# The mean colour of ImageNet, which normalisation makes zero.
_MEAN_COLOUR = (124, 116, 104)


def uniforms(seed: int, epoch, position, count: int, numbers: int):
    """Random numbers in [0, 1) for `count` images of an epoch from `position` on.

    They are the output of the Philox generator with the key (seed, epoch), from the counter that
    belongs to the position on: one call serves a batch, and what an image gets does not hang on
    the batches.

    Args:
        seed: The dataset's.
        epoch: int64 scalar.
        position: int64 scalar: of the first image in the order of its epoch.
        count: Images.
        numbers: Random numbers an image; a multiple of 4, the generator's block.

    Returns:
        float32 ``(count, numbers)``.
    """
    counter = tf.cast(position * (numbers // 4), tf.uint64)
    return tf.raw_ops.StatelessRandomUniformV2(
        shape=[count, numbers], key=[_key(seed, epoch)], counter=[counter, tf.zeros((), tf.uint64)], alg=1
    )


def keys(seed: int, epoch, window):
    """Two keys of three numbers each, uint32 ``(2, 3)``: a hash of seed, epoch and window.

    They come from the generator of `uniforms`, from counters that it never reaches.
    """
    # Six numbers take two counters.
    counter = tf.stack([tf.cast(2 * window, tf.uint64), tf.ones((), tf.uint64)])
    return tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[2, 3], key=[_key(seed, epoch)], counter=counter, alg=1, dtype=tf.uint32
    )


def _key(seed, epoch):
    # A shift would push a number of numpy out of its 32 bits.
    return tf.cast(tf.cast(seed, tf.int64) * 2**32 + epoch, tf.uint64)


def flip(images, u):
    """Mirror left to right, for one half of the images."""
    # Of three dimensions and three channels, TensorFlow reverses the second by a fast kernel.
    rows = tf.reshape(images, [-1, *images.shape[2:]])
    both = tf.concat([images, tf.reshape(tf.reverse(rows, [1]), tf.shape(images))], 0)
    count = tf.shape(images)[0]
    return tf.gather(both, tf.range(count) + count * tf.cast(u[:, FLIP] < 0.5, tf.int32))


def pad_crop(images, u, padding: int):
    """Pad with zeros on every side, and cut out the former size at a random place."""
    _, height, width, channels = images.shape
    padded = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    top, left = (tf.cast(u[:, which, None] * (2 * padding + 1), tf.int32) for which in (TOP, LEFT))
    rows, columns = top + tf.range(height), left + tf.range(width)
    first = tf.range(tf.shape(images)[0])[:, None] * padded.shape[1]
    pixels = (first + rows)[:, :, None] * padded.shape[2] + columns[:, None, :]
    return tf.gather(tf.reshape(padded, [-1, channels]), pixels)


def erase(images, u, probability: float):
    """Overwrite a random rectangle with the mean colour of ImageNet (grey: 114) in some images.

    The rectangle has 2 to 33 % of the area and an aspect ratio of 0.3 to 3.3 (arXiv:1708.04896,
    with the ranges of torchvision and timm, whose constant is 0 after the normalisation).
    """
    height, width, channels = images.shape[1:]
    area = height * width * (0.02 + u[:, ERASE_AREA] * (1 / 3 - 0.02))
    root = tf.sqrt(tf.exp(tf.math.log(0.3) * (1 - 2 * u[:, ERASE_ASPECT])))
    heights, widths = tf.round(tf.sqrt(area) * root), tf.round(tf.sqrt(area) / root)
    fits = (heights < height) & (widths < width)
    first = tf.argmax(fits, axis=1, output_type=tf.int32)
    chosen = (u[:, ERASE] < probability) & tf.reduce_any(fits, axis=1)
    rows = _inside(height, tf.gather(heights, first, batch_dims=1), u[:, ERASE_TOP])
    columns = _inside(width, tf.gather(widths, first, batch_dims=1), u[:, ERASE_LEFT])
    mask = rows[:, :, None] & columns[:, None, :] & chosen[:, None, None]
    colour = tf.constant(_MEAN_COLOUR if channels == 3 else (114,) * channels, images.dtype)
    return tf.where(mask[..., None], colour, images)


def resize_and_crop(image, size: int, crop_fraction=1.0, interpolation: str = "bilinear", antialias=True):
    """`keras_resnet.data.images.resize_and_crop` of one image as a TensorFlow operation."""
    if image.shape[:2] == (size, size) and crop_fraction == 1.0:
        return image
    resized = python_function(
        lambda pixels: one_image.resize_and_crop(pixels, size, crop_fraction, interpolation, antialias),
        [image],
        tf.uint8,
    )
    return tf.ensure_shape(resized, (size, size, image.shape[-1]))


def _inside(extent, length, u):
    """Which of `extent` positions lie in an interval of this length at a random place."""
    start = tf.floor(u * (extent - length + 1))
    at = tf.range(extent, dtype=tf.float32)
    return (at >= start[:, None]) & (at < (start + length)[:, None])
