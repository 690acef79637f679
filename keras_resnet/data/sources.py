"""Where images come from: digits, arrays, folders, shards, tensorflow-datasets.

A source knows how many images it has and finds the image at a position. What a pipeline
does with them is not its business.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources

import numpy as np
import tensorflow as tf

from keras_resnet.data.arrays import check_arrays, read_npz
from keras_resnet.data.contents import Unused
from keras_resnet.data.decode import MAX_PIXELS, decode_image, read_file, show
from keras_resnet.data.errors import DataError
from keras_resnet.data.folder import open_folder
from keras_resnet.data.holdout import choose_split
from keras_resnet.data.identity import of_arrays, of_files
from keras_resnet.data.layout import find_split, no_split, refuse_layout
from keras_resnet.data.shards import check_size, is_prepared, read_manifest, read_record, records

# Datasets of images of one size are held in memory, decoded, up to this many bytes.
MEMORY_BUDGET = 2 * 1024**3
# More classes than any data have: such labels are something else, such as identifiers.
_MAX_CLASSES = 1_000_000
# What may be a name of tensorflow-datasets: name, name/configuration, name/configuration/version.
_DATASET = re.compile(r"[^./~][^/]*(/[^/]+)?(/\d+\.[\d*]+\.[\d*]+)?")


@dataclass(frozen=True)
class Source:
    """Labelled images, found by position or, where that is not possible, one after another.

    Attributes:
        size: How many images.
        class_names: Their classes, in the order of the labels.
        image_shape: ``(height, width, channels)``; height and width are ``None`` where
            they differ between images.
        lookup: From an element of the source (a position below `size`, or a record of
            `records`) to a tuple of tensors: without `read`, ``(image, label)``, uint8
            ``image_shape`` and int64, and of a vector of positions ``(images, labels)``.
        read: From these tensors of one image as numpy values, and the arguments `choose` and
            `least` of `keras_resnet.data.decode.decode_image`, to ``(image, label)``.
        records: Undecoded records in their stored order, for a source too large to be
            found by position.
        mapped: Of images in memory: from a function of one image to a source of what it returns.
        named: Whether `class_names` are names, and not just the numbers of arrays.
        identity: Gives the bytes that tell these images from others; see `keras_resnet.data.identity`.
    """

    size: int
    class_names: tuple[str, ...]
    image_shape: tuple[int | None, int | None, int]
    lookup: Callable
    read: Callable | None = None
    records: tf.data.Dataset | None = None
    mapped: Callable | None = None
    named: bool = True
    identity: Callable = tuple


def open_source(
    data,
    split: str = "train",
    *,
    layout: str | None = None,
    data_dir=None,
    download: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> Source:
    """Open one split of `data`; the arguments are those of `make_dataset`.

    Raises:
        DataError: the data or the split do not exist, are empty or cannot be used.
    """
    if isinstance(data, tuple | list):
        refuse_layout(layout, "arrays")
        return _from_pairs(data, split)
    try:
        path = os.fspath(data)
    except TypeError as error:
        kinds = "a name, a folder, an .npz file, or arrays (images, labels)"
        raise DataError(f"data of type {type(data).__name__} cannot be read; give {kinds}.") from error
    if path != "digits" and not path.endswith(".npz") and not is_prepared(path):
        if os.path.isdir(path) or not (os.path.exists(path) or _DATASET.fullmatch(path)):
            return _from_folder(path, split, layout, max_pixels)
        if os.path.exists(path):
            raise DataError(f"{path}: is a file; give a folder of class folders, or an .npz file of arrays.")
    refuse_layout(layout, repr(path))
    if path == "digits":
        return _digits(split)
    if path.endswith(".npz"):
        return _from_pairs(read_npz(path), split)
    if is_prepared(path):
        return _from_shards(path, split, max_pixels)
    from keras_resnet.data.catalogue import open_tfds

    return open_tfds(path, split, data_dir, download, max_pixels)


def array_source(images: np.ndarray, labels: np.ndarray, class_names, named: bool = True) -> Source:
    """A source of decoded images in memory."""
    check_arrays(images, labels, len(class_names))
    pixels, classes = tf.constant(images), tf.constant(labels.astype(np.int64))
    return Source(
        size=len(images),
        class_names=tuple(class_names),
        image_shape=images.shape[1:],
        lookup=lambda position: (tf.gather(pixels, position), tf.gather(classes, position)),
        mapped=lambda f: array_source(np.stack([f(image) for image in images]), labels, class_names, named),
        named=named,
        identity=partial(of_arrays, pixels, classes),
    )


def _digits(split):
    """The 1,797 digits of the UCI set; every fifth image is held out, 359 in all."""
    with (
        resources.files("keras_resnet.data").joinpath("digits.npz").open("rb") as file,
        np.load(file) as archive,
    ):
        images, labels = archive["images"], archive["labels"]
    # Sixteen is white; images are stored as counts of ink, 0 to 16.
    images = np.round(images[..., None] * (255 / 16)).astype(np.uint8)
    held_out = np.arange(len(images)) % 5 == 4
    chosen = {"train": ~held_out, "test": held_out, "held_out": held_out, "all": np.ones_like(held_out)}
    if split not in chosen:
        raise no_split("digits", split, chosen, chosen)
    return array_source(images[chosen[split]], labels[chosen[split]], [str(i) for i in range(10)])


def _from_pairs(pairs, split):
    """``(x, y)``, or ``((x_train, y_train), (x_test, y_test))`` as Keras's datasets are."""
    if len(pairs) != 2:
        raise DataError(f"arrays must be (images, labels), or a pair of such pairs; got {len(pairs)} items.")
    if not isinstance(pairs[0], tuple | list):
        splits = {"train": pairs, "all": pairs}
    else:
        splits = {"train": pairs[0], "test": pairs[1], "held_out": pairs[1]}
    if split not in splits:
        raise no_split("these arrays", split, splits, splits)
    images, labels = map(np.asarray, splits[split])
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    images = images[..., None] if images.ndim == 3 else images
    check_arrays(images, labels)
    # All splits have the same classes, whichever is asked for.
    classes = 1 + max(int(np.max(y, initial=0)) for _, y in splits.values())
    if classes > _MAX_CLASSES:
        raise DataError(f"label {classes - 1} is wrong: labels count the classes from 0 on.")
    return array_source(images, labels, [str(i) for i in range(classes)], named=False)


