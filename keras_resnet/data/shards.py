"""Folders of TFRecord shards with a manifest, as `prepare_tfrecords` writes them.

A record is a `tf.train.Example` of `image` (the encoded file), `label` (a position in the
manifest's classes) and `file_name`. Every damage ends in a `DataError` that names the shard: sizes
are compared with the manifest when a folder is opened, TensorFlow checks the CRC of every
record that it reads, and each shard's lengths and SHA-256 are compared before it reads the shard.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass

import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_resnet.data.decode import MAX_PIXELS, decode_image, show
from keras_resnet.data.errors import DataError
from keras_resnet.data.tfrecords import check_records, checked_files
from keras_resnet.files import open_regular

MANIFEST = "manifest.json"
FORMAT = "keras-resnet shards 1"


@dataclass(frozen=True)
class Shard:
    """One file: its name in the folder, how many images and bytes it has, and its SHA-256."""

    file: str
    images: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """The shards of one split in their order, and its images of each class."""

    shards: tuple[Shard, ...]
    counts: tuple[int, ...]


def is_prepared(folder: str) -> bool:
    """Whether `prepare_tfrecords` has finished in this folder."""
    return os.path.isfile(os.path.join(folder, MANIFEST))


def read_manifest(folder: str) -> tuple[tuple[str, ...], dict[str, Split]]:
    """The classes and the splits of a folder; raises `DataError` where the manifest cannot be used."""
    path = os.path.join(folder, MANIFEST)
    try:
        with open_regular(path) as file:
            manifest = json.load(file)
        if manifest["format"] != FORMAT:
            raise DataError(f"{show(path)}: the format is {manifest['format']!r}, not {FORMAT!r}.")
        if not isinstance(manifest["classes"], list):
            raise TypeError("classes is not a list")
        classes = tuple(map(str, manifest["classes"]))
        splits = {
            name: Split(tuple(map(_shard, split["shards"])), tuple(map(int, split["counts"])))
            for name, split in manifest["splits"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{show(path)}: not a manifest of `keras-resnet prepare`: {error!r}") from error
    for name, split in splits.items():
        if sum(split.counts) != sum(shard.images for shard in split.shards) or not split.shards:
            raise DataError(f"{show(path)}: the counts of split {name!r} do not add up.")
    return classes, splits


def _shard(described):
    shard = Shard(**described)
    for name, kind in (("file", str), ("images", int), ("bytes", int), ("sha256", str)):
        if type(getattr(shard, name)) is not kind:
            raise TypeError(f"{name} of a shard is {getattr(shard, name)!r}")
    if os.path.basename(shard.file) != shard.file or shard.images < 1:
        raise ValueError(f"the shard {shard.file!r} of {shard.images} images is none of this folder")
    return shard


def records(folder: str, split: Split) -> tf.data.Dataset:
    """The records of a split as ``(record, number of its shard)``; one that cannot be read is empty.

    A shard is compared with its SHA-256 before its first record is read.
    """
    paths = [os.path.join(folder, shard.file) for shard in split.shards]
    counts = tf.constant([shard.images for shard in split.shards], tf.int64)

    def of_shard(number, path):
        # After an error the rest of a file is lost, and the error itself names no file.
        found = tf.data.TFRecordDataset(path).ignore_errors()
        lost = tf.data.Dataset.from_tensors("").repeat()
        return found.concatenate(lost).take(counts[number]).map(lambda record: (record, number))

    files = checked_files(paths, [shard.sha256 for shard in split.shards])
    return files.flat_map(of_shard).apply(tf.data.experimental.assert_cardinality(sum(split.counts)))


def read_record(
    record: bytes, shard: str, classes: int, choose=None, least: int = 0, max_pixels: int = MAX_PIXELS
):
    """The ``(image, label)`` of a record; `choose`, `least` and `max_pixels` are those of `decode_image`.

    Raises:
        DataError: the record is damaged, or not of this kind; the message names the shard.
    """
    if not record:
        raise DataError(f"{shard}: damaged; `keras-resnet check-data` finds all shards that are.")
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise DataError(f"{shard}: a record is no tf.train.Example.") from error
    images, labels = features["image"].bytes_list.value, features["label"].int64_list.value
    if len(images) != 1 or len(labels) != 1:
        raise DataError(f"{shard}: a record has not one `image` of bytes and one integer `label`.")
    names = features["file_name"].bytes_list.value
    name = f"{shard}: {show(names[0])}" if names else f"{shard}: a record"
    if not 0 <= labels[0] < classes:
        raise DataError(f"{name}: label {labels[0]} is wrong: there are {classes} classes.")
    return decode_image(images[0], name, choose, least, max_pixels), labels[0]


def digest(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_shard(folder: str, shard: Shard) -> str | None:
    """What is wrong with a shard, if anything: its size, its SHA-256 or the lengths of its records."""
    try:
        check_size(folder, shard)
        check_records(os.path.join(folder, shard.file), shard.sha256)
    except DataError as error:
        return str(error)
    return None


def check_size(folder: str, shard: Shard) -> None:
    """Raise `DataError` where a shard is missing, empty or of another size than the manifest says."""
    path = os.path.join(folder, shard.file)
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DataError(f"{show(path)}: the shard cannot be read: {error.strerror}.") from error
    if size != shard.bytes:
        raise DataError(
            f"{show(path)}: {size} bytes where the manifest says {shard.bytes}; prepare it again."
        )
