"""The order of images: every seed and epoch has its own, from sources that stream too."""

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import DataError, make_dataset
from keras_resnet.data import order, transforms
from keras_resnet.data.mixing import mix, mix_dataset
from keras_resnet.data.sources import Source


def orders(size, seeds, epochs, window=0):
    """The first 50 positions of each seed and epoch."""
    index = tf.range(min(size, 50), dtype=tf.int64)
    at = tf.function(lambda seed, epoch: order.permuted(index, size, seed, epoch, window))
    pairs = tf.stack(tf.meshgrid(seeds, epochs, indexing="ij"), -1)
    return np.array([at(seed, epoch) for seed, epoch in tf.cast(tf.reshape(pairs, [-1, 2]), tf.int64)])


@pytest.mark.parametrize("size", [*range(1, 15), 100, 1000, 70_000])
def test_each_order_is_a_permutation(size):
    index = tf.range(size, dtype=tf.int64)
    for seed, epoch, window in (0, 0, 0), (7, 300, 0), (2**31 - 1, 2**31, 5):
        found = order.permuted(index, size, seed, tf.constant(epoch, tf.int64), window).numpy()
        np.testing.assert_array_equal(np.sort(found), np.arange(size))


@pytest.mark.parametrize("size", [8, 9, 12, 13, 256, 1438, 50_000, 10**6])
def test_a_thousand_epochs_have_a_thousand_orders(size):
    found = orders(size, [3], range(1000))
    assert len(np.unique(found, axis=0)) == 1000
    # Each image comes early as often as late: the mean is within five standard errors.
    assert abs(found[:, 0].mean() - (size - 1) / 2) < 5 * size / np.sqrt(12 * 1000)


@pytest.mark.parametrize("size", [8, 9, 12, 13, 256, 1438, 50_000, 10**6])
def test_a_thousand_seeds_have_a_thousand_orders(size):
    assert len(np.unique(orders(size, range(1000), [4]), axis=0)) == 1000


@pytest.mark.parametrize("size", [100, 1438, 10**6])
def test_seeds_and_epochs_are_not_exchanged(size):
    found = orders(size, range(12), range(12))
    assert len(np.unique(found, axis=0)) == 144
    assert len(np.unique(orders(size, [1], [1], 4096), axis=0)) == 1
    assert (orders(size, [1], [1], 4096) != orders(size, [1], [1])).any()


def test_every_position_is_equally_likely():
    found = orders(8, [0], range(2000))
    counts = np.array([np.bincount(found[:, place], minlength=8) for place in range(8)])
    # Chi-square of 8 x 8 cells with 49 degrees of freedom: 99.99 % are below 95.
    assert ((counts - 250) ** 2 / 250).sum() < 95


def streamed(count):
    """A source of `count` images that can only be read one after another; image i is of class i."""
    images = np.arange(count, dtype=np.uint32).view(np.uint8).reshape(count, 1, 2, 2)
    return Source(
        size=count,
        class_names=tuple(map(str, range(count))),
        image_shape=(1, 2, 2),
        lookup=lambda *record: record[0] if len(record) == 1 else record,
        records=tf.data.Dataset.from_tensor_slices((images, np.arange(count))),
    )


def seen(monkeypatch, count, batches, **options):
    """The numbers of the images of the first `batches`, from a stream of `count`."""
    monkeypatch.setattr("keras_resnet.data.pipeline.open_source", lambda *_, **__: streamed(count))
    monkeypatch.setattr(order, "SHUFFLE_WINDOW", options.pop("window", 50))
    dataset = make_dataset("stream", "train", image_size=2, **options)
    return np.concatenate([y for _, y in dataset.take(batches).as_numpy_iterator()])


@pytest.mark.parametrize("repeats", [1, 2, 3, 4])
def test_streams_show_every_image_once_in_as_many_epochs_as_there_are_repeats(monkeypatch, repeats):
    found = seen(monkeypatch, 480, 20 * repeats, batch_size=24, repeats=repeats)
    np.testing.assert_array_equal(np.bincount(found, minlength=480), repeats)
    assert (found.reshape(-1, repeats) == found[::repeats, None]).all()


