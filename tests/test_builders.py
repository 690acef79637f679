"""The arguments of the builders, and networks that are in no table."""

import math

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_resnet
import keras_resnet.layers
from keras_resnet import build_model, build_resnet, list_models

TINY = dict(stages=((1, 8), (1, 16)), block="basic", stem="conv3", stem_pool=None, stem_filters=8)


def tiny(**options):
    return build_resnet(**TINY | dict(num_classes=4, input_shape=(8, 8, 3)) | options)


def trainable(model):
    return sum(math.prod(v.shape) for v in model.trainable_weights)


# The three networks of the founding documents.
CHAPTER = dict(
    stages=((2, 64), (2, 128), (2, 256), (2, 512)), block="basic", conv_bias="all", shortcut="conv",
    kernel_initializer="glorot_uniform", num_classes=10,
)  # fmt: skip


def test_resnet18_of_the_chapter():
    assert trainable(build_resnet(**CHAPTER, input_shape=(96, 96, 1))) == 11_178_378
    model = build_resnet(**CHAPTER, input_shape=(224, 224, 1))
    assert model.get_layer("stem_conv").output.shape[1:] == (112, 112, 64)
    assert model.get_layer("stem_pool").output.shape[1:] == (56, 56, 64)
    shapes = [f.shape[1:] for f in keras_resnet.features(model).output.values()]
    assert shapes == [(56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512)]


def test_resnet18_of_the_notebook():
    model = build_resnet(**CHAPTER, stem_norm=False, input_shape=(224, 224, 3))
    assert "stem_bn" not in {layer.name for layer in model.layers}
    rows = {row.stage: row.output_shape for row in keras_resnet.shape_table(model)}
    assert [rows[k] for k in ("stem", "stage1", "stage2", "stage3", "stage4", "head")] == [
        (56, 56, 64), (56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512), (10,),
    ]  # fmt: skip


def test_resnet50_of_the_class():
    options = dict(stages=((3, 64), (4, 128), (6, 256), (3, 512)), conv_bias="all", stride_conv="conv1")
    assert build_resnet(**options, num_classes=2).count_params() == 23_591_810
    model = build_resnet(**options)
    assert (model.count_params(), trainable(model)) == (25_636_712, 25_583_592)


@pytest.mark.parametrize("depth, millions", [(18, 11.2), (34, 21.3), (50, 23.5), (101, 42.5), (152, 58.1)])
def test_parameters_without_head(depth, millions):
    model = build_model(f"resnet{depth}", include_top=False)
    assert round(trainable(model) / 1e6, 1) == millions


