"""Augmentation: each operation beside that of timm or torchvision, and the policies."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from keras_resnet import DataError, make_dataset
from keras_resnet.data import augment, transforms

TIMM = [
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
]
TORCHVISION = [
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
]
# Sums of the pixels of `picture()` after each operation at level 0.6, sign 1, bilinear.
SUMS = {
    "timm AutoContrast": 731657,
    "timm Equalize": 772491,
    "timm Invert": 901440,
    "timm Rotate": 575801,
    "timm PosterizeIncreasing": 391232,
    "timm SolarizeIncreasing": 457264,
    "timm SolarizeAdd": 835848,
    "timm ColorIncreasing": 540770,
    "timm ContrastIncreasing": 552888,
    "timm BrightnessIncreasing": 843245,
    "timm SharpnessIncreasing": 567360,
    "timm ShearX": 582965,
    "timm ShearY": 591483,
    "timm TranslateXRel": 639820,
    "timm TranslateYRel": 643776,
    "torchvision Identity": 567360,
    "torchvision ShearX": 447005,
    "torchvision ShearY": 385574,
    "torchvision TranslateX": 282180,
    "torchvision TranslateY": 230832,
    "torchvision Rotate": 478119,
    "torchvision Brightness": 864874,
    "torchvision Color": 538787,
    "torchvision Contrast": 552860,
    "torchvision Sharpness": 567360,
    "torchvision Posterize": 526272,
    "torchvision Solarize": 458080,
    "torchvision AutoContrast": 731657,
    "torchvision Equalize": 772491,
}


def picture(mode="RGB"):
    """A smooth image without symmetry."""
    rows, columns = np.mgrid[:40, :48]
    bands = [5 * rows + 10, 4 * columns + 20, 2 * rows + 3 * columns // 2]
    return Image.fromarray(np.stack(bands, -1).astype(np.uint8)).convert(mode)


def numbers(count):
    return transforms.uniforms(0, 0, tf.constant(0, tf.int64), count, 64).numpy().tolist()


@functools.cache
def import_library(name):
    pytest.importorskip("torch")
    from keras_resnet.inference import references

    try:
        return references.import_library(name)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("position", range(15), ids=TIMM)
def test_operations_are_those_of_timm(position, monkeypatch):
    import_library("timm")
    from timm.data import auto_augment

    for magnitude, sign, how in itertools.product((0, 3, 6, 9), (1, -1), (Image.BILINEAR, Image.BICUBIC)):
        monkeypatch.setattr(auto_augment, "_randomly_negate", lambda value, sign=sign: sign * value)
        settings = dict(img_mean=(124, 116, 104), interpolation=how)
        theirs = auto_augment.AugmentOp(TIMM[position], 1.0, magnitude, settings)(picture())
        ours = augment.RAND_AUGMENT[position](picture(), magnitude / 10, sign, how)
        np.testing.assert_array_equal(ours, theirs, f"{magnitude} {sign} {how}")


@pytest.mark.parametrize("position", range(14), ids=TORCHVISION)
def test_operations_are_those_of_torchvision(position):
    import_library("torchvision")
    from torchvision.transforms import InterpolationMode, autoaugment

    magnitudes, signed = autoaugment.TrivialAugmentWide()._augmentation_space(31)[TORCHVISION[position]]
    for place, sign in itertools.product((0, 7, 30), (1, -1)):
        magnitude = float(magnitudes[place]) if magnitudes.ndim else 0.0
        magnitude = sign * magnitude if signed else magnitude
        nearest = InterpolationMode.NEAREST
        theirs = autoaugment._apply_op(picture(), TORCHVISION[position], magnitude, nearest, None)
        ours = augment.TRIVIAL_AUGMENT[position](picture(), place / 30, sign)
        # Torchvision's magnitudes are of single precision: a grey level or a nearest pixel may differ.
        assert (abs(np.asarray(ours, int) - np.asarray(theirs, int)) > 1).mean() < 0.01, f"{place} {sign}"


def test_operations_without_the_others():
    table = {}
    for name, operation in zip(TIMM, augment.RAND_AUGMENT, strict=True):
        image = operation(picture(), 0.6, 1, Image.Resampling.BILINEAR)
        table[f"timm {name}"] = int(np.asarray(image, int).sum())
    for name, operation in zip(TORCHVISION, augment.TRIVIAL_AUGMENT, strict=True):
        table[f"torchvision {name}"] = int(np.asarray(operation(picture(), 0.6, 1), int).sum())
    assert table == pytest.approx(SUMS, rel=0.002)
    black = augment.RAND_AUGMENT[4](picture(), 1.0, 1, Image.Resampling.BILINEAR)
    assert not np.any(black)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_operation_keeps_mode_and_size(mode):
    image = picture(mode)
    for operation in augment.RAND_AUGMENT:
        out = operation(image, 0.5, -1, Image.Resampling.BICUBIC)
        assert (out.mode, out.size) == (image.mode, image.size)
    for operation in augment.TRIVIAL_AUGMENT:
        out = operation(image, 0.5, -1)
        assert (out.mode, out.size) == (image.mode, image.size)
    pixels = np.asarray(image).reshape(40, 48, -1)
    jitter = functools.partial(augment.color_jitter, u=[0.1, 0.2, 0.3, 0.4], strength=0.4)
    assert augment.augment(pixels, [jitter]).shape == pixels.shape


def test_rand_augment_draws_every_operation_half_of_the_time(monkeypatch):
    calls = []
    record = [
        lambda image, level, sign, how, name=name: calls.append((name, level, sign, how)) or image
        for name in TIMM
    ]
    monkeypatch.setattr(augment, "RAND_AUGMENT", record)
    draws = numbers(2000)
    for u in draws:
        augment.rand_augment(None, u, 6.0)
    names, levels, signs, filters = zip(*calls, strict=True)
    assert 900 < len(calls) < 1100
    assert set(names) == set(TIMM)
    assert abs(np.mean(levels) - 0.6) < 0.005
    assert abs(np.std(levels) - 0.05) < 0.004
    assert abs(np.mean(signs)) < 0.1
    assert len(set(filters)) == 2
    calls.clear()
    for u in draws:
        augment.rand_augment(None, u, 10.0)
    assert max(level for _, level, *_ in calls) == 1.0


def test_trivial_augment_draws_31_magnitudes(monkeypatch):
    calls = []
    monkeypatch.setattr(
        augment, "TRIVIAL_AUGMENT", [lambda image, *a, n=n: calls.append((n, *a)) for n in range(14)]
    )
    for u in numbers(3000):
        augment.trivial_augment(None, u)
    positions, levels, signs = zip(*calls, strict=True)
    assert np.bincount(positions).min() > 150
    np.testing.assert_allclose(sorted(set(levels)), np.arange(31) / 30)
    assert abs(np.mean(signs)) < 0.06


def test_color_jitter_enhances_in_six_orders():
    image, half, orders = picture(), [0.5 + 0.5 * 0.5, 0.25, 0.0], set()
    for number in (np.arange(6) + 0.5) / 6:
        orders.add(augment.color_jitter(image, [*half, number], 0.4).tobytes())
    assert len(orders) == 6
    expected = image
    for enhancer, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), (1.2, 0.8, 0.6), strict=True
    ):
        expected = enhancer(expected).enhance(factor)
    np.testing.assert_array_equal(augment.color_jitter(image, [*half, 0.01], 0.4), expected)


@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment"])
def test_pipeline_with_everything(folder, policy):
    options = dict(image_size=12, batch_size=5, crop="resized", flip=True, augment=policy, color_jitter=0.3)
    options |= dict(erase=0.5, augment_ops=3, seed=4)
    whole = [x for x, _ in make_dataset(folder, **options).take(4).as_numpy_iterator()]
    assert {x.shape for x in whole} == {(5, 12, 12, 3)}
    later = make_dataset(folder, start_step=2, **options).take(2).as_numpy_iterator()
    for x, (y, _) in zip(whole[2:], later, strict=True):
        np.testing.assert_array_equal(x, y)


def test_augmentation_needs_colour_or_grey():
    arrays = (np.zeros((8, 6, 6, 2), np.uint8), np.zeros(8, int))
    with pytest.raises(DataError, match="augment and color_jitter need 1 or 3 channels, not 2"):
        make_dataset(arrays, batch_size=4, color_jitter=0.1)
