"""Which image comes when, and with which random numbers: pure functions of seed, epoch and position."""

from __future__ import annotations

import tensorflow as tf

from keras_resnet.data import transforms

# Undecoded records that a stream shuffles at a time: 0.5 GB of ImageNet, whose records
# are stored in random order.
SHUFFLE_WINDOW = 4096


def draws(numbers: int, training: bool, seed: int, batch_size: int, steps: int, start_step: int):
    """Random numbers, ``(batch_size, numbers)`` a batch; zeros where nothing is random.

    `steps` are those of an epoch; `start_step` counts over all epochs.
    """
    if not training:
        return tf.data.Dataset.from_tensors(tf.zeros((batch_size, numbers))).repeat()
    return tf.data.Dataset.range(start_step, tf.int64.max).map(
        lambda step: transforms.uniforms(seed, step // steps, step % steps * batch_size, batch_size, numbers)
    )


def positions(
    size: int, training: bool, seed: int, batch_size: int, steps: int, start_step: int, repeats: int
):
    """Positions of images below `size`, a vector a batch: in training a permutation of each epoch's own."""
    if not training:
        return tf.data.Dataset.range(start_step * batch_size, size).batch(batch_size)

    def at(step):
        place = (step % steps * batch_size + tf.range(batch_size, dtype=tf.int64)) // repeats
        return tf.random.experimental.index_shuffle(place, [seed, step // steps], size - 1)

    return tf.data.Dataset.range(start_step, tf.int64.max).map(at)


def part_of(batches, training: bool, batch_size: int, share: tuple[int, int]):
    """One of `share[1]` equal parts: in training of every batch, otherwise of all elements.

    Where a part of a batch has an even number of images, an image and the one that is as far from
    the other end of the batch are in the same part: `mix` finds the partners of the whole batch.
    """
    part, parts = share
    if parts == 1:
        return batches
    if not training:
        return batches.unbatch().shard(parts, part).batch(batch_size)
    own = batch_size // parts
    rows = range(part * own, (part + 1) * own)
    if own % 2 == 0:
        first = range(part * own // 2, (part + 1) * own // 2)
        rows = [*first, *(batch_size - 1 - row for row in reversed(first))]
    rows = tf.constant(list(rows))
    return batches.map(lambda *batch: _gathered(batch if len(batch) > 1 else batch[0], rows))


def _gathered(batch, rows):
    return tf.nest.map_structure(lambda values: tf.gather(values, rows), batch)


def stream(records, training: bool, seed: int, per_epoch: int, start: int, repeats: int):
    """The records of a dataset from the image `start` on, in training shuffled in windows."""
    if not training:
        return records.skip(start)
    numbered = records.enumerate()

    def shuffled(epoch, index, window):
        # Not `Dataset.shuffle`, whose order depends on TensorFlow's global seed too.
        count = tf.size(index)
        order = tf.random.experimental.index_shuffle(
            tf.range(count), [(seed << 32) + epoch, index[0]], count - 1
        )
        return tf.nest.map_structure(lambda x: tf.repeat(tf.gather(x, order), repeats, 0), window)

    def epoch_from(epoch):
        # A shorter first window moves the borders of the others from epoch to epoch.
        first = tf.random.stateless_uniform((), [seed, epoch], 1, SHUFFLE_WINDOW + 1, tf.int64)
        windows = numbered.take(first).batch(SHUFFLE_WINDOW)
        windows = windows.concatenate(numbered.skip(first).batch(SHUFFLE_WINDOW))
        order = windows.map(lambda index, window: shuffled(epoch, index, window)).unbatch()
        return order.take(per_epoch).skip(tf.maximum(start - epoch * per_epoch, 0))

    return tf.data.Dataset.range(start // per_epoch, tf.int64.max).flat_map(epoch_from)
