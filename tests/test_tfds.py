"""Datasets of tensorflow-datasets: a small one made here, and the real ones where they are."""

import os
import shutil
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from test_shards import declare, flip_bit, record_ends, truncate

from keras_resnet import DataError, make_dataset
from keras_resnet.data import order, sources
from keras_resnet.data.errors import clear_errors


def examples(count, shape=(6, 6, 3)):
    rng = np.random.default_rng(count)
    return [{"image": rng.integers(0, 256, shape, np.uint8), "label": i % 2} for i in range(count)]


def store(name, folder, splits, shape=(6, 6, 3), config=None, **features):
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        config=config,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=shape),
                "label": tfds.features.ClassLabel(names=["no", "yes"]),
            }
            | features
        ),
        split_datasets={split: list(enumerate(images)) for split, images in splits.items()},
        data_dir=folder,
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    store("fixed", folder, {"train": examples(40), "test": examples(10)})
    unlabeled = [example | {"label": -1} for example in examples(1)]
    store("unlabeled", folder, {"train": examples(10), "test": unlabeled})
    store("sized", folder, {"train": examples(40), "test": examples(10)}, config="small")
    store("one_split", folder, {"train": examples(20)})
    sizes = [(n, 7, 3) for n in range(5, 25)]
    varied = [examples(1, shape)[0] for shape in sizes]
    store("varied", folder, {"train": varied, "validation": varied[:4]}, (None, None, 3))
    return folder


def labels(dataset, count):
    return [y.tolist() for _, y in dataset.take(count).as_numpy_iterator()]


def test_images_of_one_size_are_held_in_memory(data_dir):
    dataset = make_dataset("fixed", data_dir=data_dir, batch_size=8, crop="pad", flip=True)
    assert dataset.element_spec[0].shape == (8, 6, 6, 3)
    assert dataset.class_names == ("no", "yes")
    assert (dataset.num_examples, dataset.steps_per_epoch) == (40, 5)
    stored = {e["image"].tobytes(): e["label"] for e in examples(10)}
    found = make_dataset("fixed", "held_out", data_dir=data_dir)
    assert {
        x.tobytes(): y for batch in found.as_numpy_iterator() for x, y in zip(*batch, strict=True)
    } == stored


def test_a_fifth_is_held_out_where_there_is_no_other_split(data_dir):
    assert make_dataset("one_split", data_dir=data_dir, batch_size=4).num_examples == 16
    assert make_dataset("one_split", "held_out", data_dir=data_dir, batch_size=4).num_examples == 4
    assert make_dataset("one_split", "train[:50%]", data_dir=data_dir, batch_size=4).num_examples == 10


@pytest.mark.parametrize("other", ["val", "valid", "dev", "eval"])
def test_splits_of_other_names_are_held_out(tmp_path, other):
    store("small", tmp_path, {"train": examples(10), "test": examples(4), other: examples(6)})
    for split, images in {
        "train": 10,
        "held_out": 6,
        "validation": 6,
        "test": 4,
        f"{other}[:50%]": 3,
    }.items():
        assert make_dataset("small", split, data_dir=tmp_path, training=False).num_examples == images


def test_validation_is_held_out_rather_than_an_unlabelled_test(data_dir):
    assert make_dataset("varied", "held_out", data_dir=data_dir, batch_size=4).num_examples == 4


@pytest.mark.parametrize("window", [4, 4096])
@pytest.mark.parametrize("start", [0, 1, 3, 7])
def test_stream_can_start_at_any_step(data_dir, start, window, monkeypatch):
    monkeypatch.setattr(order, "SHUFFLE_WINDOW", window)
    options = dict(data_dir=data_dir, batch_size=6, image_size=4, seed=2, crop="resized")
    whole = labels(make_dataset("varied", **options), 9)
    assert labels(make_dataset("varied", start_step=start, **options), 9 - start) == whole[start:]


def test_stream_visits_every_image_in_another_order_each_epoch(data_dir, monkeypatch):
    monkeypatch.setattr(sources, "MEMORY_BUDGET", 0)
    dataset = make_dataset("fixed", data_dir=data_dir, batch_size=8)
    epochs = [
        [x.tobytes() for b, _ in dataset.skip(5 * e).take(5).as_numpy_iterator() for x in b] for e in (0, 1)
    ]
    assert set(epochs[0]) == set(epochs[1]) == {e["image"].tobytes() for e in examples(40)}
    assert epochs[0] != epochs[1]


def test_stream_does_not_hang_on_the_global_seed(data_dir):
    options = dict(data_dir=data_dir, batch_size=6, image_size=4)
    tf.random.set_seed(1)
    once = labels(make_dataset("varied", **options), 6)
    tf.random.set_seed(2)
    assert labels(make_dataset("varied", **options), 6) == once


def test_stream_evaluates_in_order(data_dir, monkeypatch):
    monkeypatch.setattr(sources, "MEMORY_BUDGET", 0)
    dataset = make_dataset("fixed", "test", data_dir=data_dir, batch_size=4, training=False)
    assert sum(len(y) for _, y in dataset.as_numpy_iterator()) == 10
    assert int(dataset.cardinality()) == 3


@pytest.mark.parametrize(
    "name, split, message",
    [
        ("fixed", "dev", "fixed has no split 'dev'; it has train, test and held_out"),
        (
            "cifra10",
            "train",
            "'cifra10' is no folder and no dataset of tensorflow-datasets; did you mean .*cifar10",
        ),
        ("qqqqqqqq", "train", "'qqqqqqqq' is no folder and no dataset"),
        ("mnist", "train", "mnist is not prepared in .*; allow the download"),
        ("imagenet2012", "train", "imagenet2012 is not prepared in"),
    ],
)
def test_errors(data_dir, name, split, message):
    with pytest.raises(DataError, match=message):
        make_dataset(name, split, data_dir=data_dir, download=False)


