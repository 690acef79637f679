"""MixUp, CutMix and label smoothing of whole batches, in `tf.data`.

What happens to a batch is a pure function of the seed and of its number, so that a training that
continues gets the batches that it would have got.
"""

from __future__ import annotations

import tensorflow as tf

from keras_resnet import arguments

# Beyond every epoch number in `transforms.uniforms`: the streams of random numbers never meet.
_STREAM = 2**31
_ATTRIBUTES = (
    "class_names", "named", "num_examples", "steps_per_epoch", "crop_fraction", "prepared", "identity",
)  # fmt: skip


def mix_dataset(
    dataset: tf.data.Dataset, *, seed: int = 0, start_step: int = 0, **options
) -> tf.data.Dataset:
    """A dataset of `make_dataset` with `mix` applied to every batch.

    Args:
        dataset: Batches of uint8 images and integer labels, with `class_names`.
        seed: Decides what is mixed with how much, from 0 to 2**31 - 1.
        start_step: Number of the first batch; the `start_step` of `make_dataset`.
        **options: `mixup`, `cutmix` and `label_smoothing` of `mix`.
    """
    seed, start_step = arguments.seed("seed", seed), arguments.whole("start_step", start_step, least=0)
    classes = len(dataset.class_names)

    def mixed(step, batch):
        return mix(*batch, step, num_classes=classes, seed=seed, **options)

    result = dataset.enumerate(start_step).map(mixed, tf.data.AUTOTUNE, deterministic=True)
    result = result.prefetch(2)
    for name in _ATTRIBUTES:
        setattr(result, name, getattr(dataset, name))
    return result


def mix(
    images,
    labels,
    step,
    *,
    num_classes: int,
    seed: int = 0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    label_smoothing: float = 0.0,
):
    """Mix a batch with itself in reverse order; one share for the whole batch, as timm does.

    Args:
        images: uint8 ``(batch, height, width, channels)``.
        labels: Classes, integer ``(batch,)``.
        step: Number of the batch, an int64 scalar.
        num_classes: Number of the classes.
        seed: From 0 to 2**31 - 1.
        mixup: Both parameters of the Beta distribution of the share, for sums of two images
            (arXiv:1710.09412); 0 for none.
        cutmix: The same for rectangles of another image (arXiv:1905.04899). With both, a fair
            coin decides for the batch.
        label_smoothing: Share of the label that is spread evenly over all classes.

    Returns:
        Images as above, and labels float32 ``(batch, num_classes)`` that sum to one.
    """
    labels = tf.one_hot(labels, num_classes) * (1 - label_smoothing) + label_smoothing / num_classes
    if not (mixup or cutmix):
        return images, labels
    shape = images.shape
    seeds = [[(int(seed) << 32) + _STREAM + which, tf.cast(step, tf.int64)] for which in range(4)]

    def by_sum():
        return _mixup(images, _beta(mixup, seeds[0]))

    def by_rectangle():
        return _cutmix(images, _beta(cutmix, seeds[1]), seeds[2])

    if mixup and cutmix:
        coin = tf.random.stateless_uniform((), seeds[3]) < 0.5
        images, kept = tf.cond(coin, by_sum, by_rectangle)
    else:
        images, kept = by_sum() if mixup else by_rectangle()
    return tf.ensure_shape(images, shape), kept * labels + (1 - kept) * labels[::-1]


def _beta(alpha, seed):
    """One number of the distribution Beta(alpha, alpha)."""
    first, second = tf.unstack(tf.random.stateless_gamma([2], seed, alpha, dtype=tf.float64))
    # Small parameters can give two zeros.
    share = tf.math.divide_no_nan(first, first + second)
    return tf.cast(share, tf.float32)


def _reversed(images):
    # Not images[::-1], which takes 25 times as long for a batch of 64x224x224x3.
    return tf.gather(images, tf.range(tf.shape(images)[0] - 1, -1, -1))


def _mixup(images, kept):
    """``kept`` of each image and the rest of its partner, to the nearest grey level."""
    count = tf.shape(images)[0]
    first, second = images[: count // 2], _reversed(images)[: count // 2]
    a, b = tf.cast(first, tf.float32), tf.cast(second, tf.float32)
    mixed = tf.cast(b + kept * (a - b) + 0.5, images.dtype)
    # The two mixtures of a pair add up to the pair; unsigned bytes overflow and come back.
    partners = _reversed(first + second - mixed)
    return tf.concat([mixed, images[count // 2 : count - count // 2], partners], 0), kept


def _cutmix(images, kept, seed):
    """A rectangle of ``1 - kept`` of the area around a random pixel, cut off at the border."""
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    side, places = tf.sqrt(1 - kept), tf.random.stateless_uniform([2], seed)
    top, bottom = _within(height, side, places[0])
    left, right = _within(width, side, places[1])
    pasted = _reversed(images[:, top:bottom, left:right])
    rows = images[:, top:bottom]
    rows = tf.concat([rows[:, :, :left], pasted, rows[:, :, right:]], 2)
    kept = 1 - tf.cast((bottom - top) * (right - left), tf.float32) / tf.cast(height * width, tf.float32)
    return tf.concat([images[:, :top], rows, images[:, bottom:]], 1), kept


def _within(size, share, place):
    """Begin and end of a `share` of `size` positions, around a random one, inside of them."""
    length = tf.cast(tf.cast(size, tf.float32) * share, tf.int32)
    start = tf.cast(place * tf.cast(size, tf.float32), tf.int32) - length // 2
    return tf.maximum(start, 0), tf.minimum(start + length, size)
