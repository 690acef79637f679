"""Two devices train as one does."""

import os
import subprocess
import sys
from dataclasses import replace

import keras
import pytest

from keras_resnet import RECIPES
from keras_resnet.training.strategies import open_strategy, scale_recipe

# Logical devices must be there before TensorFlow starts: another process.
TWO = """
import sys
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""
SAME_WEIGHTS = (
    TWO
    + """
from keras_resnet import build_resnet
from keras_resnet.kernels import accelerate
from keras_resnet.training.losses import softmax_cross_entropy
from keras_resnet.training.optimizers import SGD
from keras_resnet.training.replicas import share_batches
from keras_resnet.training.strategies import open_strategy, synchronize

rng = np.random.default_rng(0)
images, labels = rng.normal(size=(21, 8, 8, 3)).astype("float32"), np.arange(21) % 4
dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)  # 8, 8 and 5

def trained(strategy):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = build_resnet(
            stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, stem_filters=8,
            input_shape=(8, 8, 3), num_classes=4, classifier_activation=None, zero_init_last=False,
        )
        model.get_layer("head").kernel.regularizer = keras.regularizers.L2(0.1)
        several = strategy.num_replicas_in_sync > 1
        synchronize(model, several)
        optimizer = SGD(0.05, 0.9, weight_decay=1e-3, global_clipnorm=0.5)
        accelerate(model).compile(
            optimizer, softmax_cross_entropy, metrics=["accuracy"], jit_compile=False
        )
        if several:
            share_batches(model)
    history = model.fit(
        dataset, epochs=2, shuffle=False, verbose=0, validation_data=dataset.take(3)
    ).history
    return [v.numpy() for v in model.weights], history

mirrored = open_strategy("mirrored")
one, two = trained(open_strategy(None)), trained(mirrored)
print("weights", max(np.abs(a - b).max() for a, b in zip(one[0], two[0])))
print("history", max(np.abs(np.subtract(one[1][k], two[1][k])).max() for k in one[1]))
"""
)
RESTART = (
    TWO
    + """
import hashlib
from pathlib import Path
from keras_resnet import train
from keras_resnet.training import snapshots

settings = {
    "epochs": 2, "warmup_epochs": 0.5, "batch_size": 64, "learning_rate": 0.05, "ema": 0.9, "mixup": 0.2,
    "dropout": 0.2, "steps_per_epoch": 12, "clip_norm": 1.0, "architecture": {"stages": [[1, 16], [1, 32]]},
}
arguments = {"strategy": "mirrored", "save_every": 4, "settings": settings}

def outcome(folder):
    found = snapshots.newest(folder / "snapshots")
    arrays = (folder / "snapshots" / found.path.name / "arrays.bin").read_bytes()
    rows = [row.split(",")[:6] for row in (folder / "history.csv").read_text().split()]
    return found.state["step"], hashlib.sha256(arrays).hexdigest(), rows

whole = train(out=Path(sys.argv[1], "whole"), **arguments)
saved = keras.saving.load_model(whole.folder / "model.keras", compile=False)
print("stock", not any(getattr(layer, "synchronized", False) for layer in saved.layers))
print("images", whole.evaluation.count)

real, killed = snapshots.write, Path(sys.argv[1], "killed")
for step, resume in ((6, False), (8, True), (12, True)):  # within an epoch, and at the end of each
    def write(folder, number, *rest, **options):
        path = real(folder, number, *rest, **options)
        if number >= step:
            raise RuntimeError("killed")
        return path
    snapshots.write = write
    try:
        train(out=killed, resume=resume, **arguments)
    except RuntimeError:
        pass
snapshots.write = real
train(out=killed, resume=True, **arguments)
print("restart", outcome(killed) == outcome(whole.folder))
"""
)


ANSWERS = (
    TWO
    + """
import contextlib
from PIL import Image
import keras_resnet as kr
from keras_resnet.inference.artifacts import Artifact
from keras_resnet.report.examine import examine
from keras_resnet.transform import Geometry

folder, rng = sys.argv[1], np.random.default_rng(0)
x, y = rng.integers(0, 256, (9, 8, 8, 3), np.uint8), np.arange(9) % 4
for i, image in enumerate(x):
    Image.fromarray(image).save(f"{folder}/{i}.png")

