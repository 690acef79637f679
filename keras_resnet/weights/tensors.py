"""What the readers of weight files share: tensors described without their data, and bytes into arrays."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

# How each type that is read is stored; bfloat16, which numpy lacks, as the upper half of a float32.
DTYPES = {
    "float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2",
    "int64": "<i8", "int32": "<i4", "int16": "<i2", "int8": "|i1", "uint8": "|u1", "bool": "|u1",
}  # fmt: skip
# No weight of a ResNet has more than four axes; the rest keeps arithmetic on lying shapes small.
MAX_AXES = 8
_CHUNK = 1 << 20


class WeightsError(ValueError):
    """A weight file that cannot be used; the message names the file, and what would be right."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a weight file, described without its data.

    Attributes:
        shape: as stored, in the layout of the file.
        dtype: as stored, a name such as ``"float32"`` or ``"bfloat16"``.
        read: returns the data as an array of that shape: float32 for every float type,
            int64 for integers and booleans. Raises `WeightsError` where the file is damaged
            or holds NaN or infinity.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class WeightFile:
    """The tensors of a file, and what it says about them beside.

    Attributes:
        tensors: By name.
        says: Where in the file (or beside it) an architecture is named -> its name there.
        layers: Name, class and configuration of each layer, if the file holds the graph.
        kinds: Name of each layer -> its class in lower case, if the file has no graph but these.
        by_keras: Whether Keras wrote it.
        note: Which set of weights it is, if the file holds several.
        chosen: Whether the set was asked for by its name.
    """

    tensors: dict[str, Tensor]
    says: dict[str, str] = field(default_factory=dict)
    layers: tuple | None = None
    kinds: dict[str, str] = field(default_factory=dict)
    by_keras: bool = False
    note: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Span:
    """Bytes of a file; `check` compares them with `crc`, where the format stores one.

    Attributes:
        path: of the file.
        start: the first byte.
        size: in bytes.
        crc: CRC-32 of these bytes, or None.
    """

    path: str
    start: int
    size: int
    crc: int | None = None

    def check(self, where: str) -> None:
        """Raise `WeightsError`, beginning with `where`, for other bytes than were written."""
        if self.crc is None:
            return
        crc, left = 0, self.size
        with clear_errors(self.path), open(self.path, "rb") as file:
            file.seek(self.start)
            while left and (data := file.read(min(_CHUNK, left))):
                crc, left = zlib.crc32(data, crc), left - len(data)
        if left or crc != self.crc:
            raise WeightsError(
                f"{where}: the bytes do not match their checksum: the file is damaged; download it again."
            )

    def items(self, dtype: str, first: int, count: int) -> np.ndarray:
        """`count` items of the stored `dtype` (see `DTYPES`) from item `first` on, in one axis."""
        stored = np.dtype(DTYPES[dtype])
        if (first + count) * stored.itemsize > self.size:
            raise WeightsError(f"{self.path}: {count} items of {dtype} are not in {self.size} bytes.")
        with clear_errors(self.path):
            found = np.fromfile(self.path, stored, count, offset=self.start + first * stored.itemsize)
        if found.size != count:
            raise WeightsError(f"{self.path}: the file became shorter while it was read.")
        return found


@contextlib.contextmanager
def clear_errors(path: str):
    """Turn an error of the system while `path` is read into a `WeightsError`."""
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}.") from error


@contextlib.contextmanager
def readable(path: str):
    """Turn whatever a reader raises on a damaged file into a `WeightsError` that names it.

    h5py alone raises RuntimeError, AttributeError, IndexError, SystemError and RecursionError.
    """
    try:
        with clear_errors(path):
            yield
    except WeightsError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: cannot be read ({type(error).__name__}: {reason}): damaged?") from error


def checked_shape(values, where: str) -> tuple[int, ...]:
    """`values` as a shape, or strides; raises `WeightsError`, beginning with `where`."""
    if type(values) not in (list, tuple) or len(values) > MAX_AXES or not all(map(is_size, values)):
        raise WeightsError(f"{where} must have a shape of at most {MAX_AXES} non-negative integers.")
    return tuple(values)


def is_size(value) -> bool:
    """Whether `value` is a number of bytes or items that a file can hold."""
    return type(value) is int and 0 <= value < 2**63


def itemsize(dtype: str) -> int:
    """Bytes of an item of a type of `DTYPES`."""
    return np.dtype(DTYPES[dtype]).itemsize


def widened(array: np.ndarray, dtype: str, where: str) -> np.ndarray:
    """Stored items of `dtype` as float32 or int64; raises `WeightsError` for NaN and infinity."""
    if dtype == "bfloat16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    elif "float" not in dtype:
        return array.astype(np.int64, copy=False)
    # Beyond the range of float32 is infinity, which is refused below with the name.
    with np.errstate(over="ignore", invalid="ignore"):
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise WeightsError(f"{where} holds NaN or infinity: the file is damaged, or its training diverged.")
    return array


def shown(name: str) -> str:
    """The beginning of a name from a file, quoted, as printable text."""
    return repr(name[:100].encode("utf-8", "backslashreplace").decode())


def regular_file(path) -> str:
    """`path` as text, where it is a file that is not empty; raises `WeightsError` elsewhere."""
    path = os.fsdecode(path)
    if os.path.isdir(path):
        raise WeightsError(f"{path}: is a folder; name the weight file in it.")
    if not os.path.isfile(path):
        raise WeightsError(f"{path}: there is no such file.")
    if os.path.getsize(path) == 0:
        raise WeightsError(f"{path}: the file is empty; download it again.")
    return path
