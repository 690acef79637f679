"""What a layer computes survives its copies: in `fuse`, in exports, under a new head and in a file."""

import itertools
import types

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from keras_resnet import accelerate, export, fuse, open_export, open_model, predict
from keras_resnet.copying import copy_layer, copy_model, own_methods
from keras_resnet.inference.rebuild import from_prepared, rebuild
from keras_resnet.layers import StandardizedConv2D
from keras_resnet.training.new_head import with_new_head

SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, *SHAPE)).astype("float32")


def outputs_of(model, images=IMAGES):
    """By a new trace: the one that `predict` keeps does not know of LoRA that came later."""
    return keras.Model(model.input, model.output).predict(images, verbose=0)


def classifier(*between, head=None):
    inputs = keras.Input(SHAPE, name="image")
    x = inputs
    for layer in between:
        x = layer(x)
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = (head or layers.Dense(5, name="head"))(x)
    model = keras.Model(inputs, layers.Softmax()(x))
    for weight in model.weights:
        if weight.path.rpartition("/")[2] in ("gamma", "moving_variance"):
            weight.assign(np.random.default_rng(1).uniform(0.5, 1.5, weight.shape))
    return model


def adapted(layer):
    layer.adapt(IMAGES)
    return layer


def adapted_later():
    norm = layers.Normalization(dtype="float32")
    model = classifier(norm, layers.Conv2D(4, 3))
    norm.adapt(IMAGES)
    return model


def adapted_in_wrappers():
    norm = adapted(layers.Normalization())
    nested = keras.Sequential([keras.Input(SHAPE), norm, layers.Conv2D(4, 3)])
    return classifier(nested)


def lookup():
    table = layers.IntegerLookup(output_mode="int")
    table.adapt(np.arange(100, 200, dtype="int64"))
    inputs = keras.Input(SHAPE, name="image")
    x = keras.ops.cast(table(keras.ops.cast(inputs, "int64")), "float32")
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 50)(x))
    return keras.Model(inputs, layers.Dense(5, "softmax", name="head")(x))


def low_rank(layer, **options):
    model = classifier(layers.Rescaling(1 / 255), layer, **options)
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.random.default_rng(2).normal(size=layer.lora_kernel_b.shape))
    return model


def low_rank_head():
    head = layers.Dense(5, name="head")
    model = classifier(layers.Rescaling(1 / 255), layers.Conv2D(4, 3), head=head)
    head.enable_lora(2)
    head.lora_kernel_b.assign(np.random.default_rng(2).normal(size=head.lora_kernel_b.shape))
    return model


def quantized(mode):
    dense = layers.Dense(6)
    model = classifier(layers.Rescaling(1 / 255), layers.Conv2D(4, 3), dense)
    dense.quantize(mode)
    return model


def another_policy():
    conv = layers.Conv2D(4, 3)
    model = classifier(layers.Rescaling(1 / 255), conv, layers.BatchNormalization())
    conv.dtype_policy = keras.DTypePolicy("mixed_float16")
    return model


def spectral():
    return layers.SpectralNormalization(layers.Conv2D(4, 3))


@keras.saving.register_keras_serializable("tests")
class Scaled(layers.Dense):
    """A subclass that computes something else, by what is in no configuration."""

    factor = 1.0

    def call(self, inputs, training=None):
        return super().call(inputs) * self.factor


def a_subclass():
    scaled = Scaled(6)
    model = classifier(layers.Rescaling(1 / 255), layers.Conv2D(4, 3), scaled)
    scaled.factor = 3.0
    return model


def patched(layer, method, function):
    model = classifier(layers.Rescaling(1 / 255), layer)
    setattr(layer, method, types.MethodType(function, layer))
    return model


def doubled_call(self, inputs, training=None, mask=None):
    return 2.0 * type(self).call(self, inputs, training=training)


def doubled_convolution(self, inputs, kernel):
    return type(self).convolution_op(self, inputs, 2.0 * kernel)


def activated(activation):
    return classifier(layers.Rescaling(1 / 255), layers.Conv2D(4, 3, activation=activation))


