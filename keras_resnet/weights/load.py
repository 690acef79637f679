"""Weights into a model: everything fits and is loaded, or nothing changes."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace

import keras
import numpy as np

from keras_resnet.metadata import attach_metadata
from keras_resnet.nearest import suggest
from keras_resnet.weights.claims import check_file, check_record
from keras_resnet.weights.convert import assign
from keras_resnet.weights.download import download
from keras_resnet.weights.hub import hub_config
from keras_resnet.weights.keras_files import open_keras, open_weights_h5
from keras_resnet.weights.keymaps import HEAD, KERAS_WEIGHTS, get_layout
from keras_resnet.weights.readers import open_file
from keras_resnet.weights.records import (
    DATASETS,
    Record,
    Transform,
    best_record,
    get_record,
    list_records,
)
from keras_resnet.weights.slots import match
from keras_resnet.weights.tensors import Tensor, WeightFile, WeightsError, readable, regular_file
from keras_resnet.weights.transforms import find_transform

_SOURCES = ("torchvision", "timm", "keras", "keras_resnet")


def load_weights(
    model: keras.Model, source, *, adapt: bool | None = None, which: str | None = None
) -> keras.Model:
    """Load `source` into `model`, in place.

    Args:
        model: A model of this package.
        source: Path of a ``.keras`` or ``.weights.h5`` file of the same network, of a
            ``.safetensors`` file, of a torch checkpoint (new or old format, read without
            torch and without executing anything) or of an ``.h5`` file of
            keras.applications; or the name of a record, such as
            ``"torchvision/resnet50.imagenet1k_v2"``; or ``"imagenet"`` or ``"cifar10"``, the
            best record of the variant that the model is named after. Records are downloaded
            once, but for those that come with the package.
        adapt: Fit the stem to another number of channels, and leave a head of other classes
            as it is, which warnings tell. By default for records, not for files.
        which: Which of several sets of weights in a checkpoint: ``"ema"``, the moving average;
            ``"raw"``, the others; or one by its name or its prefix. By default the average, and a
            warning tells.

    Returns:
        The same model. Weights that expect BGR (keras.applications' ResNet50, 101 and 152, from a
        record or from their ``.h5`` files) are turned to RGB: with the ``transform`` of the record,
        every model takes RGB.

    Raises:
        ValueError: the source is missing, damaged, not finite, or holds another network; the
            message lists what differs. Networks are compared by what names and shapes cannot say,
            too: where they stride, how they pool, the epsilon of their norms.
    """
    record = _find_record(model, source)
    if record is not None:
        check_record(model, record)
    path = regular_file(source) if record is None else str(download(record))
    name = path if record is None else record.name
    with opened(path, which) as file:
        _, tensors = match(model, file.tensors, name, None if file.chosen else which)
        transform = find_transform(path, file.by_keras, tensors) if record is None else record.transform
        if transform is not None and transform.bgr:
            tensors = _in_rgb(tensors, transform)
        check = None if record is not None else functools.partial(check_file, model, file, source=name)
        left_out = assign(
            model, tensors, name, adapt=record is not None if adapt is None else adapt, check=check
        )
        if file.note:
            warnings.warn(f"{name} {file.note}", stacklevel=2)
    _describe(model, record, transform, whole=not left_out)
    return model


def _describe(model, record, transform, whole):
    """What is known of the model, which has the record's head if it is `whole`."""
    has_head = whole and any(layer.name == HEAD for layer in model.layers)
    names = record.class_names if record is not None and has_head else None
    geometry = None if transform is None else transform.geometry
    attach_metadata(model, class_names=names or None, geometry=geometry)


def count_tensors(path: str) -> int:
    """How many tensors a weight file holds."""
    with opened(path) as file:
        return len(file.tensors)


def _find_record(model, source) -> Record | None:
    if not isinstance(source, str | os.PathLike):
        raise WeightsError(f"weights={source!r}: expected a path, the name of a record or of its data.")
    path = os.fspath(source)
    # Whatever lies in the working folder: data sets are often in one called "imagenet".
    if path in DATASETS:
        return best_record(model.name, path)
    if os.path.isfile(path):
        return None
    if path.partition("/")[0] in _SOURCES and "/" in path:
        return get_record(path)
    if not os.path.exists(path):
        hint = suggest(path, list_records(), "list_records() lists those there are.")
        raise WeightsError(f"weights={path!r}: there is no such file, and no record of that name; {hint}")
    return None


@contextlib.contextmanager
def opened(file: str, which: str | None = None) -> Iterator[WeightFile]:
    """The content of `file`, which can be read as long as the context is open."""
    if file.endswith(".keras"):
        with tempfile.TemporaryDirectory() as folder:
            with readable(file):
                content = open_keras(file, folder)
            yield content
    elif file.endswith(".weights.h5"):
        with readable(file):
            content = open_weights_h5(file)
        yield content
    else:
        content = open_file(file, which)
        config = hub_config(file)
        beside = {"config.json beside it": config["architecture"]} if config else {}
        yield replace(content, says=content.says or beside)


def _in_rgb(tensors, transform: Transform) -> dict[str, Tensor]:
    """Let a stem that was trained on BGR of 0 to 255, less its means, take normalised RGB.

    Exact at the border too: zero padding means the mean colour in both.
    """
    key = get_layout("keras").layers["stem_conv"] + KERAS_WEIGHTS["kernel"]
    scale = 255 * np.asarray(transform.std, np.float32)
    stem = tensors.get(key)
    if stem is None or stem.shape[2:3] != scale.shape:
        return tensors
    return tensors | {key: replace(stem, read=lambda: stem.read()[:, :, ::-1] * scale[:, None])}
