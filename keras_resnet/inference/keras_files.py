"""Whole models in Keras's own format, opened only if the file holds what it declares."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import threading
import zipfile
from collections.abc import Iterator

import h5py
import keras

from keras_resnet.graphs import deep_graphs
from keras_resnet.metadata import restore_metadata
from keras_resnet.printing import show
from keras_resnet.weights.h5_files import check_heaps

# Bytes of the configuration of a model; ResNet-1001 has 4 MB.
_LARGEST_CONFIG = 64 << 20
# Keras stores weights as they are. Compressed by others they hardly shrink; a bomb does a thousandfold.
_EXPANSION = 20
# Values of one image, 1 GB as float32.
_LARGEST_IMAGE = 2**28
_SLACK = 64 << 20
_WEIGHTS = "model.weights.h5"
# What is changed in Keras while a file is opened is changed for all threads.
_opening = threading.RLock()


def read_keras(path) -> keras.Model:
    """Read a ``.keras`` file, with the facts that `attach_metadata` has put into it.

    What the file declares is compared with what it holds before anything is built: the sizes in the
    archive, the shapes of its arrays, and the weights of its layers.

    Raises:
        ValueError: the file is damaged, cannot be read by Keras, or declares what it does not hold;
            the message names it, and the cause is kept.
    """
    try:
        if not zipfile.is_zipfile(path):
            # Keras would say that it does not exist.
            raise ValueError("it is no zip file, or one that was cut off")
        with _opening, _at_most(_check_archive(path)), deep_graphs():
            model = restore_metadata(keras.saving.load_model(path, compile=False), path)
        _check_inputs(model)
    # What Keras, h5py and zipfile raise on a damaged file is everything.
    except Exception as error:
        raise ValueError(f"{show(path)} is not a readable Keras model: {_reason(error)}") from error
    return model


def _reason(error):
    text = " ".join(str(error).split())
    text = f"{text[:500]}..." if len(text) > 500 else text
    return text if isinstance(error, ValueError | OSError) and text else f"{type(error).__name__}: {text}"


def _check_archive(path) -> int:
    """Bytes of all weights that the file holds, once its parts are as long and whole as they say."""
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        declared = {info.filename: info.file_size for info in archive.infolist()}
        unpacked = sum(declared.values())
        if unpacked > _EXPANSION * size + _SLACK or declared.get("config.json", 0) > _LARGEST_CONFIG:
            raise ValueError(f"its {size:,} bytes declare {unpacked:,} bytes when they are unpacked")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged!r} does not match its checksum; the file is damaged")
        # Within Python's own limit, so that it is not nested too deep.
        if not isinstance(json.loads(archive.read("config.json")), dict):
            raise ValueError("its config.json describes no model")
        return _stored_bytes(archive.read(_WEIGHTS)) if _WEIGHTS in declared else unpacked


def _stored_bytes(data) -> int:
    """Bytes that the arrays of an HDF5 file declare."""
    check_heaps(data, _WEIGHTS)
    sizes = []
    with h5py.File(io.BytesIO(data), "r") as file:
        file.visititems(
            lambda name, item: (
                sizes.append(math.prod(item.shape or ()) * item.dtype.itemsize)
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    if sum(sizes) > _EXPANSION * len(data) + _SLACK:
        raise ValueError(f"its weights declare {sum(sizes):,} bytes, of which {len(data):,} are stored")
    return sum(sizes)


@contextlib.contextmanager
def _at_most(stored: int) -> Iterator[None]:
    """Within, layers whose weights are much larger than what is `stored` are refused before they are made."""
    original, thread, limit, total = (
        keras.layers.Layer.add_weight,
        threading.get_ident(),
        4 * stored + _SLACK,
        0,
    )

    def add_weight(layer, shape=None, *arguments, **options):
        nonlocal total
        if threading.get_ident() == thread:
            # Keras's own layers pass a number, a tuple or TensorFlow's shape.
            shape = () if shape is None else shape
            total += 4 * math.prod((shape,) if isinstance(shape, int) else tuple(shape))
            if total > limit:
                raise ValueError(
                    f"the weights up to the layer {layer.name!r} would have {total:,} bytes; the file holds "
                    f"{stored:,}"
                )
        return original(layer, shape, *arguments, **options)

    keras.layers.Layer.add_weight = add_weight
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = original


def _check_inputs(model):
    for tensor in getattr(model, "inputs", None) or ():
        values = math.prod(side or 1 for side in tensor.shape[1:])
        if values > _LARGEST_IMAGE:
            raise ValueError(f"an image of its input, {tensor.shape}, would have {values:,} values")
