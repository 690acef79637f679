"""Snapshots on disk: whole and verified, or not there. Nothing in one is executed.

A snapshot is a folder ``step_N`` with three files: ``arrays.bin`` (the arrays one after another,
little-endian), ``state.json`` (their names, types and shapes, and the plain state) and
``SHA256SUMS`` (of these two, as ``sha256sum -c`` reads it; written last). It is written under
another name, brought to the disk and renamed, so that a power cut leaves it whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from keras_resnet.files import open_regular

ARRAYS, STATE, SUMS = "arrays.bin", "state.json", "SHA256SUMS"
DTYPES = {
    **{name: np.dtype(name) for name in ("bool", "float16", "float32", "float64")},
    **{f"{kind}{bits}": np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


class SnapshotError(ValueError):
    """A snapshot that cannot be written or used; the message names the file, and the remedy."""


@dataclass(frozen=True)
class Snapshot:
    """A verified snapshot, whose arrays are not read yet.

    Attributes:
        path: Its folder.
        state: The plain state that `write` was given.
        places: By name of an array: dtype, shape and first byte in arrays.bin.
    """

    path: Path
    state: dict
    places: dict[str, tuple[np.dtype, tuple[int, ...], int]]

    def read(self, name: str) -> np.ndarray:
        """One array; compare its shape in `places` with what you expect first."""
        dtype, shape, start = self.places[name]
        items = np.fromfile(self.path / ARRAYS, dtype, math.prod(shape), offset=start)
        if items.size != math.prod(shape):
            raise SnapshotError(f"{self.path / ARRAYS}: {name!r} is cut off; the file changed meanwhile.")
        return items.reshape(shape)


def write(folder, step: int, arrays: dict[str, np.ndarray], state: dict, *, keep: int = 2) -> Path:
    """Write the snapshot ``folder/step_<step>``, then remove all but the newest `keep`.

    Args:
        folder: Made where it is missing.
        step: Whole number that orders snapshots; one of the same step is replaced.
        arrays: Of booleans, integers or floats, by name.
        state: What JSON holds; floats keep every bit.
        keep: How many snapshots stay, at least 2: one may be damaged.

    Returns:
        Path of the snapshot.

    Raises:
        SnapshotError: the disk is full or fails; the message names path and bytes. The other
            snapshots are as before and nothing half-written is left.
        TypeError: an array or a part of `state` is of another type.
    """
    if keep < 2:
        raise ValueError(f"keep={keep} must be at least 2: one snapshot may be damaged.")
    folder = Path(folder)
    part, target = folder / f".part_{step}", folder / f"step_{step}"
    arrays = {name: _plain(name, array) for name, array in arrays.items()}
    table = [[name, array.dtype.name, list(array.shape)] for name, array in arrays.items()]
    text = json.dumps({"state": state, "arrays": table}, indent=1).encode()
    try:
        _remove_parts(folder)
        part.mkdir(parents=True)
        _put(part / ARRAYS, [array.reshape(-1).view(np.uint8) for array in arrays.values()])
        _put(part / STATE, [text])
        _put(part / SUMS, [_sums(part)])
        _sync(part)
        if target.exists():
            os.rename(target, folder / f".part_old_{step}")
        os.rename(part, target)
        _sync(folder)
        for old in _listed(folder)[:-keep]:
            os.rename(old, folder / f".part_{old.name}")
        _remove_parts(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise SnapshotError(_explained(error, part, arrays, text)) from error
    return target


def newest(folder) -> Snapshot | None:
    """The newest whole snapshot of `folder`, or ``None`` where there is none at all.

    Damaged ones that are newer get the ending ``.damaged``, and a warning says so.

    Raises:
        SnapshotError: there are snapshots, and every one is damaged.
    """
    damaged = {}
    for path in reversed(_listed(Path(folder))):
        try:
            found = _open(path)
        except SnapshotError as error:
            damaged[path] = error
            continue
        for broken, error in damaged.items():
            os.rename(broken, f"{broken}.damaged")
            warnings.warn(f"{error} It is called {broken.name}.damaged now; {path} is taken.", stacklevel=2)
        return found
    if damaged:
        reasons = "\n".join(map(str, damaged.values()))
        raise SnapshotError(f"{folder}: no snapshot is whole; move them away to start anew.\n{reasons}")
    return None


def _plain(name, array):
    array = np.asarray(array)
    if array.dtype.name not in DTYPES:
        raise TypeError(f"{name}: arrays of {array.dtype} are not saved; one of {', '.join(DTYPES)} is.")
    # Of the native byte order, which is little-endian wherever TensorFlow runs.
    return np.asarray(array, DTYPES[array.dtype.name], order="C")


def _put(path, chunks):
    """Write a file and bring it to the disk."""
    done = 0
    try:
        # Unbuffered: what a full disk refused is not tried once more when the file is closed.
        with open(path, "wb", buffering=0) as file:
            for chunk in chunks:
                view = memoryview(chunk)
                while len(view):
                    written = file.write(view)
                    done, view = done + written, view[written:]
            os.fsync(file.fileno())
    except OSError as error:
        error.filename, error.done = os.fspath(path), done
        raise


def _explained(error, part, arrays, text):
    size = sum(array.nbytes for array in arrays.values()) + len(text)
    done = f" after {error.done:,} bytes of this file" if hasattr(error, "done") else ""
    return (
        f"{error.filename or part}: {error.strerror or error}{done}; the snapshot takes {size:,} bytes. "
        "Make room and resume: the snapshots before it are untouched."
    )


def _sync(folder):
    """Bring names to the disk, as `os.fsync` does contents; Windows has no such call."""
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _listed(folder):
    """The snapshots, oldest first."""
    if not folder.is_dir():
        return []
    steps = [int(found[1]) for name in os.listdir(folder) if (found := re.fullmatch(r"step_(\d+)", name))]
    return [folder / f"step_{step}" for step in sorted(steps)]


def _remove_parts(folder):
    for path in folder.glob(".part_*"):
        shutil.rmtree(path)


def _sums(path):
    lines = []
    for name in (ARRAYS, STATE):
        with open_regular(path / name) as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines).encode()


def _open(path) -> Snapshot:
    """Verify a snapshot and describe it."""
    try:
        with open_regular(path / SUMS) as file:
            whole = file.read() == _sums(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SnapshotError(f"{path} is damaged: {Path(error.filename).name} is missing.") from None
    if not whole:
        raise SnapshotError(f"{path} is damaged: its bytes do not match {SUMS}.")
    try:
        content = json.loads((path / STATE).read_bytes())
        places, start = {}, 0
        for name, dtype, shape in content["arrays"]:
            if not all(type(n) is int and n >= 0 for n in shape):
                raise ValueError(f"{name!r} has the shape {shape}")
            places[name] = (DTYPES[dtype], tuple(shape), start)
            start += DTYPES[dtype].itemsize * math.prod(shape)
        state = dict(content["state"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SnapshotError(f"{path / STATE} is not one that this version writes: {error}.") from None
    size = (path / ARRAYS).stat().st_size
    if start != size:
        raise SnapshotError(f"{path / ARRAYS} has {size:,} bytes; {STATE} describes {start:,}.")
    return Snapshot(path, state, places)
