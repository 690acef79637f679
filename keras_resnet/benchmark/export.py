"""How fast a variant answers in the runtimes of `export`, beside keras.applications."""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_resnet.benchmark.rounds import Row, take_turns
from keras_resnet.builders import build_model
from keras_resnet.inference.export import export
from keras_resnet.inference.formats import FORMATS
from keras_resnet.weights.synthetic import synthetic_tensor

BASELINE = "keras.applications ResNet50 predict"
CONTENDERS = tuple((format, precision) for format, kind in FORMATS.items() for precision in kind.precisions)


def run(
    variant: str = "resnet50", batch_size: int = 32, image_size: int = 224, rounds: int = 5,
    contenders=CONTENDERS,
) -> list[Row]:  # fmt: skip
    """Measure the exports of a variant on one batch of images.

    The first contender, to which the others are compared, is ``predict`` of ResNet-50 of
    keras.applications. Weights are synthetic: of a new network, whose biases are all zero,
    runtimes compute less.

    Args:
        variant: Name of a variant.
        batch_size: Images in a call.
        image_size: Their side in pixels.
        rounds: How often each contender has its turn, after one to warm up.
        contenders: Pairs of a format and a precision.

    Returns:
        A row for each contender, with a note where it could not take part.
    """
    images = np.random.default_rng(0).integers(0, 256, (batch_size, image_size, image_size, 3), np.uint8)
    theirs = _synthetic(keras.applications.ResNet50(weights=None, input_shape=images.shape[1:]))
    network = _synthetic(build_model(variant, input_shape=images.shape[1:], normalization=(0.5, 0.25)))
    pixels = images.astype(np.float32)
    computing = {BASELINE: _turn(lambda x: theirs.predict(x, batch_size=batch_size, verbose=0), pixels)}
    with tempfile.TemporaryDirectory() as folder:
        for format, precision in contenders:
            path = Path(folder, f"{precision}{FORMATS[format].suffix}")
            computing[f"{format} {precision}"] = _contender(network, path, format, precision, images)
        return take_turns(computing, rounds)


def _contender(network, path, format, precision, images):
    """A turn of one export, or why there is none."""
    data = (images, np.zeros(len(images), np.int64))
    try:
        export(
            network, path, format, precision=precision, images=2,
            calibration=(data, data) if precision == "int8" else None,
        )  # fmt: skip
    except (ValueError, ImportError) as error:
        return str(error)
    return _turn(FORMATS[format].open(str(path), precision), images)


def _turn(compute, images):
    def one():
        compute(images)
        return len(images)

    return one


def _synthetic(model):
    for variable in model.weights:
        variable.assign(synthetic_tensor(variable.path, tuple(variable.shape)))
    return model
