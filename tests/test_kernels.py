"""Grouped convolutions: TensorFlow's kernels compute what a block-diagonal kernel does."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import accelerate, kernels
from keras_resnet.layers import StandardizedConv2D


@pytest.fixture(params=["native", "split"])
def path(request, monkeypatch):
    """Both ways to compute, where this machine has both."""
    native = kernels.has_vendor_kernels()
    if request.param == "native" and not native:
        pytest.skip("TensorFlow has no gradient of a grouped convolution on this machine")
    monkeypatch.setattr(kernels, "has_vendor_kernels", lambda: request.param == "native")


def dense_kernel(kernel, groups):
    height, width, inputs, filters = kernel.shape
    dense = np.zeros((height, width, inputs * groups, filters), "float32")
    for g in range(groups):
        outs = slice(g * filters // groups, (g + 1) * filters // groups)
        dense[:, :, g * inputs : (g + 1) * inputs, outs] = kernel[..., outs]
    return dense


def grouped_model(groups=4, stride=1, padding="same"):
    inputs = keras.Input((9, 9, 8))
    layer = keras.layers.Conv2D(16, 3, stride, padding, groups=groups, name="grouped")
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize("stride, padding", [(1, "same"), (2, "valid")])
def test_output_and_gradients_equal_a_block_diagonal_kernel(rng, path, stride, padding):
    layer = accelerate(grouped_model(4, stride, padding)).get_layer("grouped")
    x = tf.constant(rng.normal(size=(2, 9, 9, 8)), tf.float32)
    dense = tf.constant(dense_kernel(layer.kernel.numpy(), 4))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, dense])
        ours = tf.reduce_sum(layer(x) ** 2)
        theirs = tf.reduce_sum(tf.nn.conv2d(x, dense, stride, padding.upper()) ** 2)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(ours, x), tape.gradient(theirs, x), atol=1e-4)
    gradient = tape.gradient(theirs, dense).numpy()
    blocks = [gradient[:, :, 2 * g : 2 * g + 2, 4 * g : 4 * g + 4] for g in range(4)]
    expected = np.concatenate(blocks, axis=-1)
    np.testing.assert_allclose(tape.gradient(ours, layer.kernel.value), expected, atol=1e-4)


def xla_functions(concrete):
    """Functions of the graph that must be compiled, which is how Keras convolves in groups."""
    library = concrete.graph.as_graph_def().library.function
    return [f.signature.name for f in library if f.attr["_XlaMustCompile"].b]


def test_stock_layer_goes_through_xla():
    """What there is to accelerate; fails when Keras no longer needs us."""
    assert xla_functions(tf.function(grouped_model()).get_concrete_function(tf.ones((2, 9, 9, 8))))


def test_fit_uses_no_xla_and_the_file_stays_stock(path, tmp_path):
    model = accelerate(grouped_model())
    x = tf.ones((2, 9, 9, 8))
    assert not xla_functions(tf.function(model).get_concrete_function(x))
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 9, 9, 8)), np.ones((4, 9, 9, 16)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer("grouped")) is keras.layers.Conv2D
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-5)


def test_builders_accelerate_by_themselves(monkeypatch):
    from keras_resnet import build_resnet

    calls = []
    monkeypatch.setattr(kernels, "_grouped_convolution", lambda layer, x, k: calls.append(layer.name) or x)
    model = build_resnet(stages=((1, 32),), cardinality=32, base_width=64, input_shape=(32, 32, 3))
    assert accelerate(model) is model
    layer = model.get_layer("stage1_block1_conv2")
    assert layer.convolution_op.__func__ is not keras.layers.Conv2D.convolution_op


def test_nested_models_are_visited():
    inner = grouped_model()
    inputs = keras.Input((9, 9, 8))
    accelerate(keras.Model(inputs, inner(inputs)))
    assert inner.get_layer("grouped").convolution_op.__func__ is kernels._grouped_convolution


def test_ungrouped_layers_are_left_alone():
    model = accelerate(grouped_model(groups=1))
    assert "convolution_op" not in vars(model.get_layer("grouped"))


def test_layers_that_compute_in_a_way_of_their_own_are_left_alone(rng):
    """Standardized filters stay so in groups, and a method that somebody bound stays."""

    def call(self, inputs, training=None, mask=None):
        return 2.0 * inputs

    norm = keras.layers.BatchNormalization()
    inputs = keras.Input((8, 8, 4))
    outputs = StandardizedConv2D(4, 3, groups=2)(norm(inputs))
    norm.call = types.MethodType(call, norm)
    model = keras.Model(inputs, outputs)
    images = rng.normal(size=(2, 8, 8, 4)).astype("float32")
    expected = model(images, training=True)
    np.testing.assert_allclose(accelerate(model)(images, training=True), expected, atol=1e-5)
