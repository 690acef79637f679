"""The evaluation transform: in a pipeline as Pillow computes it, and in front of a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from safetensors.numpy import save_file

import keras_resnet
from keras_resnet import to_state_dict
from keras_resnet.data.decode import read_image
from keras_resnet.data.transforms import resize_and_crop
from keras_resnet.preprocessing import evaluation_transform
from keras_resnet.weights import load
from keras_resnet.weights.records import get_record, list_records

# One record of each way to resize.
RECORDS = [
    "torchvision/resnet50.imagenet1k_v1",
    "torchvision/resnet50.imagenet1k_v2",
    "timm/resnet50.a1_in1k",
    "timm/resnet50d.ra2_in1k",
]


def pillow(image, transform):
    """What torchvision's and timm's evaluation transforms do before they normalise."""
    picture, short = Image.fromarray(image), transform.resize
    side = min(picture.size)
    resized = picture.resize(
        [short * n // side for n in picture.size], Image.Resampling[transform.interpolation.upper()]
    )
    left, top = (round((n - transform.size) / 2) for n in resized.size)
    return np.asarray(resized.crop((left, top, left + transform.size, top + transform.size))).astype(int)


def options(transform):
    return transform.size, transform.crop_fraction, transform.interpolation


@pytest.mark.parametrize("name", RECORDS)
def test_pipeline_equals_pillow_on_photographs(shared, name):
    transform = get_record(name).transform
    photos = sorted((shared / "data/photos").iterdir())
    assert len(photos) > 60
    for photo in photos:
        image = read_image(photo)
        ours = resize_and_crop(tf.constant(image), *options(transform)).numpy()
        difference = abs(ours.astype(int) - pillow(image, transform))
        assert difference.max() <= (1 if transform.interpolation == "bilinear" else 0), photo.name
        assert difference.mean() < 0.03, photo.name


@pytest.mark.parametrize("size, bound", [((300, 300), 0.3), ((450, 300), 2), ((300, 450), 2)])
@pytest.mark.parametrize("name", RECORDS)
def test_layers_come_close_to_pillow(name, size, bound, rng):
    transform = get_record(name).transform
    image = np.asarray(Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).resize(size))
    inputs = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(inputs, evaluation_transform(inputs, transform))
    levels = np.array(model(image[None]))[0] * transform.std + transform.mean
    assert abs(levels * 255 - pillow(image, transform)).mean() < bound


def test_calling_a_model_with_the_transform_trains_nothing():
    inputs = keras.Input((None, None, 3), dtype="uint8")
    norm = keras.layers.BatchNormalization()
    model = keras.Model(inputs, norm(evaluation_transform(inputs, get_record(RECORDS[0]).transform)))
    model(np.full((2, 300, 300, 3), 99, np.uint8))
    assert not np.any(norm.moving_mean.numpy())
    model(np.full((2, 300, 300, 3), 99, np.uint8), training=True)
    assert np.any(norm.moving_mean.numpy())


def test_every_record_has_a_transform_that_builds():
    for name in list_records():
        transform = get_record(name).transform
        inputs = keras.Input((None, None, 3), dtype="uint8")
        assert evaluation_transform(inputs, transform).shape == (None, transform.size, transform.size, 3)


def test_model_with_preprocessing_takes_pixels_of_any_size(tmp_path, monkeypatch):
    record = get_record("torchvision/resnet18.imagenet1k_v1")
    source = keras_resnet.build_resnet18()
    save_file(to_state_dict(source), tmp_path / "weights.safetensors")
    monkeypatch.setattr(load, "download", lambda record: tmp_path / "weights.safetensors")
    model = keras_resnet.build_resnet18(weights=record.name, preprocess=True)
    assert model.input_shape == (None, None, None, 3)
    assert {type(layer).__module__.partition(".")[0] for layer in model.layers} == {"keras"}
    image = np.full((1, 300, 400, 3), 200, np.uint8)
    normalised = (np.full((1, 224, 224, 3), 200) / 255 - record.transform.mean) / record.transform.std
    np.testing.assert_allclose(model(image), source(normalised.astype("float32")), atol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(weights=None), "preprocess=True needs weights from a record, not None"),
        (dict(weights="torchvision/resnet18.imagenet1k_v1", normalization=(0.5, 0.5)), "leave out both"),
    ],
)
def test_preprocessing_needs_a_record(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_resnet.build_resnet18(preprocess=True, **arguments)
