"""From a command to a run folder."""

import csv
import dataclasses
import json
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from keras_resnet import RECIPES, DataError, evaluate, open_model, train
from keras_resnet.training import runs
from keras_resnet.training.recipe import describe

QUICK = dict(epochs=2, warmup_epochs=1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(out=tmp_path_factory.mktemp("runs") / "digits", settings=QUICK)


def test_run_folder(run):
    files = {path.name for path in run.folder.iterdir()}
    assert files == {
        "config.yaml", "env.json", "classes.txt", "history.csv", "model.keras",
        "curves.png", "confusion_matrix.png",
    }  # fmt: skip
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert config["recipe"] == describe(dataclasses.replace(RECIPES["digits"], **QUICK))
    assert (config["model"], config["data"], config["image_size"], config["seed"]) == (
        "resnet20_cifar",
        "digits",
        8,
        0,
    )
    assert json.loads((run.folder / "env.json").read_text())["keras"] == keras.__version__
    assert (run.folder / "classes.txt").read_text().split() == list("0123456789")
    for picture in ("curves.png", "confusion_matrix.png"):
        assert (run.folder / picture).read_bytes().startswith(b"\x89PNG")


def test_history(run):
    with open(run.folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert set(rows[0]) == {
        "epoch", "loss", "train_accuracy", "test_loss", "test_accuracy",
        "learning_rate", "seconds", "images_per_second",
    }  # fmt: skip
    # One epoch of warmup ends at the learning rate, the last step at zero.
    assert float(rows[0]["learning_rate"]) == pytest.approx(0.1)
    assert float(rows[1]["learning_rate"]) == pytest.approx(0, abs=1e-6)


def test_saved_model_is_the_one_that_was_evaluated(run):
    artifact = open_model(run.folder)
    evaluation = evaluate(artifact.model, "digits")
    assert evaluation.top1 == run.evaluation.top1
    assert evaluation.loss == pytest.approx(run.evaluation.loss, rel=1e-4)
    assert evaluation.count == 359
    assert artifact.options == {"crop_fraction": 1.0, "interpolation": "bilinear"}
    assert artifact.class_names == tuple("0123456789")


def test_same_seed_same_weights(run, tmp_path):
    again = train(out=tmp_path / "again", settings=QUICK)
    for ours, theirs in zip(run.model.weights, again.model.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-4)


def test_folder_with_files_is_refused(run):
    with pytest.raises(FileExistsError, match="digits exists and is not an empty folder"):
        train(out=run.folder)


def test_train_on_photographs(folder, tmp_path):
    run = train(
        "resnet18", folder, image_size=32, out=tmp_path / "run",
        settings=dict(epochs=1, warmup_epochs=0.0, batch_size=5, crop="resized", dropout=0.1, drop_path=0.1),
    )  # fmt: skip
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert (config["crop_fraction"], config["channels"]) == (0.875, 3)
    assert run.evaluation.count == 2


def test_precision_is_put_back(tmp_path, monkeypatch):
    before = keras.config.dtype_policy().name
    arrays = (np.zeros((8, 8, 8, 3), np.uint8), np.arange(8) % 2)
    run = train(
        "resnet20_cifar", (arrays, arrays), out=tmp_path / "run",
        settings=dict(epochs=1, warmup_epochs=0.0, batch_size=8, precision="mixed_bfloat16"),
    )  # fmt: skip
    assert keras.config.dtype_policy().name == before
    assert run.model.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["data"] == "arrays"


def test_bad_image_stops_training_and_keeps_what_there_is(folder, tmp_path):
    (folder / "dog/3.png").write_bytes(b"nonsense")
    settings = dict(epochs=1, warmup_epochs=0.0, batch_size=5)
    with pytest.raises(DataError, match=r"dog/3\.png: neither JPEG"):
        train("resnet18", folder, image_size=32, out=tmp_path / "run", settings=settings)
    assert open_model(tmp_path / "run").model.output_shape == (None, 2)


def test_interrupt_keeps_the_weights(tmp_path):
    command = [sys.executable, "-m", "keras_resnet", "train", "--out", tmp_path / "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert open_model(tmp_path / "run").model.count_params() == 270_810


def test_failed_save_leaves_the_former_file(tmp_path, monkeypatch):
    (tmp_path / "model.keras").write_text("former")

    class Full:
        def save(self, path):
            path.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        runs.save_model(Full(), tmp_path)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"model.keras": "former"}


def test_device_in_words():
    words = runs.device()
    assert ("GPU" in words) == bool(tf.config.list_physical_devices("GPU")) or "no GPU" in words


@pytest.mark.slow
def test_default_run_reaches_its_accuracy_in_time(tmp_path):
    start, scores = time.perf_counter(), []
    for seed in range(3):
        command = [
            sys.executable,
            "-m",
            "keras_resnet.cli",
            "train",
            "--seed",
            str(seed),
            "--out",
            tmp_path / str(seed),
        ]
        subprocess.run(command, check=True)
        scores.append(evaluate(open_model(tmp_path / str(seed)).model, "digits").top1)
    assert np.mean(scores) >= 0.985
    assert (time.perf_counter() - start) / 3 < 120
