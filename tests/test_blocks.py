"""The parts of a block compute what the papers and torch compute."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from keras_resnet import VARIANTS, identity_block, projection_block
from keras_resnet.parts import POOLS, conv

ROW = VARIANTS["resnet50"]


def run(function, x):
    """Apply a function on tensors to an array; returns the output and the model."""
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, function(inputs))
    return np.array(model(x)), model


def images(rng, *shape):
    return rng.normal(size=shape).astype("float32")


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("channels", [2, 15, 16])
@pytest.mark.parametrize("kernel_size, stride", [(1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolution_pads_evenly(rng, size, channels, kernel_size, stride):
    x = images(rng, 1, size, size, channels)
    output, model = run(lambda t: conv(t, 3, kernel_size, ROW, stride=stride, name="c"), x)
    pad = kernel_size // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel_size,) * 2, axis=(1, 2))
    expected = np.einsum(
        "nhwckl,klcf->nhwf", windows[:, ::stride, ::stride], model.get_layer("c").kernel.numpy()
    )
    np.testing.assert_allclose(output, expected, atol=1e-5)
    # oneDNN does not survive the gradient of few channels: they are subsampled first.
    few = kernel_size == 1 and channels < 16
    assert model.get_layer("c").strides[0] == (1 if few else stride)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("pool, fill", [("max", -np.inf), ("max_zero", 0)])
def test_max_pool_pads_evenly(rng, size, pool, fill):
    x = images(rng, 1, size, size, 2) - 3
    output, _ = run(lambda t: POOLS[pool](t, ROW, "p"), x)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    np.testing.assert_array_equal(output, windows.max(axis=(-1, -2)))


@pytest.mark.parametrize("size", [7, 8])
def test_option_a_takes_every_second_pixel_and_pads_channels_on_both_sides(rng, size):
    row = replace(VARIANTS["resnet20_cifar"], zero_init_last=True)
    x = np.abs(images(rng, 2, size, size, 16))
    output, model = run(lambda t: projection_block(t, 32, row, stride=2, name="b"), x)
    # The last gamma starts at zero, so the block is its shortcut.
    expected = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (8, 8)))
    np.testing.assert_array_equal(output, expected)
    assert not [layer for layer in model.layers if "proj" in layer.name and layer.weights]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_block_starts_as_the_identity(rng, name):
    row = VARIANTS[name]
    x = np.abs(images(rng, 1, 4, 4, row.out_channels(8)))
    output, _ = run(lambda t: identity_block(t, 8, row, name="b"), x)
    np.testing.assert_array_equal(output, x)


def test_preactivation_block_adds_to_the_raw_input(rng):
    row = VARIANTS["resnetv2_50"]
    x = images(rng, 1, 4, 4, 32)

    def block(t):
        return identity_block(t, 8, row, name="b")

    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, block(inputs))
    model.get_layer("b_conv3").kernel.assign(np.zeros((1, 1, 8, 32)))
    np.testing.assert_array_equal(np.array(model(x)), x)


def strides(model):
    return {layer.name: layer.strides[0] for layer in model.layers if isinstance(layer, layers.Conv2D)}


@pytest.mark.parametrize(
    "name, striding",
    [("resnet50", "conv2"), ("resnet50v1", "conv1"), ("resnet18", "conv1"), ("preresnet164_cifar", "conv1")],
)
def test_where_the_stride_is(rng, name, striding):
    row = VARIANTS[name]
    _, model = run(lambda t: projection_block(t, 8, row, stride=2, name="b"), images(rng, 1, 8, 8, 16))
    assert {name for name, stride in strides(model).items() if stride == 2} == {
        f"b_{striding}",
        "b_proj_conv",
    }


def test_strided_identity_block_pools_its_shortcut(rng):
    row = VARIANTS["resnet50v2_keras"]
    _, model = run(lambda t: identity_block(t, 8, row, stride=2, name="b"), images(rng, 1, 8, 8, 32))
    assert {name for name, stride in strides(model).items() if stride == 2} == {"b_conv2"}
    assert model.get_layer("b_pool").strides == (2, 2)


@pytest.mark.parametrize(
    "name, biased",
    [
        ("resnet50", set()),
        ("resnet50v1", {"b_conv1", "b_conv2", "b_conv3", "b_proj_conv"}),
        ("resnet50v2_keras", {"b_conv3", "b_proj_conv"}),
    ],
)
def test_which_convolutions_have_biases(rng, name, biased):
    _, model = run(lambda t: projection_block(t, 8, VARIANTS[name], name="b"), images(rng, 1, 4, 4, 16))
    found = {layer.name for layer in model.layers if isinstance(layer, layers.Conv2D) and layer.use_bias}
    assert found == biased
