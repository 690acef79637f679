"""The ground floors run on Keras's JAX backend too."""

import importlib.util
import os
import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules["tensorflow"] = None
import keras, numpy as np
import keras_resnet
assert keras.config.backend() == "jax"
options = dict(stages=((1, 32), (1, 64)), num_classes=3, input_shape=(32, 32, 3))
for extra in (dict(cardinality=32, base_width=4), dict(preactivation=True, shortcut="conv", stem_pool="max")):
    model = keras_resnet.build_resnet(**options, **extra)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = np.random.default_rng(0).normal(size=(8, 32, 32, 3)), np.arange(8) % 3
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()
    assert keras_resnet.features(model, (2,)).predict(x, verbose=0)["stage2"].shape[-1] == 256
    assert keras_resnet.shape_table(model)[-1].parameters == model.count_params()
assert keras_resnet.build_resnet20_cifar().count_params() == 271098
print("fine")
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_models_build_train_and_predict_on_jax():
    env = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("fine")
