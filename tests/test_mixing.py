"""MixUp, CutMix and label smoothing of batches."""

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import make_dataset
from keras_resnet.data.mixing import mix, mix_dataset

BATCH, SIDE = 63, 16
# Image i is of grey level 3 i, and of class i modulo 4.
IMAGES = np.broadcast_to(3 * np.arange(BATCH, dtype=np.uint8)[:, None, None, None], (BATCH, SIDE, SIDE, 3))
LABELS = np.arange(BATCH) % 4


def mixed(step, **options):
    images, labels = mix(tf.constant(IMAGES), LABELS, step, num_classes=4, seed=5, **options)
    return images.numpy(), labels.numpy()


def shares(**options):
    """The share that the images keep, in each of 400 batches."""
    run = tf.function(
        lambda step: mix(tf.constant(IMAGES), LABELS, step, num_classes=4, seed=5, **options)[1][0, 0]
    )
    return np.array([run(tf.constant(step)).numpy() for step in range(400)])


def test_smoothing():
    images, labels = mixed(0, label_smoothing=0.1)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_allclose(labels, np.eye(4)[LABELS] * 0.9 + 0.025, atol=1e-7)


@pytest.mark.parametrize("step", range(3))
def test_mixup_is_a_weighted_sum_with_the_reverse(step):
    images, labels = mixed(step, mixup=1.0, label_smoothing=0.2)
    one_hot = np.eye(4)[LABELS] * 0.8 + 0.05
    kept = (labels[0, 0] - 0.05) / 0.8  # the last image is of class 2
    assert 0.01 < kept < 0.99
    np.testing.assert_allclose(labels, kept * one_hot + (1 - kept) * one_hot[::-1], atol=1e-6)
    wanted = kept * IMAGES.astype(float) + (1 - kept) * IMAGES[::-1]
    assert images.dtype == np.uint8
    assert np.abs(images - wanted).max() <= 0.501


@pytest.mark.parametrize("step", range(5))
def test_cutmix_pastes_one_rectangle_of_the_reverse(step):
    images, labels = mixed(step, cutmix=1.0)
    other = (images != IMAGES).any(axis=(0, 3))
    np.testing.assert_array_equal(images, np.where(other[None, :, :, None], IMAGES[::-1], IMAGES))
    rows, columns = other.any(axis=1), other.any(axis=0)
    np.testing.assert_array_equal(other, rows[:, None] & columns[None, :])
    assert all(np.abs(np.diff(np.r_[0, x, 0].astype(int))).sum() <= 2 for x in (rows, columns))
    # The share of the labels is that of the pixels, after the rectangle was cut off at the border.
    assert labels[0, 0] == pytest.approx(1 - other.mean(), abs=1e-6)
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_have_the_moments_of_the_distribution(alpha):
    kept = shares(mixup=alpha)
    # 400 draws: four standard errors.
    variance = 1 / (4 * (2 * alpha + 1))
    assert kept.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / 400))
    assert kept.var() == pytest.approx(variance, rel=0.25)
    assert len(np.unique(kept)) > 300


def test_with_both_a_fair_coin_decides():
    run = tf.function(
        lambda step: mix(tf.constant(IMAGES), LABELS, step, num_classes=4, seed=5, mixup=1.0, cutmix=1.0)[0]
    )
    batches = [run(tf.constant(step)).numpy() for step in range(60)]
    sums = sum(not ((images == IMAGES) | (images == IMAGES[::-1])).all() for images in batches)
    assert 15 <= sums <= 45


def test_a_batch_depends_on_its_number_and_seed_alone():
    options = dict(mixup=0.4, cutmix=1.0, label_smoothing=0.1)
    batches = {}
    for start in (0, 3):
        dataset = make_dataset("digits", batch_size=16, seed=2, start_step=start)
        dataset = mix_dataset(dataset, seed=2, start_step=start, **options)
        batches[start] = list(dataset.take(6 - start).as_numpy_iterator())
    for whole, continued in zip(batches[0][3:], batches[3], strict=True):
        np.testing.assert_array_equal(whole[0], continued[0])
        np.testing.assert_array_equal(whole[1], continued[1])
    assert dataset.class_names == tuple("0123456789")
    assert dataset.element_spec[1].shape == (16, 10)
    images, _ = mix(tf.constant(IMAGES), LABELS, 3, num_classes=4, seed=6, **options)
    other, _ = mix(tf.constant(IMAGES), LABELS, 3, num_classes=4, seed=7, **options)
    assert (images.numpy() != other.numpy()).any()
