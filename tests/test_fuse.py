"""What `fuse` returns computes what the model computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_table import shallow

from keras_resnet import VARIANTS, build_resnet, features, fuse, make_dataset
from keras_resnet.inference import convolutions, store
from keras_resnet.inference import fuse as module
from keras_resnet.inference.artifacts import from_weights
from keras_resnet.resnet import build_variant
from keras_resnet.weights.synthetic import synthetic_tensor

CIFAR = dict(stem="conv3", stem_pool=None, stem_filters=8, stages=((2, 8), (1, 16)), block="basic")
PREACT = dict(preactivation=True, shortcut="conv", stem_pool="max")
GROUPS = dict(stem_filters=32, stages=((1, 32), (1, 64)), norm="group")
# What there is to lower: one small network for each.
FAMILIES = {
    "basic": dict(block="basic"),
    "bottleneck": {},
    "original": dict(stride_conv="conv1", conv_bias="all"),
    "deep": dict(stem="deep", stem_filters=(4, 4, 8), shortcut="pool_conv_norm"),
    "tiered conv": dict(stem_pool="conv", attention="se", se_ratio=0.25),
    "eca": dict(attention="eca", shortcut="conv3_norm"),
    "blur": dict(downsample="blur", stem_pool="blur"),
    "average": dict(downsample="avg", stem_pool="avg", stem_norm=False),
    "narrow groups": dict(cardinality=4, base_width=32),
    "wide groups": dict(cardinality=2, base_width=128, conv_bias="all"),
    "preactivation": PREACT,
    "keras v2": dict(PREACT, stride_block="last", conv_bias="unnormalized", stem_pool="max_zero"),
    "cifar": dict(CIFAR, shortcut="pad"),
    "cifar preactivation": dict(CIFAR, preactivation=True, shortcut="pad"),
    "group norm": GROUPS,
    "standardized": dict(GROUPS, standardize_weights=True, **PREACT | dict(stem_pool="max_zero")),
    "dropped": dict(dropout=0.5, drop_path=0.5, drop_block=0.5),
    "feature map": dict(include_top=False),
    "vector": dict(include_top=False, pooling="max"),
    "pixels": dict(normalization=((0.4, 0.5, 0.6), 0.25), classifier_activation=None),
}


def synthetic(model):
    for variable in model.weights:
        variable.assign(synthetic_tensor(variable.path, tuple(variable.shape)))
    return model


def small(family):
    options = dict(stages=((1, 8), (1, 16)), stem_filters=8, num_classes=5, input_shape=(16, 16, 3))
    return synthetic(build_resnet(**options | FAMILIES[family]))


@pytest.fixture
def images(rng):
    return rng.normal(size=(3, 16, 16, 3)).astype("float32")


def kinds(function):
    return [operation.type for operation in function.graph.get_operations()]


@pytest.mark.parametrize("family", FAMILIES)
def test_same_outputs(family, rng):
    model = small(family)
    pixels = family == "pixels"
    images = (rng.random((3, 16, 16, 3)) * (255 if pixels else 1)).astype("float32")
    fused = fuse(model)
    expected = model(images, training=False).numpy()
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(fused(images), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bottleneck", "cifar", "deep", "original", "tiered conv"])
def test_nothing_is_left_of_normalisation_and_padding(family):
    found = kinds(fuse(small(family)).function)
    assert {"Rsqrt", "Sub", "AddN"} & set(found) == set()
    assert found.count("Pad") == (1 if FAMILIES[family].get("stem_pool", "max_zero") == "max_zero" else 0) + (
        family == "cifar"
    )
    assert found.count("Mul") == (2 if "attention" in FAMILIES[family] else 0)
    assert found.count("BiasAdd") == found.count("Conv2D") + 1  # and the dense layer


def test_a_convolution_that_two_layers_read_is_computed_once():
    model = small("cifar preactivation")
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert kinds(fuse(model).function).count("Conv2D") == len(convolutions)


@pytest.mark.parametrize("compute", [convolutions.with_add, convolutions.in_parts])
@pytest.mark.parametrize("family", ["narrow groups", "wide groups"])
def test_every_way_to_convolve_in_groups(family, compute, images, monkeypatch):
    monkeypatch.setattr(module, "fastest_with_groups", lambda: compute)
    model = small(family)
    np.testing.assert_allclose(fuse(model)(images), model(images, training=False), atol=1e-5)


def test_the_form_for_other_machines_is_computed_by_this_one(images):
    model = small("narrow groups")
    forward = tf.function(fuse(model).forward)  # in a graph, where fusion may fail
    np.testing.assert_allclose(forward(images), model(images, training=False), atol=1e-5)


def test_the_way_to_convolve_in_groups_follows_the_kernels(monkeypatch):
    for native, expected in ((True, convolutions.with_bias_add), (False, convolutions.in_parts)):
        monkeypatch.setattr(convolutions, "has_vendor_kernels", lambda native=native: native)
        assert convolutions.fastest_with_groups.__wrapped__() is expected


def test_models_of_models_and_of_several_outputs(images):
    backbone = small("feature map")
    head = [keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(4, "softmax")]
    model = keras.Sequential([keras.Input((16, 16, 3)), backbone, *head])
    np.testing.assert_allclose(fuse(model)(images), model(images, training=False), atol=1e-5)
    stages = features(small("basic"), (1, 2))
    fused = fuse(stages)(images)
    for name, expected in stages(images, training=False).items():
        np.testing.assert_allclose(fused[name], expected, atol=1e-5)


def test_a_layer_in_two_places_and_an_operation(images):
    inputs = keras.Input((16, 16, 3))
    conv, norm = keras.layers.Conv2D(4, 3, name="my conv"), keras.layers.BatchNormalization()
    y = norm(conv(inputs)) + 2.0 * conv(inputs)
    model = synthetic(keras.Model(inputs, keras.ops.tanh(y)))
    np.testing.assert_allclose(fuse(model)(images), model(images, training=False), atol=1e-5)


def test_a_model_of_another_policy_becomes_float32(images):
    expected = fuse(small("average"))(images)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small("average")
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(fuse(model)(images), expected, atol=1e-6)


def test_weights_that_are_too_many_for_a_graph(images, monkeypatch, tmp_path):
    monkeypatch.setattr(store, "MAX_CONSTANTS", 0)
    model = small("narrow groups")
    fused = fuse(model)
    np.testing.assert_allclose(fused(images), model(images, training=False), atol=1e-5)
    constants = [op for op in fused.function.graph.get_operations() if op.type == "Const"]
    assert 4 not in {op.outputs[0].shape.rank for op in constants}
    served = tf.Module()
    served.fused, served.serve = fused, tf.function(fused.forward, [tf.TensorSpec((None, 16, 16, 3))])
    tf.saved_model.save(served, tmp_path)
    loaded = tf.saved_model.load(tmp_path)
    np.testing.assert_allclose(loaded.serve(images), fused(images), atol=1e-5)


def test_what_happens_to_the_model_later_stays_there(images):
    model = small("basic")
    fused = fuse(model)
    before = fused(images).numpy()
    model.set_weights([w + 1 for w in model.get_weights()])
    np.testing.assert_array_equal(fused(images), before)


@pytest.mark.parametrize("family", ["tiered conv", "eca", "preactivation", "standardized", "wide groups"])
def test_bfloat16(family, images, monkeypatch):
    monkeypatch.setattr(module, "computes_bfloat16", lambda: True)
    model = small(family)
    fused = fuse(model, "bfloat16")
    assert fused.precision == "bfloat16"
    convolutions = [op for op in fused.function.graph.get_operations() if op.type in ("Conv2D", "MatMul")]
    assert {op.outputs[0].dtype for op in convolutions if op.type == "Conv2D"} == {tf.bfloat16}
    assert {op.outputs[0].dtype for op in convolutions if op.type == "MatMul"} == {tf.float32}
    outputs = fused(images)
    assert outputs.dtype == tf.float32
    np.testing.assert_allclose(outputs, model(images, training=False), atol=0.02)


def test_bfloat16_without_units_stays_float32(images, monkeypatch):
    monkeypatch.setattr(module, "computes_bfloat16", lambda: False)
    with pytest.warns(UserWarning, match="stays float32, which is faster here"):
        assert fuse(small("basic"), "bfloat16").precision == "float32"


def test_models_that_cannot_be_fused():
    with pytest.raises(ValueError, match=r"precision='float16' is unknown; choose one of float32, bfloat16"):
        fuse(small("basic"), "float16")
    with pytest.raises(ValueError, match="does not take one batch of images"):
        fuse(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="neither a Functional nor a Sequential model"):
        fuse(keras.layers.Dense(2))


@pytest.fixture(scope="module")
def takes():
    return {"pixels": fuse(small("pixels")), "floats": fuse(small("basic"))}


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


@pytest.mark.parametrize(
    "kind, images, message",
    [
        ("pixels", PIXELS / 255, "floats from .* to .*; 'functional.*' takes pixels of 0 to 255"),
        ("pixels", PIXELS / 127.5 - 1, "takes pixels of 0 to 255"),
        ("floats", PIXELS, r"the images are uint8; .*normalization=\(mean, std\)"),
        ("floats", PIXELS.astype("float32"), "looks like pixels"),
        ("floats", np.full((1, 16, 16, 3), np.nan), "not finite"),
        ("floats", np.zeros((1, 16, 16, 3), bool), "the images are bool"),
        ("floats", np.zeros((1, 3, 16, 16)), "channels first; .* transpose them"),
        ("floats", np.zeros((16, 16, 3)), r"a single one; .*images\[None\]"),
        ("floats", np.zeros((1, 16, 16, 1)), r"takes \(batch, 16, 16, 3\)"),
        ("floats", np.zeros((1, 16, 18, 3)), r"takes \(batch, 16, 16, 3\)"),
        ("floats", np.zeros((0, 16, 16, 3)), "the batch is empty"),
    ],
)
def test_images_that_do_not_fit(kind, images, message, takes):
    for call in (takes[kind], takes[kind].predict):
        with pytest.raises(ValueError, match=message):
            call(images)


def test_images_that_fit(takes):
    fused = takes["pixels"]
    outputs = fused(PIXELS).numpy()
    np.testing.assert_allclose(fused(PIXELS.astype("float64")), outputs, atol=1e-6)
    np.testing.assert_allclose(fused(tf.constant(PIXELS)), outputs, atol=1e-6)
    fused(np.zeros((1, 16, 16, 3), "float32"))  # black
    np.testing.assert_allclose(fused.predict(PIXELS, batch_size=2), outputs, atol=1e-6)
    labelled = tf.data.Dataset.from_tensor_slices((PIXELS, [0, 1, 2])).batch(2)
    np.testing.assert_allclose(fused.predict(labelled), outputs, atol=1e-6)
    np.testing.assert_allclose(fused.predict(labelled.map(lambda x, y: x)), outputs, atol=1e-6)
    with pytest.raises(ValueError, match="there are no images"):
        fused.predict(labelled.take(0))


def test_a_model_that_resizes_itself(rng, monkeypatch):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Resizing(16, 16, crop_to_aspect_ratio=True)(inputs, training=False)
    x = keras.layers.Rescaling(1 / 255)(x)
    model = keras.Model(inputs, small("basic")(x))
    images = rng.integers(0, 256, (2, 21, 33, 3), np.uint8)
    np.testing.assert_allclose(fuse(model)(images), model(images, training=False), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_row(name, rng):
    model = synthetic(build_variant(shallow(name), num_classes=10, input_shape=(64, 64, 3)))
    images = rng.normal(size=(2, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(fuse(model)(images), model(images, training=False), atol=1e-5)
    keras.backend.clear_session()


@pytest.mark.slow
@pytest.mark.parametrize("name, file, right", [("resnet20_cifar", "akamaster-resnet20-12fca82f.th", 9173)])
def test_cifar_with_real_weights(name, file, right, shared, monkeypatch):
    monkeypatch.setattr(module, "computes_bfloat16", lambda: True)
    model = from_weights(name, str(shared / "weights" / file)).model
    data = make_dataset("cifar10", "test", training=False, data_dir=shared / "data/tfds", download=False)
    labels = np.concatenate([y for _, y in data.as_numpy_iterator()])
    expected = model.predict(data.map(lambda x, y: x), verbose=0)
    fused = fuse(model).predict(data)
    np.testing.assert_allclose(fused, expected, atol=1e-5)
    assert (fused.argmax(axis=1) == labels).sum() == (expected.argmax(axis=1) == labels).sum() == right
    halved = fuse(model, "bfloat16").predict(data)
    assert (halved.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.995
