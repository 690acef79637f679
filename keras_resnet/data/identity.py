"""What some data are, in a line: two that differ in it are not the same data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence

import numpy as np

from keras_resnet.data.workers import threads

# One file is too little work for a task of its own.
_GROUP = 1000


def digest(dataset) -> str:
    """The number of images of a dataset of `make_dataset`, and a digest of what they are.

    The digest is of the names of the classes and, of a folder, of the names and sizes of its files in
    their order (not of their content: a folder of a million files takes seconds); of shards, of the
    SHA-256 in their manifest; of arrays, of all pixels and labels; of a dataset of tensorflow-datasets
    that is not held in memory, of its name, configuration, version and split.
    """
    found = hashlib.sha256(repr(dataset.class_names).encode())
    for part in dataset.identity():
        found.update(part)
    return f"{dataset.num_examples} images, {found.hexdigest()[:16]}"


def of_files(root: str, paths: Sequence[str]) -> Iterator[bytes]:
    """Names below `root` and sizes."""

    def described(some):
        return b"".join(
            os.fsencode(f"{path.removeprefix(root).lstrip(os.sep)}\0{_size(path)}\n") for path in some
        )

    with threads() as pool:
        yield from pool.map(described, (paths[i : i + _GROUP] for i in range(0, len(paths), _GROUP)))


def _size(path):
    try:
        return os.stat(path).st_size
    except OSError:  # found when the file is read
        return -1


def of_arrays(*arrays) -> Iterator[bytes]:
    """Shapes, types and contents of arrays or tensors."""
    for array in map(np.asarray, arrays):
        yield repr((array.shape, array.dtype.str)).encode()
        yield np.ascontiguousarray(array).data
