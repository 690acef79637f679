"""The run folder: what is written where, who may write, and how a signal ends a run in order."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import platform
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf
import yaml

import keras_resnet
from keras_resnet import files
from keras_resnet.files import write_text, written_aside, written_by_others
from keras_resnet.inference.evaluate import Evaluation
from keras_resnet.processor import processor
from keras_resnet.run_files import CLASSES, CONFIG, ENVIRONMENT, write_classes

_LOCK = "lock"


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its model (pixels in, probabilities out) and its figures."""

    folder: Path
    model: keras.Model
    history: list[dict]
    evaluation: Evaluation


def create(out, config: dict, class_names) -> Path:
    """Make the folder of a run and write config.yaml, env.json and classes.txt.

    Raises:
        FileExistsError: `out` is a file, or a folder that holds files.
        ValueError: a name of a class is empty or has a line break.
    """
    if out is None:
        out = Path("runs", f"{time.strftime('%Y%m%d-%H%M%S')}-{config['model']}-seed{config['seed']}")
    folder = Path(out)
    _check_empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _check_empty(folder)  # another run may have come in between
        # First: it may refuse a name, and an empty folder can be used again.
        write_classes(folder / CLASSES, class_names)
        write_text(folder / ENVIRONMENT, json.dumps(environment(), indent=2) + "\n")
        # Last: with it the folder is a run.
        write_text(folder / CONFIG, yaml.safe_dump(config, sort_keys=False))
    return folder


def _check_empty(folder):
    if folder.exists() and (not folder.is_dir() or any(file.name != _LOCK for file in folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder; choose another for this run.")


def write_history(rows: list[dict], path) -> None:
    """Write history.csv, one row for each epoch, as a whole."""
    with written_aside(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else [])
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)


def save_model(model: keras.Model, folder: Path, name: str = "model") -> None:
    """Write model.keras; a file of that name is replaced by a whole one or not at all."""
    path = folder / f"{name}.keras"
    with written_aside(path) as part, written_by_others(path):
        model.save(part)


@contextlib.contextmanager
def locked(folder):
    """Keep other processes out of `folder` by its file ``lock``; see `keras_resnet.files.locked`.

    Raises:
        ValueError: another run holds the folder.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with files.locked(Path(folder, _LOCK), folder):
        yield


@contextlib.contextmanager
def on_signals(handler):
    """Within, the first Ctrl-C or SIGTERM calls ``handler(number)``; the next one acts as before.

    A signal that is ignored (Ctrl-C, in a job in the background) stays so. Outside of the main
    thread, where Python allows no handlers, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: former for number, former in before.items() if former is not signal.SIG_IGN}

    def put_back():
        for number, former in before.items():
            signal.signal(number, former)

    def first(number, frame):
        put_back()
        handler(number)

    for number in before:
        signal.signal(number, first)
    try:
        yield
    finally:
        put_back()


def leave(number: int):
    """End as a process does after this signal: status 130 after Ctrl-C, 143 after SIGTERM."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def device() -> str:
    """What TensorFlow computes on, in words."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"the CPU ({os.cpu_count()} cores; TensorFlow sees no GPU)"
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    return f"the GPU {names[0]}" + (f", the first of {len(names)}" if len(names) > 1 else "")


def environment() -> dict:
    """Versions and machine."""
    return {
        "keras_resnet": keras_resnet.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "backend": keras.config.backend(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device(),
        "cpu": processor()[0],
    }


class EpochLog(keras.callbacks.Callback):
    """A row of history.csv for each epoch, and a printed line where there is no terminal."""

    def __init__(self, path, images_per_epoch: int, epochs: int, *, quiet: bool = False):
        super().__init__()
        self.history: list[dict] = []
        self._quiet = quiet or sys.stdout.isatty()
        self._path, self._images, self._epochs = path, images_per_epoch, epochs

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self._start, self._seconds = time.perf_counter(), None

    def on_test_begin(self, logs=None):
        """Stop the clock: the held-out images are not training."""
        self._seconds = time.perf_counter() - self._start

    def on_epoch_end(self, epoch, logs=None):
        """Write the row."""
        row = {
            "epoch": epoch + 1,
            "loss": logs["loss"],
            "train_accuracy": logs["accuracy"],
            "test_loss": logs["val_loss"],
            "test_accuracy": logs["val_accuracy"],
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": self._seconds,
            "images_per_second": self._images / self._seconds,
        }
        self.history.append(row)
        write_history(self.history, self._path)
        if not self._quiet:
            line = (
                "epoch {epoch}/{epochs}  loss {loss:.4f}  train {train_accuracy:.4f}"
                "  test {test_accuracy:.4f}  {seconds:.1f} s  {images_per_second:.0f} img/s"
            )
            print(line.format(epochs=self._epochs, **row), flush=True)

    def get_state(self) -> dict:
        """The rows, and the seconds of this epoch so far."""
        seconds = self._seconds or time.perf_counter() - self._start
        return {"history": self.history, "seconds": seconds}

    def set_state(self, state: dict):
        """Go on from these rows; later ones leave the file."""
        self.history, self._seconds = list(state["history"]), None
        self._start = time.perf_counter() - state["seconds"]
        write_history(self.history, self._path)


def name_of(data) -> str:
    """What config.yaml calls data: arrays have no name."""
    return os.fspath(data) if isinstance(data, str | os.PathLike) else "arrays"
