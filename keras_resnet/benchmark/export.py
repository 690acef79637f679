"""Inference in the runtimes of `export`, beside keras.applications.

Absolute figures of shared machines drift; contenders take turns, and the ratio counts.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_resnet.builders import build_model
from keras_resnet.inference.export import export
from keras_resnet.inference.formats import FORMATS
from keras_resnet.weights.synthetic import synthetic_tensor

BASELINE = "keras.applications.ResNet50.predict"
CONTENDERS = (
    ("savedmodel", "float32"),
    ("onnx", "float32"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("openvino", "int8"),
    ("litert", "float32"),
    ("litert", "int8"),
)


@dataclass(frozen=True)
class Row:
    """One contender: median milliseconds of a batch, images per second, and how often the baseline's."""

    contender: str
    median_ms: float
    images_per_second: float
    ratio: float


def run(
    model: str = "resnet50", *, batch_size: int = 32, image_size: int = 224, rounds: int = 5,
    contenders=CONTENDERS,
) -> list[Row]:  # fmt: skip
    """Time the exports of a variant with synthetic weights beside `keras.applications.ResNet50`.

    Args:
        model: Name of a variant.
        batch_size: Images in a batch.
        image_size: Their side in pixels.
        rounds: How often each contender takes its turn, after one round of warm-up.
        contenders: Pairs of a format and a precision.

    Returns:
        A row for each contender, the baseline first.

    Raises:
        ImportError: a format needs a package that is not installed.
    """
    images = np.random.default_rng(0).integers(0, 256, (batch_size, image_size, image_size, 3), np.uint8)
    baseline = keras.applications.ResNet50(weights=None, input_shape=(image_size, image_size, 3))
    calls = {BASELINE: lambda: baseline.predict(images.astype(np.float32), batch_size, verbose=0)}
    network = build_model(model, input_shape=(image_size, image_size, 3), normalization=(0.5, 0.25))
    for variable in (*baseline.weights, *network.weights):
        # Of a new network, whose biases are zero, runtimes compute less.
        variable.assign(synthetic_tensor(variable.path, tuple(variable.shape)))
    calibration = (images, np.zeros(batch_size, np.int64))
    with tempfile.TemporaryDirectory() as folder:
        for format, precision in contenders:
            kind = FORMATS[format]
            path = Path(folder, f"{precision}{kind.suffix}")
            data = (calibration, calibration) if precision == "int8" else None
            export(network, path, format, precision=precision, calibration=data, images=2)
            opened = kind.open(str(path), precision)
            calls[f"{format} {precision}"] = lambda opened=opened: opened(images)
        seconds = _take_turns(calls, rounds)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return [
        Row(name, 1000 * median, batch_size / median, medians[BASELINE] / median)
        for name, median in medians.items()
    ]


def _take_turns(calls, rounds):
    seconds = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def format_rows(rows: list[Row]) -> str:
    """The rows as an aligned table."""
    width = max(len(row.contender) for row in rows)
    lines = [f"{'contender':{width}}  ms a batch  img/s  ratio"]
    lines += [
        f"{row.contender:{width}}  {row.median_ms:10.1f}  {row.images_per_second:5.1f}  {row.ratio:5.2f}"
        for row in rows
    ]
    return "\n".join(lines)
