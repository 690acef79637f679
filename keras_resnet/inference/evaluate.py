"""How good a model is on data that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data.errors import DataError, clear_errors
from keras_resnet.data.pipeline import make_dataset
from keras_resnet.inference.artifacts import check_takes_pixels
from keras_resnet.inference.forward import batch_function


@dataclass(frozen=True)
class Evaluation:
    """Figures of one pass over `count` images.

    Attributes:
        count: Images.
        top1: Share of the images whose likeliest class is right.
        top5: Share of those whose class is among the five likeliest.
        loss: Mean cross-entropy, in nats.
        confusion: Counts, ``(true class, predicted class)``.
    """

    count: int
    top1: float
    top5: float
    loss: float
    confusion: np.ndarray

    def __str__(self):
        return f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%}, loss {self.loss:.4f}, {self.count} images"


def evaluate(
    model: keras.Model, data, split: str = "held_out", *, on_batch: Callable | None = None, **options
) -> Evaluation:
    """Evaluate a classifier.

    Args:
        model: Takes pixels of 0 to 255; returns probabilities or logits.
        data: A finite dataset of `make_dataset`, or anything that `make_dataset` takes.
        split: With the latter, which split.
        on_batch: Called with the images, labels and probabilities of each batch, as arrays.
        **options: With the latter, further arguments of `make_dataset`. The image size is the
            model's own, where it has one.

    Raises:
        DataError: the data cannot be used, or have other classes or channels than the model.
        ValueError: the model does not normalise its input.
    """
    check_takes_pixels(model)
    if not isinstance(data, tf.data.Dataset):
        options.setdefault("image_size", model.input_shape[1])
        data = make_dataset(data, split, training=False, **options)
    _check_fit(model, data)
    classes = model.output_shape[-1]
    confusion = np.zeros((classes, classes), np.int64)
    hits5, loss, outputs_of = 0, 0.0, batch_function(model)
    with clear_errors():
        for images, labels in data.as_numpy_iterator():
            probabilities = to_probabilities(outputs_of(images))
            if on_batch is not None:
                on_batch(images, labels, probabilities)
            order = np.argsort(-probabilities, axis=1, kind="stable")
            np.add.at(confusion, (labels, order[:, 0]), 1)
            hits5 += int((order[:, :5] == labels[:, None]).sum())
            right = probabilities[np.arange(len(labels)), labels]
            loss -= float(np.log(np.maximum(right, np.finfo(np.float32).tiny)).sum(dtype=np.float64))
    count = int(confusion.sum())
    return Evaluation(count, confusion.trace() / count, hits5 / count, loss / count, confusion)


def to_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Outputs that do not sum to one are logits: their softmax."""
    outputs = np.asarray(outputs, np.float32)
    if (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-2):
        return outputs
    exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _check_fit(model, data):
    if data.cardinality() == tf.data.INFINITE_CARDINALITY or data.cardinality() > 2**40:
        raise DataError("a dataset for training has no end; make one with training=False.")
    channels, wanted = data.element_spec[0].shape[-1], model.input_shape[-1]
    if channels != wanted:
        raise DataError(f"the images have {channels} channels; {model.name!r} takes {wanted}.")
    names = getattr(data, "class_names", None)
    if names is not None and len(names) != model.output_shape[-1]:
        raise DataError(f"the data have {len(names)} classes; {model.name!r} has {model.output_shape[-1]}.")
