"""From a command to a run folder."""

import contextlib
import csv
import dataclasses
import errno
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from keras_resnet import RECIPES, DataError, evaluate, files, open_model, train
from keras_resnet.cli import main
from keras_resnet.training import fit, runs
from keras_resnet.training.recipe import describe
from keras_resnet.training.resume import reopen
from keras_resnet.training.snapshots import newest

QUICK = dict(epochs=2, warmup_epochs=1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(out=tmp_path_factory.mktemp("runs") / "digits", settings=QUICK)


def test_run_folder(run):
    files = {path.name for path in run.folder.iterdir()}
    assert files == {
        "config.yaml", "env.json", "classes.txt", "history.csv", "model.keras",
        "curves.png", "confusion_matrix.png", "report.html", "snapshots",
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
    assert artifact.options == {"crop_fraction": 1.0, "interpolation": "bilinear", "antialias": True}
    assert artifact.class_names == tuple("0123456789")


class Stopped(runs.EpochLog):
    """Ends the process, as SIGTERM does, in the second epoch."""

    def on_train_batch_begin(self, batch, logs=None):
        if len(self.history) == 1 and batch == 9:
            os.kill(os.getpid(), signal.SIGTERM)


def test_stopped_and_resumed_run_is_the_same_run(run, tmp_path, monkeypatch, capsys):
    settings = [f"--set={key}={value}" for key, value in QUICK.items()]
    with monkeypatch.context() as patch:
        patch.setattr(runs, "EpochLog", Stopped)
        with pytest.raises(SystemExit) as left:
            main(["train", "--out", str(tmp_path / "run"), "--save-every", "4", *settings])
    assert left.value.code == 143
    assert f"go on with: keras-resnet train --resume {tmp_path / 'run'}\n" in capsys.readouterr().out
    resume = ["train", "--resume", str(tmp_path / "run")]
    assert main([*resume, "--seed", "1", "--set", "learning_rate=0.2"]) == 2
    assert "seed was 0 and is 1; recipe.learning_rate was 0.1 and is 0.2" in capsys.readouterr().err
    # A row of after the snapshot, which the run goes back behind.
    with open(tmp_path / "run/history.csv", "a") as file:
        file.write("2,0,0,0,0,0,0,0\n")
    assert main(resume) == 0
    ours, theirs = open_model(tmp_path / "run").model, open_model(run.folder).model
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()
    histories = [
        # All but the two columns that a clock has written.
        [line.split(",")[:6] for line in (folder / "history.csv").read_text().splitlines()]
        for folder in (tmp_path / "run", run.folder)
    ]
    assert histories[0] == histories[1]
    assert len(histories[0]) == 3


def test_resuming_what_is_no_run(tmp_path, capsys):
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert "config.yaml: there is no such file; give the folder of a run" in capsys.readouterr().err
    with pytest.raises(ValueError, match="resume=True needs the folder"):
        reopen(None, {}, ())


def test_nan_ends_with_status_3_and_is_not_saved(monkeypatch, capsys):
    def diverge(*arguments, **options):
        with contextlib.ExitStack() as after:
            after.push(functools.partial(fit._keep, None, None, None))
            raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr(fit, "train", diverge)
    assert main(["train"]) == 3
    assert capsys.readouterr().err == "keras-resnet: the loss is not finite\n"


# One run in a folder.


@pytest.mark.parametrize("without_locks", [False, True])
def test_lock(tmp_path, monkeypatch, without_locks):
    if without_locks:

        def flock(*arguments):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(files.fcntl, "flock", flock)
    held = f"in use by process {os.getpid()} on {socket.gethostname()}; wait"
    with runs.locked(tmp_path), pytest.raises(ValueError, match=held), runs.locked(tmp_path):
        pass
    assert not (tmp_path / "lock").exists()
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "lock").write_text(f"process {gone.pid} on {socket.gethostname()}\n")
    with runs.locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()
    (tmp_path / "lock").write_text(f"process {gone.pid} on elsewhere\n")
    if without_locks:
        with pytest.raises(ValueError, match="on elsewhere; wait"), runs.locked(tmp_path):
            pass


def test_folder_with_files_is_refused(run):
    with pytest.raises(FileExistsError, match="digits exists and is not an empty folder"):
        train(out=run.folder)


def test_train_on_photographs(folder, tmp_path):
    run = train(
        "resnet18", folder, image_size=32, out=tmp_path / "run",
        settings=dict(epochs=1, warmup_epochs=0.0, batch_size=5, crop="resized", dropout=0.1, drop_path=0.1),
    )  # fmt: skip
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert (config["crop_fraction"], config["channels"]) == (None, 3)
    assert run.evaluation.count == 3


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


@pytest.mark.parametrize(
    "number, status", [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_interrupt_keeps_the_weights_within_30_seconds(tmp_path, number, status):
    command = [sys.executable, "-m", "keras_resnet", "train", "--out", tmp_path / "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    time.sleep(0.5)
    sent = time.monotonic()
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert time.monotonic() - sent < 30
    assert process.returncode == status, errors
    assert newest(tmp_path / "run/snapshots").state["step"] > 22  # the first epoch's last
    assert f"go on with: keras-resnet train --resume {tmp_path / 'run'}" in output
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
        command = ["-m", "keras_resnet", "train", "--seed", str(seed), "--out", tmp_path / str(seed)]
        subprocess.run([sys.executable, *command], check=True)
        scores.append(evaluate(open_model(tmp_path / str(seed)).model, "digits").top1)
    assert np.mean(scores) >= 0.985
    assert (time.perf_counter() - start) / 3 < 120