def test_same_network_as_keras_applications():
    keras.utils.set_random_seed(0)
    theirs = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=5)
    ours = keras_resnet.build_resnet50v1(input_shape=(64, 64, 3), num_classes=5)
    for variable in theirs.weights:
        variable.assign(keras.random.uniform(variable.shape, 0.01, 0.1, seed=variable.shape[-1]))
    _copy_by_shape(theirs, ours)
    images = np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype("float32")
    expected = theirs.predict(images, verbose=0)
    np.testing.assert_allclose(ours.predict(images, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("size", [64, 75])
def test_same_network_as_keras_applications_v2(size):
    shape = (size, size, 3)
    theirs = keras.applications.ResNet50V2(
        weights=None, input_shape=shape, classes=5, classifier_activation=None
    )
    ours = keras_resnet.build_resnet50v2_keras(input_shape=shape, num_classes=5, classifier_activation=None)
    rng = np.random.default_rng(0)
    for variable in theirs.weights:
        variable.assign(
            rng.uniform(0.5, 1.5, variable.shape) * (variable.numpy() if "kernel" in variable.path else 1)
        )
    _copy_by_shape(theirs, ours)
    images = rng.normal(size=(2, *shape)).astype("float32")
    expected = theirs.predict(images, verbose=0)
    difference = abs(ours.predict(images, verbose=0) - expected).max()
    assert difference <= 1e-5 * abs(expected).max()


def _copy_by_shape(theirs, ours):
    """Layers of one kind come in the same order, but for projections, told by their shape."""
    for kind in (keras.layers.Conv2D, keras.layers.BatchNormalization, keras.layers.Dense):
        left = [layer for layer in theirs.layers if isinstance(layer, kind)]
        for layer in (layer for layer in ours.layers if isinstance(layer, kind)):
            key = _block_key(layer.name)
            match = next(x for x in left if _keras_key(x.name) == key)
            layer.set_weights(match.get_weights())
            left.remove(match)
        assert left == []


def _block_key(name):
    """stage2_block1_proj_conv -> (2, 1, '0'), the way keras.applications counts."""
    if not name.startswith("stage"):
        return {"stem_conv": "conv1", "stem_bn": "conv1", "head_bn": "post", "head": "predictions"}[name]
    stage, block, *rest = name.split("_")
    place = "0" if rest[0] == "proj" else "preact" if rest[0] == "preact" else rest[0][-1]
    return int(stage[5:]), int(block[5:]), place


def _keras_key(name):
    if not name.startswith("conv") or name.startswith("conv1_"):
        return name.split("_")[0]
    stage, block, place, *_ = name.split("_")
    return int(stage[4:]) - 1, int(block[5:]), place


def test_list_models():
    assert list_models("resnext*") == [n for n in keras_resnet.VARIANTS if n.startswith("resnext")]
    assert len(list_models()) == len(keras_resnet.VARIANTS)


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"no variant 'resnet51'; did you mean .*resnet50"):
        build_model("resnet51")


def test_public_names_resolve():
    assert all(getattr(keras_resnet, name) is not None for name in keras_resnet.__all__)
    assert {f"build_{name}" for name in keras_resnet.VARIANTS} <= set(dir(keras_resnet))


def test_include_top_and_pooling():
    assert tiny(include_top=False).output_shape == (None, 4, 4, 16)
    assert tiny(include_top=False, pooling="avg").output_shape == (None, 16)
    assert tiny(include_top=False, pooling="max").output_shape == (None, 16)


def test_activation_and_logits():
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    probabilities = tiny()
    logits = keras.Model(probabilities.input, probabilities.get_layer("head").output)(images)
    np.testing.assert_allclose(probabilities(images), keras.ops.softmax(logits), atol=1e-6)
    assert [layer.name for layer in tiny(classifier_activation=None).layers][-1] == "head"
    sigmoid = np.array(tiny(classifier_activation="sigmoid")(images))
    assert sigmoid.sum(axis=1) != pytest.approx(1)


def test_input_tensor():
    inputs = keras.Input((8, 8, 1))
    model = tiny(input_tensor=keras.layers.Concatenate()([inputs, inputs, inputs]))
    assert model.input_shape == (None, 8, 8, 1)
    assert np.array(model(np.zeros((1, 8, 8, 1)))).shape == (1, 4)
    with pytest.raises(ValueError, match="input_tensor must be a Keras tensor"):
        tiny(input_tensor=np.zeros((1, 8, 8, 3)))


def test_normalization_is_the_first_layer():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    model = tiny(normalization=(mean, std))
    normalised = keras.Model(model.input, model.get_layer("normalize").output)(images)
    np.testing.assert_allclose(normalised, (images / 255 - mean) / std, atol=1e-5)
    with pytest.raises(ValueError, match="2 values for an input of 3 channels"):
        tiny(normalization=((0.5, 0.5), 0.2))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_head_is_float32_under_a_mixed_policy(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = tiny(dropout=0.5)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.get_layer("stage2_block1_conv2").compute_dtype == policy.removeprefix("mixed_")
    for name in ("head_pool", "head_dropout", "head", "predictions"):
        assert model.get_layer(name).compute_dtype == "float32"
    assert np.array(model(np.zeros((1, 8, 8, 3)))).dtype == np.float32


def test_initial_weights():
    keras.utils.set_random_seed(0)
    model = build_resnet(stages=((1, 256),), stem="conv3", stem_pool=None, input_shape=(8, 8, 3))
    kernels = [layer.kernel.numpy() for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    for kernel in kernels:
        deviation = math.sqrt(2 / (kernel.shape[0] * kernel.shape[1] * kernel.shape[3]))
        assert kernel.std() == pytest.approx(deviation, rel=0.05)
        # A truncated normal ends at two deviations.
        assert abs(kernel).max() > 3 * deviation
    one_by_one = [k.ravel()[:64] for k in kernels if k.shape[:2] == (1, 1)]
    assert len({k.tobytes() for k in one_by_one}) == len(one_by_one)


def test_drop_path_rises_linearly_and_drops_whole_branches():
    model = build_resnet(stages=((2, 8), (3, 8)), block="basic", drop_path=0.4, input_shape=(32, 32, 3))
    rates = [layer.rate for layer in model.layers if layer.name.endswith("drop_path")]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])
    layer = model.get_layer("stage2_block3_drop_path")
    out = np.array(layer(np.ones((64, 4, 4, 8)), training=True)).reshape(64, -1)
    assert set(np.unique(out.min(1)) == np.unique(out.max(1))) == {True}
    assert 0 < (out[:, 0] == 0).mean() < 0.8


def test_drop_block_is_where_timm_has_it():
    model = build_resnet(stages=((1, 8),) * 4, block="basic", drop_block=0.2, input_shape=(64, 64, 3))
    found = {x.name: (x.rate, x.block_size, x.gamma_scale) for x in model.layers if "drop_block" in x.name}
    assert found == {"stage3_block1_drop_block": (0.2, 5, 0.25), "stage4_block1_drop_block": (0.2, 3, 1.0)}
    layer = keras_resnet.layers.DropBlock(0.2, 3)
    x = np.ones((8, 20, 20, 4), "float32")
    np.testing.assert_array_equal(layer(x, training=False), x)
    dropped = np.array(layer(x, training=True))
    assert (dropped == 0).mean() == pytest.approx(0.2, abs=0.06)
    assert dropped.mean() == pytest.approx(1, abs=1e-3)
    # What is dropped is dropped in squares: a pixel and its neighbours go together.
    zero = dropped == 0
    assert (zero[:, 1:] & zero[:, :-1]).mean() > 2 * (zero.mean() ** 2)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(input_shape=(31, 40, 3)), "height 31 is below the network's total stride of 32"),
        (dict(input_shape=(40, 31, 3)), "width 31 is below"),
        (dict(input_shape=(40, 40)), "input_shape"),
        (dict(input_shape=(40, 40, None)), "channels known"),
        (dict(num_classes=0), "num_classes=0"),
        (dict(num_classes=2.5), "num_classes=2.5"),
        (dict(pooling="mean", include_top=False), "pooling='mean'"),
        (dict(pooling="avg"), "pooling='avg' is for include_top=False"),
        (dict(dropout=1.0), "dropout=1.0"),
        (dict(drop_path=-0.1), "drop_path=-0.1"),
        (dict(drop_block=2), "drop_block=2"),
        (dict(weights="nowhere.keras"), "nowhere.keras"),
        (dict(block="residual"), "block='residual'"),
    ],
)
def test_bad_arguments_are_refused_by_name_and_value(options, message):
    with pytest.raises(ValueError, match=message):
        build_resnet(**{"stages": ((1, 8),) * 4, "block": "basic", "input_shape": (64, 64, 3)} | options)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="channels last"):
            tiny()
    finally:
        keras.config.set_image_data_format("channels_last")


