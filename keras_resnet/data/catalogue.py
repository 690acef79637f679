"""Datasets of tensorflow-datasets, by name."""

from __future__ import annotations

import os
import re

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_resnet.data import sources
from keras_resnet.data.decode import decode_image
from keras_resnet.data.errors import DataError, clear_errors
from keras_resnet.data.labels import check_label, check_labels
from keras_resnet.data.layout import find_split
from keras_resnet.data.tfrecords import checked_files, lost_record
from keras_resnet.nearest import suggest

_VERSION = re.compile(r"/(\d+\.(?:\d+|\*)\.(?:\d+|\*))$")


def open_tfds(name: str, split: str, data_dir, download: bool, max_pixels: int) -> sources.Source:
    """One split of an image classification dataset, prepared if it is not yet.

    The split "held_out" is the dataset's validation or test split, or the last fifth of
    "train" where it has neither; "train" is then the rest. Images of one size are decoded
    into memory; others are read in a stream.
    """
    builder = _builder(name, data_dir, download)
    key = _split(builder.info, name, split)
    classes, shape = _features(builder.info, name)
    size = builder.info.splits[key].num_examples
    if size == 0:
        raise DataError(f"split {split!r} of {name} is empty.")
    if None not in shape and size * np.prod(shape) <= sources.MEMORY_BUDGET:
        images, labels = _in_memory(builder, key, size, shape)
        check_labels(labels, len(classes), of=f" of {name}/{key}")
        return sources.array_source(images, labels, classes)

    def read(data, label, number, choose, least):
        record = f"record {number} of {name}/{key}"
        check_label(label, len(classes), record)
        return decode_image(data, record, choose, least, max_pixels)[..., : shape[-1]], label

    return sources.Source(
        size,
        classes,
        shape,
        lambda element: (element[1]["image"], element[1]["label"], element[0]),
        read,
        _batches(builder, key).unbatch().enumerate(),
        identity=lambda: [f"{builder.info.full_name} {key}".encode()],
    )


def _builder(name, data_dir, download):
    data_dir = None if data_dir is None else os.fspath(data_dir)
    # What tensorflow-datasets prints as name/configuration/1.2.3, it reads as name/configuration:1.2.3.
    query = _VERSION.sub(r":\1", name)
    try:
        builder = tfds.builder(query, data_dir=data_dir, try_gcs=False)
    except (ValueError, AssertionError) as error:
        raise _no_builder(name, query, error) from error
    if not builder.info.splits and not download:
        raise DataError(
            f"{name} is not prepared in {builder.data_dir}; allow the download, or give data_dir."
        )
    if not builder.info.splits:
        try:
            builder.download_and_prepare()
        except (OSError, AssertionError, tfds.download.DownloadError, tf.errors.OpError) as error:
            raise DataError(f"{name} could not be prepared in {builder.data_dir}: {error}") from error
    return builder


def _no_builder(name, query, error):
    """The `DataError` for a name, configuration or version that there is not; any other error as it is."""
    if "cannot be loaded at version" in str(error):
        versions = str(error).rpartition("only: ")[2]
        return DataError(f"{name!r}: there is no such version of the dataset; there is {versions}")
    if "BuilderConfig" in str(error):
        base = query.partition("/")[0]
        configurations = list(tfds.builder_cls(base).builder_configs)
        has = f"it has {', '.join(configurations)}." if configurations else "it has none."
        return DataError(f"{name!r}: {base} has no such configuration; {has}")
    # What cannot be a name at all is another kind of error there.
    if isinstance(error, tfds.core.DatasetNotFoundError) or "Parsing builder" in str(error):
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        hint = suggest(name, known, "see https://www.tensorflow.org/datasets/catalog.")
        if "/" in name:
            return DataError(f"{name}: there is no such folder, nor a dataset of that name; {hint}")
        return DataError(f"{name!r} is no folder and no dataset of tensorflow-datasets; {hint}")
    return error


def _split(info, name, split):
    held_out = find_split("held_out", info.splits)
    if split == "held_out" and "train" in info.splits:
        return held_out or "train[80%:]"
    if split == "train" and held_out is None:
        return "train[:80%]"
    asked, bracket, part = split.partition("[")
    if found := find_split(asked, info.splits):
        return found + bracket + part
    if asked not in info.splits:
        raise DataError(f"{name} has no split {split!r}; it has {', '.join(info.splits)} and held_out.")
    return split


def _features(info, name):
    image, label = (dict(info.features.items()).get(key) for key in ("image", "label"))
    if not (isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel)):
        raise DataError(
            f"{name} is not for image classification: its features are {', '.join(sorted(info.features))}."
        )
    if image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3):
        found = f"{image.np_dtype} of {image.shape[-1]} channels"
        raise DataError(f"the images of {name} are {found}; uint8 of 1 or 3 channels is supported.")
    return tuple(label.names), image.shape


def _batches(builder, key):
    """Undecoded images and labels in their stored order, many at a time."""
    if builder.info.file_format is not tfds.core.FileFormat.TFRECORD:
        decoders = {"image": tfds.decode.SkipDecoding()}
        return builder.as_dataset(split=key, decoders=decoders, shuffle_files=False).batch(256)
    # `as_dataset` parses record by record, which takes most of the time that CIFAR-10 needs.
    files = builder.info.splits[key].file_instructions
    starts = tf.constant([f.skip for f in files], tf.int64)
    counts = tf.constant([f.take for f in files], tf.int64)

    def of_file(number, path):
        found = tf.data.TFRecordDataset(path).ignore_errors().concatenate(lost_record(path))
        return found.skip(starts[number]).take(counts[number])

    records = checked_files([f.filename for f in files]).flat_map(of_file)
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    return records.batch(256).map(lambda batch: tf.io.parse_example(batch, features))


def _in_memory(builder, key, size, shape):
    def decode(batch):
        pixels = tf.TensorSpec(shape, tf.uint8)
        images = tf.map_fn(
            lambda image: tf.io.decode_image(image, shape[-1], expand_animations=False),
            batch["image"],
            fn_output_signature=pixels,
        )
        return images, batch["label"]

    images = np.empty((size, *shape), np.uint8)
    labels = np.empty(size, np.int64)
    filled = 0
    decoded = _batches(builder, key).map(decode, tf.data.AUTOTUNE, deterministic=True)
    try:
        with clear_errors():
            for some, classes in decoded.as_numpy_iterator():
                count = len(classes)
                images[filled : filled + count], labels[filled : filled + count] = some, classes
                filled += count
    except tf.errors.OpError as error:
        reason = error.message.partition("}} ")[2].partition("\n")[0] or error.message
        raise DataError(f"{builder.name}/{key}: damaged record: {reason}") from error
    if filled != size:
        raise DataError(f"{builder.name}/{key} holds {filled} images where its record says {size}.")
    return images, labels
