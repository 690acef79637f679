"""Weight files to arrays: .safetensors, PyTorch's .pth and keras.applications' .h5. Nothing is executed.

A file is opened in two steps, so that one that lies costs nothing: `open_tensors` reads names,
shapes and places and checks that the places are inside the file; the data is read tensor by
tensor, after the caller has compared the shapes with those of a model.
"""

from __future__ import annotations

import functools
import json
import math
import os

import numpy as np

from keras_resnet.weights.checkpoints import named_architecture
from keras_resnet.weights.h5_files import open_h5
from keras_resnet.weights.tensors import (
    Span,
    Tensor,
    WeightFile,
    WeightsError,
    checked_shape,
    is_size,
    itemsize,
    readable,
    regular_file,
    shown,
    widened,
)
from keras_resnet.weights.torch_files import open_torch_legacy, open_torch_zip

__all__ = ["Tensor", "WeightsError", "open_tensors"]

# ResNet-1202, the longest network of the zoo, needs 1 MB. JSON grows to 25 times its size when it
# is parsed, so that the 100 MB which the format allows would take gigabytes.
MAX_HEADER = 4 << 20

_SAFE_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def open_tensors(path) -> dict[str, Tensor]:
    """The tensors of a weight file by name, without their data; see `open_file`."""
    return open_file(path).tensors


def open_file(path, which: str | None = None) -> WeightFile:
    """The tensors of a weight file by name, without their data, and what the file says about them.

    The format is recognised by the content, whatever the file is called:

    - safetensors;
    - what ``torch.save`` writes, now (zip) or before torch 1.6 (bare pickles), of a state dict or of
      a checkpoint with one inside, whatever it is called there. Other entries are ignored, prefixes
      such as ``module.`` are kept;
    - HDF5 as keras.applications publishes it: ``"conv1_conv/kernel"``, ``"conv1_bn/gamma"``.

    Bytes that changed are found in zip files only, which hold checksums. For the others compare the
    SHA-256 of the file with the published one.

    Args:
        path: of the file.
        which: of several sets of weights in a checkpoint, ``"ema"``, ``"raw"``, or one by its name. By
            default the moving average, if there is one.

    Returns:
        Has a `Tensor` for each name, in the order of the file.

    Raises:
        WeightsError: the file is missing, of another kind, truncated or damaged, or names code.
    """
    path = regular_file(path)
    with readable(path):
        with open(path, "rb") as file:
            head = file.read(64)
        found = _opener(head, path, which)()
    if not found.tensors:
        raise WeightsError(f"{path}: holds no tensors.")
    return found


def _opener(head, path, which):
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return lambda: WeightFile(open_h5(path), by_keras=True)
    if head.startswith(b"PK\3\4"):
        return lambda: open_torch_zip(path, which)
    if head[8:9] == b"{":
        return lambda: _open_safetensors(path)
    # The opcode PROTO, which begins each pickle of protocol 2 and later.
    if head[0] == 0x80:
        return lambda: open_torch_legacy(path, which)
    raise WeightsError(
        f"{path}: {_what_text(head)}; expected .safetensors, a file that torch.save wrote, "
        "or the .h5 of keras.applications."
    )


def _what_text(head):
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file: run 'git lfs pull'"
    if head.lstrip()[:1] == b"<":
        return "is a web page or XML: the download went wrong"
    if head.lstrip()[:1] in (b"{", b"["):
        return "is JSON text"
    return "is no weight file, or its beginning is damaged"


# The package safetensors reads lazily and safely too. This is 60 lines instead of a dependency, its
# errors name the file and the tensor, it reads bfloat16 without ml_dtypes, and it does not map the
# file into memory, where a file on a network disk that shrinks would kill the process.
def _open_safetensors(path):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        left = os.fstat(file.fileno()).st_size - 8
        if not 0 < length <= min(left, MAX_HEADER):
            raise WeightsError(
                f"{path}: declares a header of {length} bytes; at most {MAX_HEADER} are read, and the "
                f"file has {left}: it is damaged or no safetensors file."
            )
        header, says = _parse_header(file.read(length), path)
    data = Span(path, 8 + length, left - length)
    places = [_place(key, entry, path) for key, entry in header.items()]
    expected = 0
    for begin, end, key in sorted((*offsets, key) for key, _, _, offsets in places):
        if begin != expected:
            raise WeightsError(f"{path}: {shown(key)} begins at byte {begin} instead of {expected}.")
        expected = end
    if expected != data.size:
        raise WeightsError(f"{path}: its tensors take {expected} bytes, the file has {data.size} of data.")
    tensors = {
        key: Tensor(shape, dtype, functools.partial(_read, data, key, shape, dtype, begin))
        for key, shape, dtype, (begin, _) in places
    }
    return WeightFile(tensors, says={f"metadata.{key}": name for key, name in says.items()})


def _parse_header(data, path):
    try:
        header = json.loads(data.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: the header is no JSON as safetensors has it: {error}.") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: the header must be a JSON object.")
    return header, named_architecture(header.pop("__metadata__", None))


def _unique(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _place(key, entry, path):
    """``(key, shape, dtype, (begin, end))`` of one entry of the header, checked by itself."""
    where = f"{path}: {shown(key)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(f"{where} must have exactly dtype, shape and data_offsets.")
    code, offsets = entry["dtype"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _SAFE_DTYPES:
        raise WeightsError(f"{where} has a dtype that is not read; one of {', '.join(_SAFE_DTYPES)} is.")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_size, offsets)):
        raise WeightsError(f"{where} must have two non-negative integers as data_offsets.")
    shape, dtype = checked_shape(entry["shape"], where), _SAFE_DTYPES[code]
    if offsets[1] - offsets[0] != (needed := math.prod(shape) * itemsize(dtype)):
        raise WeightsError(f"{where} of shape {shape} takes {needed} bytes; its offsets are {offsets}.")
    return key, shape, dtype, tuple(offsets)


def _read(data, key, shape, dtype, begin) -> np.ndarray:
    part = Span(data.path, data.start + begin, data.size - begin)
    items = part.items(dtype, 0, math.prod(shape))
    return widened(items, dtype, f"{data.path}: {shown(key)}").reshape(shape)