PREPROCESSING = {
    "mean and variance": lambda: layers.Normalization(
        mean=[90.0, 100.0, 110.0], variance=[2000.0, 3000.0, 4000.0]
    ),
    "adapted": lambda: adapted(layers.Normalization()),
    "adapted as a whole": lambda: adapted(layers.Normalization(axis=None)),
    "adapted by pixel": lambda: adapted(layers.Normalization(axis=(1, 2, 3))),
    "adapted inverse": lambda: adapted(layers.Normalization(invert=True)),
    "bins": lambda: layers.Discretization(bin_boundaries=[50.0, 100.0, 200.0], output_mode="int"),
    "adapted bins": lambda: adapted(layers.Discretization(num_bins=5)),
    "rescaling": lambda: layers.Rescaling([1 / 50, 1 / 90, 1 / 100], offset=-1.0),
    "center crop": lambda: layers.CenterCrop(6, 5),
    "center crop of less": lambda: layers.CenterCrop(12, 11),
    "resizing": lambda: layers.Resizing(5, 7, interpolation="bicubic", antialias=True),
    "resizing with its aspect": lambda: layers.Resizing(5, 9, pad_to_aspect_ratio=True),
    "random flip": lambda: layers.RandomFlip(),
    "random crop": lambda: layers.RandomCrop(5, 6),
    "random rotation": lambda: layers.RandomRotation(0.2),
    "augmentation in a pipeline": lambda: layers.Pipeline([layers.RandomFlip(), layers.RandomContrast(0.5)]),
    "grayscale": lambda: layers.RandomGrayscale(factor=1.0),
    "solarization": lambda: layers.Solarization(addition_factor=0.5, threshold_factor=0.5),
}
MODELS = {
    "adapted later": adapted_later,
    "adapted, nested": adapted_in_wrappers,
    "lookup": lookup,
    "low rank head": low_rank_head,
    "low rank convolution": lambda: low_rank(layers.Conv2D(4, 3)),
    "low rank standardized": lambda: low_rank(StandardizedConv2D(4, 3)),
    "low rank grouped": lambda: low_rank(layers.Conv2D(6, 3, groups=3)),
    "int8": lambda: quantized("int8"),
    "float8": lambda: quantized("float8"),
    "another policy": another_policy,
    "subclass": a_subclass,
    "patched normalization": lambda: patched(layers.BatchNormalization(), "call", doubled_call),
    "patched convolution": lambda: patched(layers.Conv2D(4, 3), "convolution_op", doubled_convolution),
    "activation with weights": lambda: activated(layers.PReLU(alpha_initializer="ones", shared_axes=[1, 2])),
    "activation of Keras": lambda: activated(layers.LeakyReLU(0.3)),
    "spectral": lambda: classifier(layers.Rescaling(0.1), spectral()),
    "renormalized": lambda: classifier(layers.Rescaling(1 / 255), layers.BatchNormalization(renorm=True)),
}  # fmt: skip


def model_of(name):
    keras.utils.set_random_seed(0)
    if name in MODELS:
        return MODELS[name]()
    inputs = keras.Input(SHAPE, name="image")
    x = PREPROCESSING[name]()(inputs)
    x = layers.UnitNormalization()(layers.Rescaling(0.5)(keras.ops.cast(x, "float32")))
    x = layers.Conv2D(4, 3)(x)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax", name="head")(x))


@pytest.mark.parametrize("name", [*PREPROCESSING, *MODELS])
def test_nothing_is_lost(name, tmp_path):
    model = model_of(name)
    expected = outputs_of(model)
    assert np.ptp(expected) > 1e-3
    tolerance = 2e-3 if name == "another policy" else 1e-5
    np.testing.assert_allclose(fuse(model)(IMAGES), expected, atol=tolerance)
    rebuilt = rebuild(model)  # which takes what a resize in front would make of images
    prepared = IMAGES[:, : rebuilt.input_shape[1], :1].repeat(rebuilt.input_shape[2], axis=2)
    prepared = IMAGES if rebuilt.input_shape[1:] == SHAPE else prepared
    found = rebuilt(prepared, training=False)
    np.testing.assert_allclose(found, from_prepared(model)(prepared), atol=tolerance)
    features = keras.Model(model.input, model.get_layer("head").input)
    renewed = with_new_head(model, 3, SHAPE)
    found = keras.Model(renewed.input, renewed.get_layer("head").input)(IMAGES, training=False)
    # A copy knows of the attributes of a subclass what its configuration says.
    if name != "subclass":
        np.testing.assert_allclose(found, features(IMAGES, training=False), rtol=1e-5, atol=tolerance)
    np.testing.assert_allclose(outputs_of(model), expected, atol=1e-6)  # it stayed as it was


@pytest.mark.parametrize("name", ["adapted", "adapted later", "low rank head", "int8", "lookup"])
def test_a_saved_file_computes_the_same(name, tmp_path):
    model = model_of(name)
    model.save(tmp_path / "model.keras")
    opened = open_model(tmp_path / "model.keras").model
    np.testing.assert_allclose(fuse(opened)(IMAGES), outputs_of(model), atol=1e-5)
    done = export(tmp_path / "model.keras", tmp_path / "served", images=4)
    assert done.comparison.difference <= 1e-5


def test_predict_of_a_file_with_an_adapted_normalization(tmp_path, save_image):
    model = model_of("adapted")
    model.save(tmp_path / "model.keras")
    file = save_image("a.png", size=SHAPE[:2])
    expected = outputs_of(model, np.asarray(Image.open(file), "float32")[None])[0]
    (found,) = predict(tmp_path / "model.keras", str(file))
    order = sorted(range(5), key=lambda i: -expected[i])
    assert [name for name, _ in found.classes] == [str(i) for i in order]
    np.testing.assert_allclose([p for _, p in found.classes], expected[order], atol=1e-5)


