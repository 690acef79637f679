"""What ``torch.save`` writes, to arrays, without torch: the zip format and the older bare pickles."""

from __future__ import annotations

import functools
import io
import os
import struct
import zipfile

import numpy as np

from keras_resnet.weights.checkpoints import choose_weights, named_architecture
from keras_resnet.weights.pickles import MAX_BYTES, Source, StoredTensor, check_view, read_pickle
from keras_resnet.weights.tensors import Span, Tensor, WeightFile, WeightsError, itemsize, shown, widened

# torch.save, legacy format: the value of the first pickle, and of the second.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# Some 50,000 storages; a checkpoint of ResNet-1202 with Adam has 25,000 in 2 MB.
MAX_DIRECTORY = 4 << 20

_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error)


def open_torch_zip(path: str, which: str | None = None) -> WeightFile:
    """The weights in a file in torch's zip format; `which` as in `open_file`; raises `WeightsError`."""
    entries = _entries(path)
    roots = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise WeightsError(
            f"{path}: is a zip file without the data.pkl that torch.save writes"
            + ("; it looks like a model of Keras." if "config.json" in entries else ".")
        )
    root = roots[0].removesuffix("data.pkl")
    order = entries.get(f"{root}byteorder")
    if order and (order.size > 16 or _content(order) != b"little"):
        raise WeightsError(f"{path}: was written on a big-endian machine, which is not read.")
    if (pickle := entries[roots[0]]).size > MAX_BYTES:
        raise WeightsError(f"{path}: its data.pkl has {pickle.size} bytes; at most {MAX_BYTES} are read.")
    storages = {}
    value = read_pickle(Source(io.BytesIO(_content(pickle)), path), storages)
    spans = {key: entries.get(f"{root}data/{key}") for key in storages}
    for key, span in spans.items():
        _check_storage(storages[key], span.size if span else None, path)
    return _weights(value, spans, path, which)


def open_torch_legacy(path: str, which: str | None = None) -> WeightFile:
    """The same of torch's format before 1.6, five pickles and data."""
    with open(path, "rb") as file:
        source = Source(file, path)
        if read_pickle(source) != MAGIC or read_pickle(source) != PROTOCOL:
            raise WeightsError(f"{path}: is a pickle, but not one that torch.save wrote; it is not read.")
        system = read_pickle(source)
        if type(system) is not dict or system.get("little_endian") is not True:
            raise WeightsError(f"{path}: was written on a big-endian machine, which is not read.")
        storages = {}
        value, keys = read_pickle(source, storages), read_pickle(source)
        if type(keys) is not list or any(type(key) is not str for key in keys):
            raise WeightsError(f"{path}: the list of its storages is damaged.")
        if len(set(keys)) != len(keys) or set(keys) != set(storages):
            raise WeightsError(f"{path}: the list of its storages does not fit its tensors.")
        spans = _legacy_spans(file, [storages[key] for key in keys], path)
    return _weights(value, spans, path, which)


def _legacy_spans(file, storages, path):
    """Where the data of each storage lies: one after the other, each behind its number of items."""
    spans, start, end = {}, file.tell(), os.fstat(file.fileno()).st_size
    for storage in storages:
        file.seek(start)
        numel = int.from_bytes(file.read(8), "little")
        size = storage.numel * itemsize(storage.dtype)
        if numel != storage.numel:
            raise WeightsError(
                f"{path}: storage {shown(storage.key)} must have {storage.numel} items, has {numel}: damaged."
            )
        spans[storage.key] = Span(path, start + 8, size)
        start += 8 + size
    if start != end:
        raise WeightsError(f"{path}: must have {start} bytes, has {end}: truncated or damaged.")
    return spans


class _Directory(io.FileIO):
    """A zip file of which `zipfile` reads the directory only, however large that claims to be."""

    def read(self, size=-1):
        if size > MAX_DIRECTORY:
            raise WeightsError(f"{self.name}: a zip directory of {size} bytes; {MAX_DIRECTORY} are read.")
        return super().read(size)


def _entries(path):
    """The bytes of each entry, by name."""
    try:
        with _Directory(path) as file, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            _check_kind([info.filename for info in infos], path)
            spans = {info.filename: _entry(file, info, path) for info in infos}
    except WeightsError:
        raise
    except _ZIP_ERRORS as error:
        raise WeightsError(f"{path}: damaged or truncated zip file: {error}") from error
    if len(spans) != len(infos):
        raise WeightsError(f"{path}: a name occurs twice in the zip file.")
    return spans


def _check_kind(names, path):
    """Raise `WeightsError` for what torch writes beside weights: programs."""
    kinds = {part for name in names for part in name.split("/")[1:2]}
    if {"code", "constants.pkl"} & kinds:
        raise WeightsError(
            f"{path}: is TorchScript, which is code and was not executed. If you trust it, save its "
            "weights: torch.save(torch.jit.load(path).state_dict(), 'weights.pth')."
        )
    if "archive_format" in kinds:
        raise WeightsError(
            f"{path}: is a program of torch.export, which is code and was not executed. If you trust "
            "it, save its weights: torch.save(torch.export.load(path).state_dict, 'weights.pth')."
        )


def _entry(file, info, path):
    where = f"{path}: zip entry {shown(info.filename)}"
    if {"", ".."} & set(info.filename.removesuffix("/").split("/")) or "\\" in info.filename:
        raise WeightsError(f"{where} leads out of the archive.")
    # torch.save stores without compression, so that no entry can be larger than the file.
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
        raise WeightsError(f"{where} is compressed or encrypted, as torch.save does not.")
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise WeightsError(f"{where} has no header where the directory says.")
    start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
    if start + info.file_size > os.fstat(file.fileno()).st_size:
        raise WeightsError(f"{where} of {info.file_size} bytes is truncated.")
    return Span(path, start, info.file_size, info.CRC)


def _content(span):
    span.check(span.path)
    return span.items("uint8", 0, span.size).tobytes()


def _check_storage(storage, size, path):
    needed = storage.numel * itemsize(storage.dtype)
    if size != needed:
        found = "is missing" if size is None else f"has {size} bytes"
        raise WeightsError(f"{path}: storage {shown(storage.key)} {found}; {needed} are declared.")


def _weights(value, spans, path, which) -> WeightFile:
    """The tensors of the state dict in `value`, each with its check and its way to be read."""
    checked, found = set(), {}
    state, note, chosen = choose_weights(value, which, path)
    for key, tensor in state.items():
        if type(tensor) is StoredTensor:
            dtype, where = tensor.storage.dtype, f"{path}: {shown(key)}"
            shape, strides, extent = check_view(tensor, where)
            view = (tensor.first, shape, strides, extent)
            span = spans[tensor.storage.key]
            found[key] = Tensor(shape, dtype, functools.partial(_read, span, checked, dtype, view, where))
    return WeightFile(found, says=named_architecture(value), note=note, chosen=chosen)


def _read(span, checked, dtype, view, where) -> np.ndarray:
    # Tensors can share a storage: it is compared with its checksum once.
    if span not in checked:
        span.check(where)
        checked.add(span)
    first, shape, strides, extent = view
    items = span.items(dtype, first, extent)
    strides = tuple(stride * items.itemsize for stride in strides)
    array = np.lib.stride_tricks.as_strided(items, shape, strides)
    return widened(np.ascontiguousarray(array), dtype, where).reshape(shape)
