"""TFRecord files, looked through before TensorFlow reads them.

TensorFlow makes room for a record of the length that its header declares: a file that declares 2**40
bytes, with the right checksum, ends the process. So every length is compared with the file first, and
the file's SHA-256 with the one that is known, once for every dataset.
"""

from __future__ import annotations

import hashlib
import os
import struct

import tensorflow as tf

from keras_resnet.data.decode import show
from keras_resnet.data.errors import DataError
from keras_resnet.data.workers import python_function
from keras_resnet.files import open_regular

_HEADER, _FRAME = 8, 16  # bytes of a length; of a length, its checksum and that of the data


def check_records(path: str | bytes, sha256: str | None = None) -> None:
    """Raise `DataError` unless the lengths of the records of a file make up the file.

    Of a file in a cloud ("gs://...") nothing is checked: every length would be a request.

    Args:
        path: A TFRecord file.
        sha256: What its SHA-256 must be, in hexadecimal; by default anything.
    """
    name = show(path)
    if "://" in name:
        return
    try:
        with open_regular(path) as file:
            if sha256 is not None and (found := hashlib.file_digest(file, "sha256").hexdigest()) != sha256:
                raise DataError(
                    f"{name}: damaged: its SHA-256 is {found}, not the manifest's {sha256}; "
                    "`keras-resnet check-data` finds all shards that are."
                )
            _check_lengths(file.raw, name)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from error


def _check_lengths(file, name):
    size, at = os.fstat(file.fileno()).st_size, 0
    while at < size:
        file.seek(at)
        header = file.read(_HEADER)
        length = struct.unpack("<Q", header)[0] if len(header) == _HEADER else 0
        if at + _FRAME + length > size:
            raise DataError(
                f"{name}: damaged: the record at byte {at:,} declares {length:,} bytes, "
                f"and the file ends {size - at:,} bytes from there."
            )
        at += _FRAME + length


def checked_files(paths, sha256s=None) -> tf.data.Dataset:
    """Numbers and paths of TFRecord files, each checked once, while the one before it is read."""
    paths, checked = [os.fsencode(path) for path in paths], set()

    def check(number):
        number = int(number)
        if number not in checked:
            check_records(paths[number], sha256s and sha256s[number])
            checked.add(number)
        return paths[number]

    def checked_file(number):
        path = python_function(check, [number], tf.string)
        return number, tf.ensure_shape(path, ())

    return tf.data.Dataset.range(len(paths)).map(checked_file).prefetch(1)


def lost_record(path) -> tf.data.Dataset:
    """An element that is an error naming the file: what TensorFlow could not read."""

    def fail(path):
        raise DataError(f"{show(path)}: damaged: a record cannot be read.")

    return tf.data.Dataset.from_tensors(path).map(lambda path: python_function(fail, [path], tf.string))
