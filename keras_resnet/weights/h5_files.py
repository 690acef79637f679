"""The HDF5 files of keras.applications to arrays: plain datasets, nothing that leads out of the file."""

from __future__ import annotations

import functools
import math
import os

import h5py
import numpy as np

from keras_resnet.weights.tensors import DTYPES, Tensor, WeightsError, shown, widened

# Layers hold their weights one to three groups down.
MAX_DEPTH = 8
# What a global heap collection begins with: signature, version, three zeros.
_HEAP = b"GCOL\1\0\0\0"


def open_h5(path: str) -> dict[str, Tensor]:
    """The tensors of a weight file or whole model of Keras 2, as ``"layer/kernel"``.

    A dataset is named by its layer and the last part of its path, without ``:0``: versions of Keras
    differ in what lies between (``conv1_conv/conv1_conv_3/conv1_conv/kernel:0``).

    Raises:
        WeightsError: the file is damaged, of another layout, or has links, virtual, external or
            compressed datasets, or such that declare more than is stored.
    """
    try:
        with h5py.File(path, "r") as file:
            group = file
            if "model_weights" in file.keys():  # noqa: SIM118 `in file` alone follows links
                group = open_child(file, "model_weights", path)
            if not isinstance(group, h5py.Group) or not _is_legacy(group):
                raise WeightsError(
                    f"{path}: is HDF5, but has no attribute 'layer_names' as the weight files of "
                    "keras.applications do; files of Keras 3 end in .weights.h5 or .keras."
                )
            tensors = {}
            seen = set()
            for layer in group:
                child = open_child(group, layer, path)
                if not isinstance(child, h5py.Group):
                    raise WeightsError(f"{path}: {shown(child.name)} is in no layer.")
                _collect(child, layer, path, tensors, seen)
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{path}: damaged HDF5 file: {error}") from error
    return tensors


def _is_legacy(group):
    # A list beyond 64 kB is split by Keras into layer_names0, layer_names1 ...
    return "layer_names" in group.attrs or "layer_names0" in group.attrs


def open_child(group, name, path):
    """A group or dataset inside of the file itself; links out of it are refused."""
    where = f"{path}: {shown(group.name.rstrip('/') + '/' + name)}"
    try:
        link = group.get(name, getlink=True)
    except TypeError:  # a kind of link that h5py does not know
        link = None
    if not isinstance(link, h5py.HardLink):
        raise WeightsError(f"{where} is a soft or external link, which is not followed.")
    child = group[name]
    if not isinstance(child, (h5py.Group, h5py.Dataset)):
        raise WeightsError(f"{where} is neither a group nor a dataset.")
    return child


def text_attribute(group, name: str) -> str | None:
    """An attribute that is one text; ``None`` for what it is not, which HDF5 may crash on reading."""
    if name not in group.attrs:
        return None
    attribute = group.attrs.get_id(name)
    if not isinstance(attribute.get_type(), h5py.h5t.TypeStringID) or attribute.shape != ():
        return None
    value = group.attrs[name]
    return value if isinstance(value, str) else None


def _collect(group, layer, path, tensors, seen, depth=0):
    """Add the datasets below `group` to `tensors`; `seen` holds the addresses of groups visited."""
    # A hard link to a group further up would be followed for ever.
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise WeightsError(f"{path}: {shown(group.name)} is linked twice.")
    if depth > MAX_DEPTH:
        raise WeightsError(f"{path}: {shown(group.name)} is nested too deep.")
    seen.add(address)
    for name in group:
        child = open_child(group, name, path)
        if isinstance(child, h5py.Group):
            _collect(child, layer, path, tensors, seen, depth + 1)
            continue
        key, where = f"{layer}/{name.split(':')[0]}", f"{path}: {shown(child.name)}"
        if key in tensors:
            raise WeightsError(f"{where} is a second {shown(key)}: models inside models are not read.")
        tensors[key] = describe(child, where, path)


def describe(dataset, where, path):
    """The dataset as a `Tensor`, once its declared size is what is stored."""
    if dataset.external or dataset.is_virtual:
        raise WeightsError(f"{where} is external or virtual: its data is in another file.")
    # A filter can be a plug-in, which is code, or decompress a bomb; Keras writes weights without.
    if dataset.id.get_create_plist().get_nfilters():
        raise WeightsError(f"{where} is compressed; undo it with 'h5repack -f NONE'.")
    dtype = dataset.dtype.name
    if dataset.shape is None or dataset.dtype.hasobject or dtype not in DTYPES:
        raise WeightsError(f"{where} is no array of numbers that is read, but {shown(dtype)}.")
    declared, stored = math.prod(dataset.shape) * dataset.dtype.itemsize, dataset.id.get_storage_size()
    if declared > min(stored, os.path.getsize(path)):
        raise WeightsError(f"{where} declares {declared} bytes, of which the file stores {stored}.")
    read = functools.partial(_read, path, dataset.name, dtype, where)
    return Tensor(tuple(map(int, dataset.shape)), dtype, read)


def _read(path, name, dtype, where) -> np.ndarray:
    try:
        with h5py.File(path, "r") as file:
            array = file[name][()]
    except Exception as error:
        raise WeightsError(f"{where} cannot be read: {error}") from error
    return widened(np.asarray(array), dtype, where)


def check_heaps(content: bytes, source: str) -> None:
    """Raise `WeightsError` for an HDF5 file with a damaged heap of texts: HDF5 hangs or crashes on it.

    Its loop over the objects of a "global heap collection" believes their sizes. Only texts of variable
    length, such as the names that Keras gives to its layers, are kept there.
    """
    start = content.find(_HEAP)
    while start >= 0:
        size = int.from_bytes(content[start + 8 : start + 16], "little")
        heap = content[start : start + size]
        if len(heap) != size or not _is_heap(heap):
            raise WeightsError(f"{source}: damaged HDF5 file: the heap at byte {start} is not whole.")
        start = content.find(_HEAP, start + size)


def _is_heap(heap):
    place, seen = 16, set()
    while place + 16 <= len(heap):
        index = int.from_bytes(heap[place : place + 2], "little")
        size = int.from_bytes(heap[place + 8 : place + 16], "little")
        if index == 0:  # free space, header included, to the end
            return place + size == len(heap)
        if index in seen:
            return False
        seen.add(index)
        place += 16 + (size + 7) // 8 * 8
    return place <= len(heap)