def test_a_mixed_policy_with_an_adapted_normalization_is_compared_with_the_model(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = model_of("adapted")
    finally:
        keras.config.set_dtype_policy("float32")
    done = export(model, tmp_path / "served", images=8)
    assert done.comparison.policy == done.card["comparison"]["policy"] == "bfloat16"
    assert done.comparison.difference_float32 <= 1e-5 < done.comparison.difference < 0.15


def test_copies_share_nothing_with_the_model():
    model = model_of("adapted later")
    copy = copy_model(model)
    before = outputs_of(copy)
    model.layers[1].adapt(IMAGES * 2)
    model.set_weights([w + 1 for w in model.get_weights()])
    np.testing.assert_array_equal(outputs_of(copy), before)
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]


def test_a_copy_goes_on_with_the_same_seeds():
    layer = layers.GaussianNoise(1.0)
    layer.build(IMAGES.shape)
    layer(IMAGES, training=True)
    copy = copy_layer(layer)
    np.testing.assert_array_equal(copy(IMAGES, training=True), layer(IMAGES, training=True))


def test_copies_have_no_kernels_of_ours():
    model = accelerate(classifier(layers.Conv2D(4, 1), layers.BatchNormalization()))
    assert not any(own_methods(layer) for layer in model.layers)
    copy = copy_model(model)
    assert "call" not in vars(copy.layers[2])
    np.testing.assert_allclose(outputs_of(copy), outputs_of(model), atol=1e-5)


def test_a_resize_behind_a_normalization_stays_in_an_export(tmp_path):
    """A Sequential model does not count its input among its layers."""
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Rescaling(1 / 255),
            layers.Resizing(6, 6),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    model.add(layers.Softmax())
    export(model, tmp_path / "served", images=4)
    with pytest.warns(UserWarning, match="is a SavedModel"):
        run = open_export(tmp_path / "served")
    np.testing.assert_allclose(run(IMAGES), model.predict(IMAGES, verbose=0), atol=1e-5)


MERGES = (layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum)
SHAPES = {2: (8,), 3: (8, 8), 4: (8, 8, 8)}


@pytest.mark.parametrize("ranks", list(itertools.product(SHAPES, SHAPES)))
@pytest.mark.parametrize("broadcast", [False, True])
def test_merges_align_as_keras_does(ranks, broadcast, rng):
    """Alone and of a batch, which may be as large as the channels; with axes of one or without."""
    images = keras.Input((8, 8, 8))
    tensors = {4: layers.Conv2D(8, 1)(images)}
    tensors[3] = layers.Reshape((8, 8))(layers.Conv2D(8, (8, 1))(images))
    tensors[2] = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(images))
    first, second = (tensors[rank] for rank in ranks)
    if broadcast and ranks[1] > 2:
        second = keras.ops.mean(second, axis=1, keepdims=True)
    merged = [merge()([first, second]) for merge in MERGES] + [
        merge()([first, first]) for merge in MERGES[::2]
    ]
    merged += [first * second, first - second] if ranks[0] == ranks[1] else []
    if ranks[0] == ranks[1] and not broadcast:
        merged.append(layers.Concatenate(axis=1)([first, second]))
        merged += [layers.Dot(axes=-1)([first, second])] if ranks[0] < 4 else []
    model = keras.Model(images, merged)
    fused = fuse(model)
    for batch in (1, 5, 8):
        values = rng.normal(size=(batch, 8, 8, 8)).astype("float32")
        for found, expected in zip(fused(values), model.predict(values, verbose=0), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_number_for_each_image_is_not_a_bias_of_the_channels(rng):
    """Keras 3.15 takes it for one, where there are as many images as channels."""
    images = keras.Input((8, 8, 8))
    gate = layers.Dense(1)(layers.GlobalAveragePooling2D()(images))
    model = keras.Model(images, [merge()([images, gate]) for merge in MERGES])
    values = rng.normal(size=(8, 8, 8, 8)).astype("float32")
    expected = model.predict(values, batch_size=3, verbose=0)
    for found, theirs in zip(fuse(model)(values), expected, strict=True):
        np.testing.assert_allclose(found, theirs, atol=1e-5)


def test_a_merge_that_was_built_for_other_ranks(rng):
    """Keras decides by its first call whether a merge aligns its inputs."""
    images = keras.Input((8, 8, 8))
    add = layers.Add()
    gate = layers.GlobalAveragePooling2D()(images)
    model = keras.Model(images, [add([images, images]), add([images, gate])])
    values = rng.normal(size=(8, 8, 8, 8)).astype("float32")
    for found, expected in zip(fuse(model)(values), model.predict(values, verbose=0), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
