"""Labels are positions in the list of classes: whatever else comes is refused, with its place."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_resnet.data.errors import DataError
from keras_resnet.data.workers import python_function


def check_label(label: int, num_classes: int | None, where: str) -> None:
    """Raise `DataError` unless 0 <= label < num_classes; `where` says whose label it is."""
    if label >= 0 and (num_classes is None or label < num_classes):
        return
    limit = "" if num_classes is None else f" and below the {num_classes} classes"
    hint = " Splits without labels often have -1." if label == -1 else ""
    raise DataError(f"label {label} of {where} is wrong: labels are at least 0{limit}.{hint}")


def check_labels(labels: np.ndarray, num_classes: int | None, first: int = 0, of: str = "") -> None:
    """`check_label` of an array.

    Args:
        labels: Integers, ``(images,)``.
        num_classes: How many classes there are; None if the labels decide that.
        first: What the first of these images is called in errors.
        of: What the images are from, such as " of cifar10/test".

    Raises:
        DataError: a label is out of range, and the message names the first one; or there is not one integer
            for each image.
    """
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise _wrong_kind(labels.shape, labels.dtype)
    top = np.inf if num_classes is None else num_classes
    for position in np.flatnonzero((labels < 0) | (labels >= top))[:1]:
        check_label(labels[position], num_classes, f"image {first + position}{of}")


def check_label_spec(data: tf.data.Dataset) -> None:
    """Raise `DataError` unless a dataset says that it has pairs of images and one integer an image."""
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise DataError("a dataset must give pairs of images and labels.")
    labels = spec[1]
    if not labels.dtype.is_integer or labels.shape.rank not in (None, 1):
        raise _wrong_kind(labels.shape, labels.dtype.name)


def _wrong_kind(shape, dtype):
    return DataError(
        f"labels have shape {shape} and dtype {dtype}; expected one integer an image, "
        "such as tf.argmax(labels, -1) of one-hot labels."
    )


def checked_labels(data: tf.data.Dataset | None, num_classes: int, name: str) -> tf.data.Dataset | None:
    """A dataset whose labels are checked as they come; soft labels must be of that many classes.

    Args:
        data: Batches of images and labels, and perhaps weights; None stays None.
        num_classes: How many classes there are.
        name: What errors call it.

    Returns:
        The same batches, without attributes; an iterator raises TensorFlow's error, from a `DataError`.

    Raises:
        DataError: labels of this shape or dtype cannot be read.
    """
    if data is None:
        return None
    spec = data.element_spec[1]
    if spec.shape.rank == 2 and spec.shape[1] == num_classes:
        return data
    if not spec.dtype.is_integer or spec.shape.rank != 1:
        raise DataError(
            f"the labels of {name} have shape {spec.shape} and dtype {spec.dtype.name}; expected one integer "
            f"an image, or ({num_classes},) shares of the classes."
        )

    def refuse(labels, batch):
        check_labels(labels, num_classes, of=f" in batch {batch} of {name}")
        return True

    def check(batch, element):
        labels = element[1]
        wide = tf.cast(labels, tf.int64)  # int8 cannot be compared with 1000
        inside = tf.reduce_all((wide >= 0) & (wide < num_classes))
        # Python is asked only for the message: it would cost more than the check.
        asked = tf.cond(inside, lambda: True, lambda: python_function(refuse, [wide, batch], tf.bool))
        with tf.control_dependencies([asked]):
            return (element[0], tf.identity(labels), *element[2:])

    return data.enumerate().map(check)
