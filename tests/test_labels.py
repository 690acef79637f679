"""Labels outside the classes are refused with their place, wherever they come from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import DataError, build_resnet, evaluate, finetune, make_dataset
from keras_resnet.data.errors import clear_errors
from keras_resnet.data.labels import checked_labels

X = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
Y = np.arange(12) % 4


@pytest.fixture(scope="module")
def model():
    return build_resnet(
        stages=((1, 4),), block="basic", stem="conv3", stem_pool=None, stem_filters=4, num_classes=4,
        input_shape=(8, 8, 3), normalization=(0.5, 0.25),
    )  # fmt: skip


def own(labels, endless=False):
    """A dataset that `make_dataset` did not make."""
    data = tf.data.Dataset.from_tensor_slices((X, labels)).batch(5)
    data = data.repeat() if endless else data
    data.class_names, data.steps_per_epoch, data.num_examples = tuple("abcd"), 2, 12
    return data


def changed(position, label, dtype=np.int64):
    labels = Y.astype(dtype)
    labels[position] = label
    return labels


@pytest.mark.parametrize("position, label", [(0, -1), (7, 4), (11, 1000), (6, -(2**40))])
def test_evaluate_names_the_first_bad_label(model, position, label):
    with pytest.raises(
        DataError, match=f"label {label} of image {position} is wrong: .* below the 4 classes"
    ):
        evaluate(model, own(changed(position, label)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_labels_of_every_integer_are_evaluated(model, dtype):
    assert evaluate(model, own(Y.astype(dtype))).count == 12
    with pytest.raises(DataError, match="label 9 of image 7 is wrong"):
        evaluate(model, own(changed(7, 9, dtype)))


@pytest.mark.parametrize(
    "labels, message",
    [
        (keras.utils.to_categorical(Y), r"labels have shape \(None, 4\) and dtype float"),
        (Y[:, None], r"labels have shape \(None, 1\) and dtype int64; expected one integer an image"),
        (Y / 1, r"labels have shape \(None,\) and dtype float64"),
        (Y.astype(str), r"labels have shape \(None,\) and dtype string"),
    ],
)
def test_evaluate_refuses_labels_of_another_kind(model, labels, message):
    with pytest.raises(DataError, match=message):
        evaluate(model, own(labels))


def test_labels_of_unknown_shape_are_looked_at_when_they_come(model):
    """(5, 1) and (5,) would broadcast to 25 pairs."""
    data = own(Y).map(lambda x, y: (x, tf.py_function(lambda y: y[:, None], [y], tf.int64)))
    with pytest.raises(DataError, match=r"labels have shape \(5, 1\) and dtype int64; expected one integer"):
        evaluate(model, data)


def test_evaluate_refuses_what_is_not_a_pair_and_what_is_empty(model):
    for data in (own(Y).map(lambda x, y: x), own(Y).map(lambda x, y: (x, y, y))):
        with pytest.raises(DataError, match="must give pairs of images and labels"):
            evaluate(model, data)
    with pytest.raises(DataError, match="the dataset is empty"):
        evaluate(model, own(Y).take(0))


@pytest.mark.parametrize("label", [-1, 4])
def test_finetune_refuses_labels_of_both_datasets(model, label):
    bad = changed(7, label)
    with pytest.raises(DataError, match=f"^label {label} of image 2 in batch 1 of train is wrong"):
        finetune(model, own(bad, endless=True), own(Y), epochs=1)
    with pytest.raises(DataError, match=f"^label {label} of image 2 in batch 1 of validation is wrong"):
        finetune(model, own(Y, endless=True), own(bad), epochs=1)


def test_finetune_refuses_labels_of_another_kind(model):
    data = own(Y / 1, endless=True)
    with pytest.raises(
        DataError, match=r"the labels of train have shape \(None,\) and dtype float64; expected"
    ):
        finetune(model, data, epochs=1)
    soft = own(np.float32(keras.utils.to_categorical(Y % 3)), endless=True)
    with pytest.raises(DataError, match=r"or \(4,\) shares of the classes"):
        finetune(model, soft, epochs=1)


def test_checked_batches_are_the_same(model):
    batches = checked_labels(own(Y), 4, "data").as_numpy_iterator()
    for found, expected in zip(batches, own(Y).as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    soft = own(np.float32(keras.utils.to_categorical(Y)))
    assert checked_labels(soft, 4, "data") is soft
    assert len(list(checked_labels(own(Y.astype(np.int8)), 1000, "data"))) == 3
    with pytest.raises(DataError, match="label 5 of image 0 in batch 2 of data"), clear_errors():
        list(checked_labels(own(changed(10, 5)), 4, "data"))


def test_arrays_have_the_same_classes_in_both_splits(tmp_path):
    arrays = ((X, Y % 2), (X, Y))
    for split in ("train", "test"):
        assert make_dataset(arrays, split, batch_size=4).class_names == tuple("0123")
    with pytest.raises(DataError, match="label 1000000000000 is wrong: labels count the classes from 0 on"):
        make_dataset((X, changed(3, 10**12)), batch_size=4)
