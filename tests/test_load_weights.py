"""Weights fit as a whole, or nothing changes."""

import numpy as np
import pytest

from keras_resnet import build_resnet, load_weights

OPTIONS = dict(
    stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, stem_filters=8, input_shape=(8, 8, 3)
)


def tiny(num_classes=4, **options):
    return build_resnet(num_classes=num_classes, **OPTIONS | options)


def test_round_trip_through_both_formats(tmp_path):
    model = tiny()
    for variable in model.weights:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    model.save(tmp_path / "whole.keras")
    model.save_weights(tmp_path / "only.weights.h5")
    for file in ("whole.keras", "only.weights.h5"):
        loaded = tiny(weights=tmp_path / file)
        for ours, theirs in zip(loaded.weights, model.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_another_head_is_refused_and_nothing_is_loaded(tmp_path, suffix):
    file = tmp_path / f"ten{suffix}"
    source = tiny(num_classes=10)
    source.save(file) if suffix == ".keras" else source.save_weights(file)
    model = tiny(num_classes=4)
    before = [v.numpy() for v in model.weights]
    with pytest.raises(ValueError, match=f"ten{suffix}"):
        load_weights(model, file)
    assert all(np.array_equal(b, v) for b, v in zip(before, model.weights, strict=True))


def test_differences_are_listed(tmp_path):
    tiny(num_classes=10).save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match=r"head/kernel: \(8, 10\) in the file, \(8, 4\) in the model"):
        tiny(weights=tmp_path / "a.keras")
    with pytest.raises(ValueError, match=r"missing in the file: stage1_block2_bn1/beta"):
        tiny(num_classes=10, stages=((2, 8),), weights=tmp_path / "a.keras")


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_damaged_files_are_named(tmp_path, suffix):
    file = tmp_path / f"damaged{suffix}"
    source = tiny()
    source.save(file) if suffix == ".keras" else source.save_weights(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"damaged{suffix}"):
        tiny(weights=file)


def test_missing_and_unknown_files(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.keras.*no such file"):
        tiny(weights="nowhere.keras")
    (tmp_path / "weights.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"ends in \.keras or \.weights\.h5"):
        tiny(weights=tmp_path / "weights.txt")
