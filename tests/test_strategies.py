"""Two devices train as one does."""

import os
import subprocess
import sys

import keras
import pytest

from keras_resnet import RECIPES
from keras_resnet.training.strategies import open_strategy, scale_recipe

# Logical devices must be there before TensorFlow starts: another process.
TWO_DEVICES = """
import sys
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_resnet import build_resnet, train
from keras_resnet.kernels import accelerate
from keras_resnet.training.losses import softmax_cross_entropy
from keras_resnet.training.optimizers import SGD
from keras_resnet.training.strategies import open_strategy, synchronize

rng = np.random.default_rng(0)
images, labels = rng.normal(size=(20, 8, 8, 3)).astype("float32"), np.arange(20) % 4
dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)  # 8, 8 and 4

def trained(strategy, **options):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = build_resnet(
            stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, stem_filters=8,
            input_shape=(8, 8, 3), num_classes=4, classifier_activation=None, zero_init_last=False,
        )
        synchronize(model, strategy.num_replicas_in_sync > 1)
        accelerate(model).compile(
            SGD(0.05, 0.9, weight_decay=1e-3), softmax_cross_entropy, metrics=["accuracy"], jit_compile=False
        )
    history = model.fit(dataset, epochs=2, shuffle=False, verbose=0).history
    return [v.numpy() for v in model.weights], history

mirrored = open_strategy("mirrored")
one, two = trained(open_strategy(None)), trained(mirrored)
print("weights", max(np.abs(a - b).max() for a, b in zip(one[0], two[0])))
print("history", max(np.abs(np.subtract(one[1][k], two[1][k])).max() for k in one[1]))
run = train(
    out=sys.argv[1], strategy="mirrored", save_every=7,
    settings={"epochs": 1, "warmup_epochs": 0.0, "batch_size": 128, "learning_rate": 0.05},
)
saved = keras.saving.load_model(run.folder / "model.keras", compile=False)
print("stock", not any(getattr(layer, "synchronized", False) for layer in saved.layers))
print("images", run.evaluation.count)
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirrored")
    finished = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, str(folder / "run")],
        capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=600,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder / "run", finished.stdout


def figures(report):
    pairs = (line.split() for line in report[1].splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


@pytest.mark.slow
def test_weights_are_those_of_one_device(report):
    assert float(figures(report)["weights"]) < 1e-6
    assert float(figures(report)["history"]) < 1e-6


@pytest.mark.slow
def test_a_run_on_two_devices(report):
    folder, output = report
    assert "jit_compile=False" in output
    assert "replicas: 2" in (folder / "config.yaml").read_text()
    assert (figures(report)["stock"], figures(report)["images"]) == ("True", "359")


def test_rates_grow_with_the_batch():
    sgd, lamb = RECIPES["he2015-cifar"], RECIPES["timm-a2"]
    scaled = scale_recipe(sgd, 4)
    assert (scaled.batch_size, scaled.learning_rate, scaled.steps_per_epoch) == (512, 0.4, 100)
    assert scale_recipe(lamb, 4).learning_rate == 2 * lamb.learning_rate


def test_strategies_that_cannot_be():
    with pytest.raises(ValueError, match="strategy='both' is unknown"):
        open_strategy("both")
    with pytest.raises(ValueError, match="needs two devices"):
        open_strategy("mirrored")


def test_keras_distribution_is_refused(monkeypatch):
    monkeypatch.setattr(keras.distribution, "distribution", lambda: object())
    with pytest.raises(ValueError, match="leaves the variables on the first device"):
        open_strategy(None)
