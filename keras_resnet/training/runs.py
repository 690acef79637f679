"""The run folder: what is written where."""

from __future__ import annotations

import csv
import json
import os
import platform
import time
from pathlib import Path

import keras
import tensorflow as tf
import yaml

import keras_resnet


def create(out, config: dict, class_names) -> Path:
    """Make the folder of a run and write config.yaml, env.json and classes.txt.

    Raises:
        FileExistsError: `out` is a file, or a folder that holds files.
    """
    if out is None:
        out = Path("runs", f"{time.strftime('%Y%m%d-%H%M%S')}-{config['model']}-seed{config['seed']}")
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder; choose another for this run.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (folder / "env.json").write_text(json.dumps(environment(), indent=2) + "\n", encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
    return folder


def save_model(model: keras.Model, folder: Path, name: str = "model") -> None:
    """Write model.keras; a file of that name is replaced by a whole one or not at all."""
    part = folder / f"{name}.part.keras"
    try:
        model.save(part)
        os.replace(part, folder / f"{name}.keras")
    finally:
        part.unlink(missing_ok=True)


def write_history(rows: list[dict], path) -> None:
    """Write history.csv, one row for each epoch, as a whole."""
    part = Path(f"{path}.part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else [])
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
    os.replace(part, path)


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
    }
