"""Which image comes when, and with which random numbers: pure functions of seed, epoch and position."""

from __future__ import annotations

import math

import tensorflow as tf

from keras_resnet.data import transforms

# Undecoded records that a stream shuffles at a time: 0.5 GB of ImageNet, whose records
# are stored in random order.
SHUFFLE_WINDOW = 4096
# Up to this size the permutations are numbered, and no two of them in succession are the same.
_NUMBERED = 12
_FACTORIALS = [math.factorial(size) for size in range(_NUMBERED + 1)]


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
        return permuted(place, size, seed, step // steps)

    return tf.data.Dataset.range(start_step, tf.int64.max).map(at)


def permuted(index, size, seed, epoch, window=0):
    """Where a permutation takes each `index`: a pure function of seed, epoch and window.

    Args:
        index: int64 vector of numbers below `size`.
        size: int64 scalar, at least 1.
        seed: int64 scalar from 0 to 2**31 - 1.
        epoch: int64 scalar.
        window: int64 scalar: which of the permutations of this seed and epoch.

    Returns:
        int64 vector of numbers below `size`.
    """
    size, seed, window = (tf.cast(number, tf.int64) for number in (size, seed, window))

    def numbered():
        count = tf.gather(tf.constant(_FACTORIALS, tf.int64), size)
        # Primes above every factor of `count`, so that `count` seeds have as many orders, and
        # so have `count` epochs.
        number = (epoch + 2_654_435_761 * seed + 1_000_003 * window) % count
        number = _shuffled(number, count, transforms.keys(0, 0, 0))
        return tf.gather(_permutation(number, size), index)

    return tf.cond(
        size <= _NUMBERED,
        numbered,
        lambda: _shuffled(index, size, transforms.keys(seed, epoch, window)),
    )


def _shuffled(index, size, keys):
    # For sizes below 2**16 TensorFlow uses eight bits of each of a key's three numbers: 2**24
    # orders, of which 1,000 epochs would meet one twice in 3 % of all cases. Two keys have 2**48.
    for key in tf.unstack(keys):
        index = tf.raw_ops.RandomIndexShuffle(index=index, seed=key, max_index=size - 1, rounds=4)
    return index


def _permutation(number, size):
    """The permutation of `size` elements with a `number` below the factorial of `size`."""
    order = tf.zeros([0], tf.int64)
    for element in range(_NUMBERED):
        # Zero for elements from `size` on, which are inserted in front and left out at the end.
        at = number // _FACTORIALS[element] % (element + 1)
        order = tf.concat([order[:at], [element], order[at:]], 0)
    return order[_NUMBERED - size :]


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


def stream(records, size: int, training: bool, seed: int, per_epoch: int, start: int, repeats: int):
    """The records of a dataset from the image `start` on, in training shuffled in windows.

    One pass over all `size` records, each `repeats` times, makes `repeats` epochs.
    """
    if not training:
        return records.skip(start)
    numbered, per_pass = records.enumerate(), per_epoch * repeats

    def shuffled(number, index, window):
        # Not `Dataset.shuffle`, whose order depends on TensorFlow's global seed too.
        count = tf.size(index, tf.int64)
        order = tf.repeat(permuted(tf.range(count), count, seed, number, index[0]), repeats)
        return tf.nest.map_structure(lambda x: tf.gather(x, order), window)

    def pass_from(number):
        first = tf.constant(SHUFFLE_WINDOW, tf.int64)
        if size > SHUFFLE_WINDOW:
            # A shorter first window moves the borders of the others from pass to pass.
            first = tf.random.stateless_uniform((), [seed, number], 1, SHUFFLE_WINDOW + 1, tf.int64)
        windows = numbered.take(first).batch(SHUFFLE_WINDOW)
        windows = windows.concatenate(numbered.skip(first).batch(SHUFFLE_WINDOW))
        order = windows.map(lambda index, window: shuffled(number, index, window)).unbatch()
        return order.take(per_pass).skip(tf.maximum(start - number * per_pass, 0))

    return tf.data.Dataset.range(start // per_pass, tf.int64.max).flat_map(pass_from)
