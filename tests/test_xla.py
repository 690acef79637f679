"""Steps compiled by XLA: no layer switches it off, and the fused kernels stay right in it."""

import keras
import numpy as np

from keras_resnet import build_resnet, kernels, layers


def tiny(stages=((1, 8), (1, 16)), **options):
    return build_resnet(
        stages=((1, 8), (1, 16)),
        stem="conv3",
        stem_pool=None,
        input_shape=(8, 8, 3),
        num_classes=3,
        **options,
    )


def test_no_layer_switches_xla_off():
    options = {"dropout": 0.5, "drop_path": 0.5, "drop_block": 0.1, "normalization": (0.5, 0.25)}
    for more in (
        {},
        {"downsample": "blur", "attention": "se"},
        {"standardize_weights": True, "norm": "batch"},
    ):
        assert tiny(**options, **more).supports_jit
    assert all(getattr(layers, name)(3).supports_jit for name in ("ReflectionPadding2D", "DropBlock"))


def test_a_compiled_step_is_the_same_step(rng):
    x, y = rng.normal(size=(8, 8, 8, 3)).astype("float32"), np.arange(8) % 3
    found = []
    for compiled in (False, True):
        keras.utils.set_random_seed(0)
        model = tiny(((1, 8),), cardinality=2)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                kernels.use_fused_normalization(layer)
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", jit_compile=compiled)
        model.fit(x, y, batch_size=8, epochs=2, verbose=0)
        assert model.jit_compile is compiled
        found.append(model.get_weights())
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
