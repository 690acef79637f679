"""The fused batch normalization computes what Keras's does, and leaves the layer a stock one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import accelerate, build_resnet, kernels

ARGUMENTS = {"momentum": 0.9, "epsilon": 1e-5}


def pair(rng, shape=(4, 5, 6, 8), **arguments):
    """A stock layer and a fused one with the same random weights."""
    stock, fused = (keras.layers.BatchNormalization(**ARGUMENTS | arguments) for _ in range(2))
    for layer in (stock, fused):
        layer.build(shape)
    weights = [rng.uniform(0.5, 2, v.shape) for v in stock.weights]
    stock.set_weights(weights)
    fused.set_weights(weights)
    kernels.use_fused_normalization(fused)
    return stock, fused


def is_fused(layer):
    return getattr(layer.call, "__func__", None) is kernels._fused_normalization


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("shape", [(4, 5, 6, 8), (1, 3, 2, 3)])
def test_outputs_gradients_and_statistics_equal_stock(rng, training, trainable, shape):
    x, dy = (tf.constant(rng.normal(3, 2, shape), tf.float32) for _ in range(2))
    found = []
    for layer in pair(rng, shape):
        layer.trainable = trainable
        with tf.GradientTape() as tape:
            tape.watch([x, layer.gamma.value, layer.beta.value])
            y = layer(x, training=training)
        gradients = tape.gradient(y, [x, layer.gamma.value, layer.beta.value], dy)
        found.append([y, *gradients, *layer.get_weights()])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(1, np.abs(theirs).max()))


def test_sixteen_bit_features_stay_so(rng):
    layer = keras.layers.BatchNormalization(dtype="mixed_bfloat16", **ARGUMENTS)
    layer.build((4, 5, 6, 8))
    kernels.use_fused_normalization(layer)
    x = tf.constant(rng.normal(3, 2, (4, 5, 6, 8)), tf.float32)
    y = layer(x, training=True)
    assert (y.dtype, layer.moving_mean.dtype) == (tf.bfloat16, "float32")
    stock = keras.layers.BatchNormalization(**ARGUMENTS)
    np.testing.assert_allclose(tf.cast(y, tf.float32), stock(x, training=True), atol=0.05)
    np.testing.assert_allclose(layer.moving_mean, stock.moving_mean, atol=2e-3)
    graph = tf.function(lambda x: layer(x, training=True)).get_concrete_function(y).graph
    assert not [op for op in graph.get_operations() if op.type == "Cast" and op.inputs[0].shape.rank == 4]


class Halved(keras.layers.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training, mask) / 2


@pytest.mark.parametrize(
    "layer, shape",
    [
        (keras.layers.BatchNormalization(axis=1), (2, 3, 4, 5)),
        (keras.layers.BatchNormalization(), (2, 3)),
        (keras.layers.BatchNormalization(scale=False), (2, 3, 4, 5)),
        (keras.layers.BatchNormalization(center=False), (2, 3, 4, 5)),
        (keras.layers.BatchNormalization(synchronized=True), (2, 3, 4, 5)),
        (keras.layers.BatchNormalization(renorm=True), (2, 3, 4, 5)),
        (Halved(), (2, 3, 4, 5)),
    ],
)
def test_layers_that_the_kernel_does_not_fit_are_left_alone(layer, shape):
    layer.build(shape)
    kernels.use_fused_normalization(layer)
    assert not is_fused(layer)


def test_masks_and_double_precision_take_the_stock_way(rng):
    stock, fused = pair(rng)
    x = rng.normal(size=(4, 5, 6, 8)).astype("float32")
    mask = rng.uniform(size=(4, 5, 6)) < 0.5
    np.testing.assert_array_equal(fused(x, training=True, mask=mask), stock(x, training=True, mask=mask))
    stock, fused = pair(rng, dtype="float64")
    np.testing.assert_array_equal(fused(x, training=True), stock(x, training=True))


@pytest.mark.parametrize("vendor", [True, False])
def test_accelerate_fuses_where_the_kernel_is_fast(monkeypatch, tmp_path, rng, vendor):
    monkeypatch.setattr(kernels, "has_vendor_kernels", lambda: vendor)
    model = build_resnet(
        stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, input_shape=(8, 8, 3), num_classes=3
    )
    assert accelerate(model) is model
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {is_fused(layer) for layer in layers} == {vendor}
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    x = rng.normal(size=(8, 8, 8, 3)).astype("float32")
    model.fit(x, np.arange(8) % 3, verbose=0)
    assert all(abs(layer.moving_mean.numpy()).max() > 0 for layer in layers)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert not any(is_fused(layer) for layer in loaded.layers)
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)