NETWORKS = st.fixed_dictionaries(
    dict(
        stages=st.lists(st.tuples(st.integers(1, 2), st.sampled_from([8, 16])), min_size=1, max_size=3),
        block=st.sampled_from(["basic", "bottleneck"]),
        preactivation=st.booleans(),
        stem=st.sampled_from(["conv7", "conv3"]),
        stem_pool=st.sampled_from(["max", "max_zero", None]),
        stem_norm=st.booleans(),
        stem_filters=st.sampled_from([4, 8]),
        shortcut=st.sampled_from(["conv_norm", "conv"]),
        stride_conv=st.sampled_from(["conv1", "conv2"]),
        stride_block=st.sampled_from(["first", "last"]),
        attention=st.sampled_from([None, "se", "eca"]),
        norm=st.just("batch"),
        conv_bias=st.sampled_from(["none", "unnormalized", "all"]),
    )
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(options=NETWORKS, channels=st.integers(1, 5), extra=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_any_network_of_any_size_builds_and_predicts(options, channels, extra):
    stride = (2 if options["stem"] == "conv7" else 1) * (2 if options["stem_pool"] else 1)
    stride *= 2 ** (len(options["stages"]) - 1)
    height, width = stride + extra[0], stride + extra[1]
    model = build_resnet(**options, input_shape=(None, None, channels), num_classes=3)
    # Called, not predicted: the property is the arithmetic, and tracing costs seconds.
    output = np.array(model(np.ones((2, height, width, channels), "float32")))
    assert output.shape == (2, 3)
    np.testing.assert_allclose(output.sum(axis=1), 1, atol=1e-5)
    fixed = build_resnet(**options, input_shape=(height, width, channels), num_classes=3)
    assert fixed.count_params() == model.count_params()
    sides = [row.output_shape[:2] for row in keras_resnet.shape_table(fixed) if row.stage.startswith("stage")]
    assert sides[-1] == (math.ceil(height / stride), math.ceil(width / stride))