@pytest.mark.parametrize("start", [1, 20, 45])
def test_streams_with_repeats_can_start_at_any_step(monkeypatch, start):
    options = dict(batch_size=24, repeats=3, seed=2)
    whole = seen(monkeypatch, 480, 70, **options)
    found = seen(monkeypatch, 480, 70 - start, start_step=start, **options)
    np.testing.assert_array_equal(found, whole[24 * start :])


@pytest.mark.parametrize("count", [24, 480])
def test_streams_have_an_order_for_each_seed_and_epoch(monkeypatch, count):
    found = [
        seen(monkeypatch, count, 4 * (count // 8), batch_size=8, seed=seed).reshape(4, -1).tolist()
        for seed in (0, 1, 99, 2**31 - 1)
    ]
    assert len({tuple(epoch) for epochs in found for epoch in epochs}) == 16


# Integers as numpy has them.


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.uint64])
def test_integers_of_numpy_are_those_of_python(kind):
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), np.uint8)

    def batches(number):
        dataset = make_dataset(
            (images, np.arange(40)), image_size=number(6), batch_size=number(8), seed=number(5),
            start_step=number(120), crop="pad", crop_padding=number(2), flip=True, repeats=number(2),
            share=(number(1), number(2)), augment="randaugment", augment_ops=number(1),
        )  # fmt: skip
        dataset = mix_dataset(dataset, seed=number(5), start_step=number(120), mixup=1.0)
        return list(dataset.take(3).as_numpy_iterator())

    for ours, theirs in zip(batches(int), batches(kind), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_random_numbers_hang_on_a_seed_of_numpy():
    one, other = (transforms.uniforms(np.int32(seed), 0, 0, 8, 4).numpy() for seed in (1, 2))
    assert (one != other).all()
    np.testing.assert_array_equal(one, transforms.uniforms(1, 0, 0, 8, 4))
    images = tf.zeros((2, 4, 4, 3), tf.uint8)
    mixed = [mix(images, [0, 1], 0, num_classes=2, mixup=1.0, seed=kind(3))[1] for kind in (int, np.int32)]
    np.testing.assert_array_equal(*mixed)


@pytest.mark.parametrize("name", ["image_size", "batch_size", "seed", "start_step", "repeats", "augment_ops"])
def test_other_numbers_are_refused_by_name(name):
    with pytest.raises(DataError, match=f"{name}=2.5 must be a whole number"):
        make_dataset("digits", **{name: 2.5})


# Very few images.


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, dict(crop="resized"), dict(crop="pad", flip=True), dict(repeats=3), dict(image_size=4)],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_dataset_of_one_image(monkeypatch, training, options, stream):
    if stream:
        monkeypatch.setattr("keras_resnet.data.pipeline.open_source", lambda *_, **__: streamed(1))
    data = (np.full((1, 6, 6, 2), 7, np.uint8), [0])
    dataset = make_dataset(data, training=training, batch_size=1, **options)
    batches = list(dataset.take(3).as_numpy_iterator())
    assert [y.tolist() for _, y in batches] == [[0]] * (3 if training else 1)


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("parts", [2, 3, 7])
@pytest.mark.parametrize("stream", [False, True])
def test_evaluation_in_more_parts_than_images_in_a_batch(monkeypatch, size, batch_size, parts, stream):
    if stream:
        monkeypatch.setattr("keras_resnet.data.pipeline.open_source", lambda *_, **__: streamed(size))
    data = (np.zeros((size, 1, 2, 2), np.uint8), np.arange(size))
    shares = [
        make_dataset(data, "all", training=False, batch_size=batch_size, share=(part, parts), image_size=2)
        for part in range(parts)
    ]
    labels = [[y for _, labels in share.as_numpy_iterator() for y in labels] for share in shares]
    assert labels == [list(range(part, size, parts)) for part in range(parts)]


def test_training_in_more_parts_than_images_in_a_batch_is_refused():
    with pytest.raises(DataError, match=r"share=\(0, 3\).*must divide batch_size=2"):
        make_dataset("digits", batch_size=2, share=(0, 3))
