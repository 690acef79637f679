"""Heads are found by the graph, whatever their layers are called."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_resnet import build_resnet, gradcam
from keras_resnet.heads import find_head
from keras_resnet.inference.predict import stream_predictions
from keras_resnet.summary import shape_table
from keras_resnet.training.new_head import with_new_head

OPTIONS = dict(
    stages=((1, 8), (1, 16)), block="basic", stem="conv3", stem_pool=None, stem_filters=8,
    input_shape=(16, 16, 3), normalization=(0.5, 0.25),
)  # fmt: skip


def backbone(pooling="avg", **options):
    keras.utils.set_random_seed(0)
    return build_resnet(**OPTIONS | options, include_top=False, pooling=pooling, name="net")


def with_head(*steps, pooling="avg", **options):
    base = backbone(pooling, **options)
    x = base.output
    for step in steps:
        x = step(x)
    return keras.Model(base.input, x, name="net")


def dense(units=3, activation=None, name="classifier"):
    return layers.Dense(units, activation, name=name)


def conv(units=3, kernel_size=1, activation=None):
    return layers.Conv2D(units, kernel_size, activation=activation, name="classifier")


def gap(**options):
    return layers.GlobalAveragePooling2D(**options)


FOUND = {
    "softmax inside": dict(steps=[dense(activation="softmax")], replaced="Dense 'classifier' with the"),
    "softmax of its own": dict(
        steps=[dense(), layers.Softmax(name="probs")], replaced="Dense 'classifier', Softmax 'probs'"
    ),
    "hidden layer": dict(
        steps=[dense(5, "relu", "hidden"), layers.Dropout(0.5), dense(activation="softmax")],
        features=(None, 5),
    ),
    "normalized logits": dict(
        steps=[dense(), layers.BatchNormalization(), layers.Activation("softmax")],
        replaced="Dense 'classifier', BatchNormalization",
    ),
    "sigmoid": dict(steps=[dense(1), layers.Activation("sigmoid")]),
    "1x1 convolution behind the pooling": dict(
        steps=[gap(keepdims=True), conv(), layers.Flatten(), layers.Softmax()],
        pooling=None,
        features=(None, 1, 1, 16),
    ),
    "1x1 convolution before the pooling": dict(
        steps=[conv(), gap(), layers.Softmax()], pooling=None, features=(None, 8, 8, 16)
    ),
    "convolution over all places": dict(
        steps=[conv(kernel_size=8), layers.Flatten(), lambda x: ops.softmax(x)],
        pooling=None,
        features=(None, 8, 8, 16),
    ),
    "preactivation": dict(steps=[dense(activation="softmax")], preactivation=True),
}


@pytest.mark.parametrize("case", FOUND.values(), ids=FOUND)
def test_the_head_that_is_replaced(case, capsys, rng):
    options = {key: case[key] for key in case if key not in ("steps", "features", "replaced")}
    source = with_head(*case["steps"], **options)
    head = find_head(source)
    assert head.features.shape == case.get("features", (None, 16))
    assert head.operations[0].name == "classifier"
    copy = with_new_head(source, 7, (16, 16, 3))
    printed = capsys.readouterr().out
    assert printed.startswith("net: a head of 7 classes instead of ")
    assert case.get("replaced", "classifier") in printed
    assert copy.output_shape == (None, 7)
    assert not any(layer.name == "classifier" for layer in copy.layers)
    images = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
    expected = np.asarray(keras.Model(source.input, head.features)(images))
    expected = expected.mean(axis=(1, 2)) if expected.ndim == 4 else expected
    found = keras.Model(copy.input, copy.get_layer("head").input)(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("model", [backbone(), backbone(None), backbone("max"), with_head(dense(5, "relu"))])
def test_features_get_a_head_on_top(model, capsys):
    assert find_head(model) is None
    copy = with_new_head(model, 7, (16, 16, 3))
    assert copy.get_layer("head").kernel.shape == (model.output_shape[-1], 7)
    assert "net: a head of 7 classes on its features" in capsys.readouterr().out


def test_our_own_head(capsys):
    keras.utils.set_random_seed(0)
    model = build_resnet(**OPTIONS, num_classes=4, dropout=0.5, name="net")
    copy = with_new_head(model, 7, (16, 16, 3))
    assert [layer.name for layer in copy.layers][-4:] == ["head_pool", "head_dropout", "head", "predictions"]
    assert "Dense 'head', Activation 'predictions' with the activation 'softmax'" in capsys.readouterr().out


UNCLEAR = {
    "lambda": [dense(activation="softmax"), layers.Lambda(lambda x: x, name="own")],
    "own activation": [dense(activation=lambda x: x)],
    "divided probabilities": [dense(activation="softmax"), lambda x: x / 2],
    "two heads": [
        lambda x: layers.Average(name="mean")(
            [dense(name="a", activation="softmax")(x), dense(name="b", activation="softmax")(x)]
        )
    ],
    "no weights": [layers.Softmax()],
    "nested": [lambda x: keras.Sequential([keras.Input((16,)), dense(activation="softmax")])(x)],
}


@pytest.mark.parametrize("steps", UNCLEAR.values(), ids=UNCLEAR)
def test_a_head_that_the_graph_does_not_tell(steps):
    model = with_head(*steps)
    with pytest.raises(
        ValueError, match="'net' does not tell where its head begins: .*; name its first layer by head="
    ):
        find_head(model)


def test_the_user_names_the_head():
    model = with_head(dense(5, "relu", "hidden"), dense(activation=lambda x: x))
    assert with_new_head(model, 7, (16, 16, 3), "classifier").get_layer("head").kernel.shape == (5, 7)
    assert with_new_head(model, 7, (16, 16, 3), "hidden").get_layer("head").kernel.shape == (16, 7)
    with pytest.raises(ValueError, match="head='clasifier': 'net' has no layer of that name; .*'classifier'"):
        with_new_head(model, 7, (16, 16, 3), "clasifier")


def test_the_table_of_a_head_of_any_name():
    rows = {
        row.stage: row
        for row in shape_table(with_head(dense(5, "relu", "hidden"), dense(activation="softmax")))
    }
    assert list(rows) == ["input", "stem", "stage1", "stage2", "head", "total"]
    assert (rows["head"].output_shape, rows["head"].parameters, rows["input"].parameters) == ((3,), 103, 0)


def test_features_are_what_the_head_is_given(save_image):
    model, path = with_head(dense(5, "relu", "hidden"), dense(activation="softmax")), save_image("a.png")
    (found,) = stream_predictions(model, path, features=True)
    pixels = keras.utils.img_to_array(keras.utils.load_img(path))[None]
    expected = keras.Model(model.input, model.get_layer("hidden").output)(pixels)[0]
    np.testing.assert_allclose(found.features, expected, atol=1e-5)
    convolved = with_head(gap(keepdims=True), conv(), layers.Flatten(), layers.Softmax(), pooling=None)
    with pytest.raises(ValueError, match="'net' has no head that is given pooled features"):
        next(stream_predictions(convolved, path, features=True))


def test_a_name_that_the_new_head_needs():
    model = with_head(dense(9, name="head"), dense(activation="softmax"))
    with pytest.raises(
        ValueError, match="has a layer 'head' before its head .Dense 'classifier'.*: say head='head'"
    ):
        with_new_head(model, 7, (16, 16, 3))
    assert with_new_head(model, 7, (16, 16, 3), "head").get_layer("head").kernel.shape == (16, 7)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (3, 16, 16, 3), np.uint8)


SAME_MAPS = {
    "softmax inside": [dense(activation="softmax")],
    "softmax of its own": [dense(), layers.Softmax()],
    "log-softmax": [dense(activation="log_softmax")],
    "several sigmoids": [dense(activation="sigmoid")],
    "cast": [dense(activation="softmax"), lambda x: ops.cast(x, "float16")],
    "index": [layers.Reshape((1, 16)), dense(activation="softmax"), lambda x: x[:, 0]],
    "scaled": [dense(), lambda x: 2.0 * x, layers.Softmax()],
}


@pytest.mark.parametrize("stage", [None, 1])
@pytest.mark.parametrize("steps", SAME_MAPS.values(), ids=SAME_MAPS)
def test_maps_are_of_the_logit_wherever_the_activation_is(steps, stage, images):
    logits = with_head(dense())
    model = with_head(*steps)
    # Sure of its answer: the gradient of its probability would be nothing but rounding.
    kernel = 100 * np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    for m in (logits, model):
        m.get_layer("classifier").kernel.assign(kernel)
    expected = gradcam(logits, images, 1, stage)
    assert expected.max() == 1
    np.testing.assert_allclose(gradcam(model, images, 1, stage), expected, atol=1e-5)
    np.testing.assert_allclose(gradcam(model, images), gradcam(logits, images), atol=1e-5)


def test_maps_of_a_convolution_in_place_of_the_dense_layer(images):
    logits = with_head(dense())
    kernel = logits.get_layer("classifier").kernel
    for steps in (
        [gap(keepdims=True), conv(activation="softmax"), layers.Reshape((3,))],
        [conv(), gap(), layers.Softmax()],
    ):
        model = with_head(*steps, pooling=None)
        model.get_layer("classifier").kernel.assign(ops.reshape(kernel, (1, 1, 16, 3)))
        np.testing.assert_allclose(gradcam(model, images, 2), gradcam(logits, images, 2), atol=1e-5)


def test_maps_of_a_sequential(images):
    keras.utils.set_random_seed(0)
    steps = [
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, activation="relu"),
        gap(),
        dense(activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((16, 16, 3)), *steps])
    assert find_head(model).operations[-1].name == "classifier"
    functional = keras.Model(model.inputs, model.outputs[0])
    np.testing.assert_array_equal(gradcam(model, images, 1), gradcam(functional, images, 1))


def test_maps_of_one_sigmoid_speak_for_either_class(images):
    model, both = with_head(dense(1), layers.Activation("sigmoid")), with_head(dense(2))
    kernel = np.random.default_rng(0).normal(size=(16, 1)).astype(np.float32)
    model.get_layer("classifier").kernel.assign(kernel)
    both.get_layer("classifier").kernel.assign(np.concatenate([-kernel, kernel], axis=1))
    for class_index in (0, 1, None):
        np.testing.assert_allclose(
            gradcam(model, images, class_index), gradcam(both, images, class_index), atol=1e-5
        )
    assert not np.allclose(gradcam(model, images, 0), gradcam(model, images, 1))
    with pytest.raises(ValueError, match="class_index=2 must be from 0 to 1"):
        gradcam(model, images, 2)


def test_maps_of_a_network_of_another_library(images):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((16, 16, 3))
    for filters in (4, 8):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    outputs = layers.Dense(3, "softmax")(layers.Dense(8, "relu")(layers.Flatten()(x)))
    model = keras.Model(inputs, outputs, name="other")
    heat = gradcam(model, images / 255)
    assert heat.shape == (3, 16, 16)
    assert heat.max() == 1
    with pytest.raises(ValueError, match="'other' has no stages; asked for stage=1"):
        gradcam(model, images / 255, stage=1)


@pytest.mark.parametrize("steps", UNCLEAR.values(), ids=UNCLEAR)
def test_no_maps_without_a_head(steps, images):
    with pytest.raises(ValueError, match=r"'net' has no pooling and head, which Grad-CAM needs|head begins"):
        gradcam(with_head(*steps), images)