@pytest.mark.parametrize(
    "name",
    ["fixed/1.0.0", "fixed:1.0.0", "fixed:1.*.*", "sized/small", "sized/small/1.0.0", "sized/small:1.0.0"],
)
def test_configuration_and_version(data_dir, name):
    assert make_dataset(name, "test", data_dir=data_dir, batch_size=4).num_examples == 10


def test_a_folder_of_that_name_comes_first(data_dir, tmp_path, monkeypatch, save_image):
    for name in ("a", "b"):
        save_image(f"fixed/1.0.0/{name}/1.png")
    monkeypatch.chdir(tmp_path)
    assert make_dataset("fixed/1.0.0", "all", data_dir=data_dir).class_names == ("a", "b")


@pytest.mark.parametrize(
    "name, message",
    [
        ("imagenette/99px", "'imagenette/99px': imagenette has no such configuration; it has .*160px-v2"),
        ("mnist/plain", "'mnist/plain': mnist has no such configuration; it has none"),
        ("mnist/9.9.9", "'mnist/9.9.9': there is no such version of the dataset; there is 3"),
        ("imagenette/160px-v2/1.0.0", r"imagenette/160px-v2/1.0.0 is not prepared in"),
        ("photos/cats", "photos/cats: there is no such folder, nor a dataset of that name"),
        ("photos/more/cats", "photos/more/cats: there is no such folder"),
        ("./photos/cats", r"\./photos/cats: there is no such folder"),
        ("a/b/c/d", "a/b/c/d: there is no such folder"),
    ],
)
def test_names_that_there_are_not(tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        make_dataset(name, data_dir=tmp_path, download=False)


@pytest.mark.parametrize("budget", [0, sources.MEMORY_BUDGET])
@pytest.mark.parametrize("training", [False, True])
def test_split_without_labels_is_refused(data_dir, monkeypatch, budget, training):
    monkeypatch.setattr(sources, "MEMORY_BUDGET", budget)
    where = "record 0 of unlabeled/test" if budget == 0 else "image 0 of unlabeled/test"
    message = f"label -1 of {where} is wrong: labels are .* below the 2 classes"
    with pytest.raises(DataError, match=message), clear_errors():
        next(iter(make_dataset("unlabeled", "test", data_dir=data_dir, batch_size=1, training=training)))
    assert make_dataset("unlabeled", data_dir=data_dir, batch_size=4).num_examples == 10


def test_other_tasks_are_refused(data_dir):
    features = tfds.features.FeaturesDict(
        {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="words", version="1.0.0", features=features, data_dir=data_dir,
        split_datasets={"train": [(0, {"text": "a", "label": 0})]},
    )  # fmt: skip
    with pytest.raises(
        DataError, match="words is not for image classification: its features are label, text"
    ):
        make_dataset("words", data_dir=data_dir, download=False)


def damaged(data_dir, folder, name, split, damage):
    copy = shutil.copytree(data_dir, folder / "tfds")
    (path,) = copy.glob(f"{name}/1.0.0/*-{split}.tfrecord-00000-of-00001")
    damage(path)
    return copy, path


DAMAGES = {
    "length of a record": (partial(declare, length=2**40), "the record at .* declares 1,099,511,627,776"),
    "record": (partial(flip_bit, at=0.53), "a record cannot be read"),
    "end": (lambda path: truncate(path, record_ends(path)[3]), "a record cannot be read"),
    "middle of a record": (lambda path: truncate(path, record_ends(path)[3] + 40), "declares"),
    "whole file": (lambda path: path.unlink(), "cannot be read: No such file"),
    "FIFO": (lambda path: (path.unlink(), os.mkfifo(path)), "cannot be read: it is a FIFO"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["fixed", "varied"])
def test_damaged_files_are_named(data_dir, tmp_path, name, damage):
    harm, message = DAMAGES[damage]
    folder, path = damaged(data_dir, tmp_path, name, "train", harm)
    with pytest.raises(DataError, match=rf"^{path}: .*{message}"):
        list(make_dataset(name, data_dir=folder, batch_size=4, image_size=4, training=False))


def test_a_damaged_image_in_memory_is_named(data_dir, tmp_path):
    def harm(path):
        records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record.replace(b"IDAT", b"IDAX"))

    folder, _ = damaged(data_dir, tmp_path, "fixed", "train", harm)
    with pytest.raises(DataError, match=r"^fixed/train: damaged record: [^\n]+"):
        make_dataset("fixed", data_dir=folder, batch_size=4)


def test_real_fashion_mnist(shared):
    dataset = make_dataset("fashion_mnist", data_dir=shared / "data/tfds", batch_size=100, training=False)
    assert dataset.num_examples == 60_000
    assert dataset.class_names[9] == "Ankle boot"
    images = np.concatenate([x for x, _ in dataset.as_numpy_iterator()]) / 255
    assert (round(images.mean(), 5), round(images.std(), 5)) == (0.28604, 0.35302)


def test_real_cifar10(shared):
    dataset = make_dataset("cifar10", "held_out", data_dir=shared / "data/tfds", batch_size=500)
    counts = sum(np.bincount(y, minlength=10) for _, y in dataset.as_numpy_iterator())
    assert counts.tolist() == [1000] * 10