def network():
    keras.utils.set_random_seed(0)
    model = kr.build_resnet(
        stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, stem_filters=8, num_classes=4,
        input_shape=(8, 8, 3), normalization=(0.5, 0.25), zero_init_last=False,
    )
    model.get_layer("head").kernel.assign(rng_head)
    return model

def batches(size):
    return kr.make_dataset((x, y), "train", training=False, batch_size=size)

def answers(model):
    for size in (1, 4):
        found = kr.evaluate(model, batches(size))
        yield [found.count, found.top1, found.top5, found.loss]
    found = examine(model, batches(4))
    yield [found.evaluation.count, found.calibration.counts.sum(), found.calibration.error]
    artifact = Artifact(model, tuple("abcd"), Geometry(crop_fraction=1.0))
    yield [dict(one.classes)[name] for one in kr.predict(artifact, folder, batch_size=4) for name in "abcd"]
    yield kr.gradcam(model, x)
    kr.recalibrate_bn(model, batches(4), 3)
    yield np.concatenate([v.numpy().ravel() for v in model.weights])

rng_head = rng.normal(size=(8, 4)).astype("float32")
single = network()
expected = list(answers(single))
assert expected[0][0] == 9 and len({tuple(np.round(e, 6)) for e in expected[:2]}) == 1
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for name, strategy in {"mirrored": mirrored, "one": tf.distribute.OneDeviceStrategy("CPU:1")}.items():
    for built, used in ((True, False), (True, True), (False, True)):
        with strategy.scope() if built else contextlib.nullcontext():
            model = network()
        with strategy.scope() if used else contextlib.nullcontext():
            found = list(answers(model))
        off = max(np.abs(np.subtract(a, b)).max() for a, b in zip(found, expected, strict=True))
        print(f"{name}/{built}/{used}", off)
with mirrored.scope():
    model = network()
file = kr.export(Artifact(model, tuple("abcd"), Geometry(crop_fraction=1.0)), f"{folder}/file").path
print("export", np.abs(kr.open_export(file)(x) - network().predict(x, verbose=0)).max())
for refused in (lambda: kr.export(model, f"{folder}/other"), lambda: kr.finetune(model, None)):
    try:
        with mirrored.scope():
            refused()
    except ValueError as error:
        print("refused", str(error).endswith("leave the scope of the strategy, which has 2."))
"""
)


def run(code, *arguments):
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=900,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    pairs = [line.split() for line in finished.stdout.splitlines()]
    return finished.stdout, {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def test_weights_are_those_of_one_device_with_an_uneven_last_batch():
    _, figures = run(SAME_WEIGHTS)
    assert float(figures["weights"]) < 1e-6
    assert float(figures["history"]) < 1e-6


@pytest.mark.filterwarnings("ignore:.*SavedModel")
def test_every_answer_counts_each_image_once_under_every_strategy(tmp_path):
    output, figures = run(ANSWERS, str(tmp_path))
    pairs = {name: float(value) for name, value in figures.items() if "/" in name}
    assert len(pairs) == 6
    assert max(pairs.values()) < 1e-5
    assert float(figures["export"]) < 1e-5
    assert output.count("refused True") == 2


@pytest.mark.slow
def test_a_run_on_two_devices_and_its_restart(tmp_path):
    output, figures = run(RESTART, str(tmp_path))
    assert "jit_compile=False" in output
    assert "replicas: 2" in (tmp_path / "whole/config.yaml").read_text()
    assert (figures["stock"], figures["images"]) == ("True", "359")
    assert figures["restart"] == "True"


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
    with pytest.raises(ValueError, match="accumulate=2: Keras 3.15 cannot accumulate"):
        scale_recipe(replace(RECIPES["small"], accumulate=2), 2)


@pytest.mark.parametrize(
    "config",
    [
        None, "host0,host1", "{}", '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        pytest.param("[" * 50_000, id="deep"),
    ],
)  # fmt: skip
def test_workers_that_nobody_names(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config) if config else monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="TF_CONFIG=.* does not name the workers"):
        open_strategy("multiworker")


def test_keras_distribution_is_refused(monkeypatch):
    monkeypatch.setattr(keras.distribution, "distribution", lambda: object())
    with pytest.raises(ValueError, match="leaves the variables on the first device"):
        open_strategy(None)
