"""Heat maps lie where the evidence does, in every family."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from exporting import FAMILIES, network
from test_table import shallow

from keras_resnet import VARIANTS, build_resnet, gradcam, open_model
from keras_resnet.preprocessing import evaluation_transform
from keras_resnet.resnet import build_variant
from keras_resnet.summary import stage_outputs
from keras_resnet.weights.records import Transform

SIDE = 16
CORNERS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def with_mark(rng, corner, side=SIDE):
    """A grey image with noise, and a mark of a quarter of its side in one corner."""
    image = rng.integers(90, 110, (side, side, 3), np.uint8)
    rows, columns = (slice(-side // 4, None) if last else slice(side // 4) for last in corner)
    image[rows, columns] = (250, 20, 20)
    return image


def corner_of(heat):
    """The corner in which the maximum lies, and whether it lies in the outer third."""
    at = np.array(np.unravel_index(heat.argmax(), heat.shape)) / (len(heat) - 1)
    return tuple(int(n > 0.5) for n in at), bool((abs(at - 0.5) > 1 / 6).all())


def read_the_mark(model, rng):
    """Let class 3 be the difference that the mark of the first corner makes, in what the head pools."""
    maps = keras.Model(model.input, model.get_layer("head_pool").input)(with_mark(rng, (0, 0))[None])[0]
    weights = np.asarray(maps)[1, 1] - np.asarray(maps)[2:-1, 2:-1].mean(axis=(0, 1))
    kernel = model.get_layer("head").kernel.numpy()
    kernel[:, 3] = weights
    model.get_layer("head").kernel.assign(kernel)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_maximum_lies_in_the_corner_of_the_evidence(family, rng):
    model = network(family, input_shape=(SIDE, SIDE, 3))
    read_the_mark(model, rng)
    image = with_mark(rng, (0, 0))
    heat = gradcam(model, [image, image[:, ::-1], image[::-1]], 3)
    assert (heat.shape, heat.dtype) == ((3, SIDE, SIDE), np.float32)
    assert (heat.min(axis=(1, 2)) >= 0).all()
    assert (heat.max(axis=(1, 2)) == 1).all()
    assert [corner_of(one) for one in heat] == [((0, 0), True), ((0, 1), True), ((1, 0), True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_those_of_the_equations(family, rng):
    """One pass from the image to the logits, and the tape over all of it."""
    model = network(family, classifier_activation=None, input_shape=(SIDE, SIDE, 3))
    images = rng.integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    both = keras.Model(model.input, [stage_outputs(model)["stage1"], model.output])
    with tf.GradientTape() as tape:
        maps, logits = both(tf.cast(images, tf.float32), training=False)
        score = logits[0, 1] + logits[1, 4] + logits[2, 0]
    weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)
    expected = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1, keepdims=True))
    expected = tf.image.resize(expected, (SIDE, SIDE))[..., 0].numpy()
    assert expected.any()
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-30)
    model.trainable = False
    np.testing.assert_allclose(gradcam(model, images, [1, 4, 0], stage=1), expected, atol=1e-4)


@pytest.fixture(scope="module")
def trained():
    """Class 1 has a mark in some corner, class 0 has none."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    y = np.arange(64) % 2
    plain = rng.integers(90, 110, (64, SIDE, SIDE, 3), np.uint8)
    x = np.stack([with_mark(rng, CORNERS[i // 2 % 4]) if y[i] else plain[i] for i in range(64)])
    model = build_resnet(
        stages=((1, 8), (1, 16)), block="basic", stem="conv3", stem_pool=None, stem_filters=8,
        norm_momentum=0.5, num_classes=2, input_shape=(SIDE, SIDE, 3), normalization=(0.5, 0.25),
    )  # fmt: skip
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=16, epochs=8, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] == 1
    return model


@pytest.mark.parametrize("stage", [None, 2, 1])
def test_a_network_that_was_trained(trained, stage, rng):
    images = np.stack([with_mark(rng, corner) for corner in CORNERS])
    heat = gradcam(trained, images, stage=stage)
    assert [corner_of(one)[0] for one in heat] == CORNERS
    np.testing.assert_array_equal(heat, gradcam(trained, images, 1, stage))


def test_of_a_file_and_of_logits(trained, rng, tmp_path):
    images = np.stack([with_mark(rng, corner) for corner in CORNERS])
    trained.save(tmp_path / "net.keras")
    logits = keras.Model(trained.input, trained.get_layer("head").output)
    expected = gradcam(trained, images, 1)
    for model in (keras.saving.load_model(tmp_path / "net.keras"), logits):
        np.testing.assert_allclose(gradcam(model, images, 1), expected, atol=1e-6)
    assert open_model(tmp_path / "net.keras").model is not None


def test_a_sure_network_has_maps_still(trained, rng):
    """The gradient of the softmax would be zero in float32."""
    sure = keras.models.clone_model(trained)
    sure.set_weights(trained.get_weights())
    head = sure.get_layer("head").kernel
    head.assign(head.numpy() * 1e3)
    image = with_mark(rng, (1, 0))[None]
    assert sure(image)[0, 1] == 1
    np.testing.assert_allclose(gradcam(sure, image), gradcam(trained, image), atol=1e-5)


def test_the_margin_that_a_transform_cuts_off_is_cold(rng):
    front = keras.Input((None, None, 3), name="image")
    transform = Transform(
        size=16, crop_fraction=0.8, interpolation="bilinear", antialias=True, mean=(0.5,) * 3, std=(0.25,) * 3
    )  # fmt: skip
    model = build_resnet(
        stages=((1, 8), (1, 16)), block="basic", stem="conv3", stem_pool=None, num_classes=4,
        input_tensor=evaluation_transform(front, transform),
    )  # fmt: skip
    read_the_mark(model, rng)
    image = np.pad(with_mark(rng, (0, 1), 32), ((4, 4), (14, 14), (0, 0)), constant_values=100)
    heat = gradcam(model, image[None], 3)[0]
    assert heat.shape == (40, 60)
    assert corner_of(heat[4:36, 14:46])[0] == (0, 1)
    heat[4:36, 14:46] = 0
    assert not heat.any()


def test_half_precision(rng):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = network("bottleneck", input_shape=(SIDE, SIDE, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    read_the_mark(model, rng)
    assert corner_of(gradcam(model, [with_mark(rng, (0, 0))], 3)[0]) == ((0, 0), True)


def test_nothing_speaks_for_the_class(rng):
    model = network("basic")
    kernel = model.get_layer("head").kernel
    kernel.assign(-abs(kernel.numpy()))
    assert not gradcam(model, rng.integers(0, 256, (40, 8, 8, 3), np.uint8)).any()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(class_index=6), "class_index=6 must be from 0 to 5"),
        (dict(class_index=-1), "class_index=-1 must be from 0 to 5"),
        (dict(class_index=1.0), "class_index=1.0 must be an integer"),
        (dict(class_index=[1, 2, 3]), "one for each of 2 images"),
        (dict(stage=3), "has stage1, stage2; asked for stage=3"),
        (
            dict(images=np.zeros((8, 8, 3))),
            r"images of shape \(8, 8, 3\): expected \(batch, height, width, 3\)",
        ),
        (dict(images=np.zeros((0, 8, 8, 3))), r"images of shape \(0, 8, 8, 3\)"),
        (dict(images=np.zeros((1, 8, 8, 1))), r"expected \(batch, height, width, 3\)"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        gradcam(network("basic"), **dict(images=np.zeros((2, 8, 8, 3))) | options)


@pytest.mark.parametrize("pooling", [None, "avg"])
def test_without_a_head_there_is_no_class(pooling):
    model = network("basic", include_top=False, pooling=pooling)
    with pytest.raises(ValueError, match="'basic' has no pooling and head"):
        gradcam(model, np.zeros((1, 8, 8, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant(name, rng):
    model = build_variant(shallow(name), num_classes=5, input_shape=(64, 64, 3), normalization=(0.5, 0.25))
    images = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    for stage in (None, *range(1, len(stage_outputs(model)) + 1)):
        heat = gradcam(model, images, [1, 2], stage)
        assert heat.shape == (2, 64, 64)
        assert np.isfinite(heat).all()
        assert 0 <= heat.min() <= heat.max() <= 1