def _from_folder(root, split, layout, max_pixels):
    unused = Unused()
    folder = choose_split(root, open_folder(root, layout, unused), split)
    if line := unused.summary():
        warnings.warn(line, stacklevel=4)
    paths = tf.constant([os.fsencode(path) for path in folder.paths])
    labels = tf.constant(folder.labels, tf.int64)

    def read(path, label, choose, least):
        return decode_image(read_file(path, max_pixels), show(path), choose, least, max_pixels), label

    return Source(
        size=len(folder.paths),
        class_names=folder.class_names,
        image_shape=(None, None, 3),
        lookup=lambda position: (tf.gather(paths, position), tf.gather(labels, position)),
        read=read,
        identity=partial(of_files, os.fspath(root), folder.paths),
    )


def _from_shards(root, split, max_pixels):
    classes, splits = read_manifest(root)
    found = find_split(split, splits)
    if found is None:
        raise no_split(show(root), split, splits, {*splits, "held_out"})
    split = found
    for shard in splits[split].shards:
        check_size(root, shard)
    shards = [show(os.path.join(root, shard.file)) for shard in splits[split].shards]

    def read(record, number, choose, least):
        return read_record(record, shards[number], len(classes), choose, least, max_pixels)

    return Source(
        size=sum(splits[split].counts),
        class_names=classes,
        image_shape=(None, None, 3),
        lookup=lambda record: record,
        read=read,
        records=records(root, splits[split]),
        identity=lambda: [repr(splits[split]).encode()],
    )
