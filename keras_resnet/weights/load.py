"""Weights into a model: everything fits and is loaded, or nothing changes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_resnet.metadata import attach_metadata
from keras_resnet.nearest import suggest
from keras_resnet.weights.convert import assign
from keras_resnet.weights.download import download
from keras_resnet.weights.h5_files import describe, open_child
from keras_resnet.weights.keymaps import HEAD, KERAS_WEIGHTS, get_layout
from keras_resnet.weights.readers import Tensor, WeightsError, open_tensors
from keras_resnet.weights.records import DATASETS, Record, best_record, get_record, list_records
from keras_resnet.weights.tensors import regular_file, shown

_SOURCES = ("torchvision", "timm", "keras", "keras_resnet")
# What Keras numbers, in its order.
_NORM_WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")
_OTHER_WEIGHTS = ("kernel", "bias")


def load_weights(model: keras.Model, source, *, adapt: bool | None = None) -> keras.Model:
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
            as it is, which a warning tells. By default for records, not for files.

    Returns:
        The same model. A record that expects BGR (keras.applications' ResNet50/101/152) is
        turned to RGB: with a record's ``transform``, every model takes RGB.

    Raises:
        ValueError: the source is missing, damaged, not finite, or holds another network; the
            message lists what differs.
    """
    record = _find_record(model, source)
    file = regular_file(source) if record is None else str(download(record))
    with _opened(file) as tensors:
        if record is not None and record.transform.bgr:
            tensors = _in_rgb(tensors, record)
        adapt = record is not None if adapt is None else adapt
        left_out = assign(model, tensors, file if record is None else record.name, adapt=adapt)
    if record is not None:
        _describe(model, record, whole=not left_out)
    return model


def _describe(model, record, whole):
    """What the record says of the model, which has the record's head if it is `whole`."""
    has_head = whole and any(layer.name == HEAD for layer in model.layers)
    names = record.class_names if has_head else None
    attach_metadata(model, class_names=names or None, geometry=record.transform.geometry)


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
def _opened(file: str):
    """The tensors of `file`, which can be read as long as the context is open."""
    if file.endswith(".keras"):
        with tempfile.TemporaryDirectory() as folder:
            yield _open_keras_weights(_extract(file, folder), file)
    elif file.endswith(".weights.h5"):
        yield _open_keras_weights(file, file)
    else:
        yield open_tensors(file)


def _extract(file, folder) -> str:
    """The weights in a .keras file as a file of their own; its config and its code are not read."""
    name = "model.weights.h5"
    try:
        with zipfile.ZipFile(file) as archive:
            member = archive.getinfo(name)
            # Keras stores; what is compressed could grow without bounds.
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > os.path.getsize(file):
                raise WeightsError(f"{file}: {name} in it is compressed, which Keras does not do.")
            with archive.open(member) as source, open(Path(folder, name), "wb") as target:
                shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, OSError, KeyError, RuntimeError, EOFError) as error:
        raise WeightsError(f"{file}: is no whole .keras file of Keras 3: {error}") from error
    return str(Path(folder, name))


def _open_keras_weights(path, source) -> dict[str, Tensor]:
    """The tensors of a file of Keras 3 as ``"stem_conv/kernel"``, by the names of the layers."""
    tensors = {}
    try:
        with h5py.File(path, "r") as file:
            layers = open_child(file, "layers", source) if "layers" in file.keys() else {}  # noqa: SIM118
            for name in layers:
                layer = open_child(layers, name, source)
                if "vars" in layer.keys():  # noqa: SIM118 `in layer` alone follows links
                    _collect(open_child(layer, "vars", source), source, tensors)
    except WeightsError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{source}: is no whole weight file of Keras 3: {error}") from error
    if not tensors:
        raise WeightsError(f"{source}: holds no weights of layers, as Keras 3 saves them.")
    return tensors


def _collect(group, source, tensors):
    layer = group.attrs.get("name")
    if len(group) and not isinstance(layer, str):
        raise WeightsError(f"{source}: {shown(group.name)} does not name its layer; save it with Keras 3.15.")
    names = _NORM_WEIGHTS if layer and re.search(r"_[bg]n\d*$", layer) else _OTHER_WEIGHTS
    for number in group:
        dataset = open_child(group, number, source)
        where = f"{source}: {shown(dataset.name)}"
        known = number.isdecimal() and int(number) < len(names)
        key = f"{layer}/{names[int(number)] if known else number}"
        if key in tensors or not isinstance(dataset, h5py.Dataset):
            raise WeightsError(f"{where} is a second {shown(key)}, or no array.")
        tensors[key] = describe(dataset, where, group.file.filename)


def _in_rgb(tensors, record: Record) -> dict[str, Tensor]:
    """Let a stem that was trained on BGR of 0 to 255, less its means, take normalised RGB.

    Exact at the border too: zero padding means the mean colour in both.
    """
    key = get_layout(record.layout).layers["stem_conv"] + KERAS_WEIGHTS["kernel"]
    if key not in tensors:
        return tensors
    scale = 255 * np.asarray(record.transform.std, np.float32)
    stem = tensors[key]
    return tensors | {key: replace(stem, read=lambda: stem.read()[:, :, ::-1] * scale[:, None])}
