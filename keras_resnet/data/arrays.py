"""Checks of images and labels that come as numpy arrays."""

from __future__ import annotations

import os
import zipfile

import numpy as np

from keras_resnet.data.errors import DataError
from keras_resnet.data.labels import check_labels
from keras_resnet.files import open_regular

# As much as any file may unpack to, and how many times its own size.
_UNPACKED, _EXPANSION = 2**28, 100
KEYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: str):
    """``((x_train, y_train), (x_test, y_test))`` of an ``.npz`` file; nothing is unpickled."""
    if not os.path.isfile(path):
        raise DataError(f"{path}: there is no such file.")
    try:
        with open_regular(path) as file:
            _check_size(file, os.path.getsize(path))
        with open_regular(path) as file, np.load(file, allow_pickle=False) as archive:
            if missing := [key for key in KEYS if key not in archive]:
                raise DataError(
                    f"{path}: lacks {', '.join(missing)}; it has {', '.join(archive) or 'nothing'}."
                )
            x_train, y_train, x_test, y_test = (archive[key] for key in KEYS)
    except DataError:
        raise
    # What zipfile, zlib and numpy raise on a damaged file is anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a readable .npz of plain arrays: {reason}") from error
    return (x_train, y_train), (x_test, y_test)


def _check_size(file, size):
    """Raise an error for a file that unpacks to much more than arrays of images do."""
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(_UNPACKED, _EXPANSION * size):
        raise ValueError(f"its {size:,} bytes unpack to {unpacked:,}")


def check_arrays(images: np.ndarray, labels: np.ndarray, num_classes: int | None = None) -> None:
    """Raise `DataError` unless images are uint8 NHWC and labels are classes of as many images."""
    if images.dtype == object or labels.dtype == object:
        raise DataError("arrays of Python objects are not read; give images as uint8 and labels as integers.")
    if images.ndim != 4:
        raise DataError(f"images have shape {images.shape}; expected (images, height, width, channels).")
    if images.dtype != np.uint8:
        raise DataError(
            f"images are {images.dtype}{_range(images)}; expected uint8 pixels of 0 to 255, "
            "such as (images * 255).round().astype('uint8') for values of 0 to 1."
        )
    if images.shape[1] in (1, 3, 4) and images.shape[3] > 4:
        raise DataError(
            f"images of shape {images.shape} look channels first; use images.transpose(0, 2, 3, 1)."
        )
    if 0 in images.shape:
        raise DataError(f"the dataset is empty: images have shape {images.shape}.")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"labels have shape {labels.shape} and dtype {labels.dtype}; expected one integer an image"
            + ("; use labels.argmax(axis=1) on one-hot labels." if labels.ndim == 2 else ".")
        )
    if len(labels) != len(images):
        raise DataError(f"{len(images)} images, but {len(labels)} labels.")
    check_labels(labels, num_classes)


def _range(images):
    if not images.size or not np.issubdtype(images.dtype, np.floating):
        return ""
    if not np.isfinite(images).all():
        return (
            f" with NaN or infinite pixels (image {np.flatnonzero(~np.isfinite(images).all((1, 2, 3)))[0]})"
        )
    return f" from {images.min():.3g} to {images.max():.3g}"
