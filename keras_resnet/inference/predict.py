"""What is on these images?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_resnet.data.decode import read_image, show
from keras_resnet.data.errors import DataError
from keras_resnet.data.folder import image_files
from keras_resnet.data.transforms import resize_and_crop
from keras_resnet.inference.artifacts import Artifact, check_takes_pixels, open_model
from keras_resnet.inference.evaluate import to_probabilities


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image, best first, as ``(name, probability)``."""

    path: str
    classes: list[tuple[str, float]]


def predict(model, images: str | Iterable[str], *, top: int = 5) -> list[Prediction]:
    """Classify image files.

    Args:
        model: A run folder, a ``.keras`` file, or an `Artifact`.
        images: Path of an image or of a folder of images, or several of them.
        top: How many classes to name.

    Raises:
        DataError: an image cannot be read; the message names the file.
        ValueError: the model cannot be used.
    """
    artifact = model if isinstance(model, Artifact) else open_model(model)
    check_takes_pixels(artifact.model)
    paths = [images] if isinstance(images, str | os.PathLike) else images
    return [_predict_one(artifact, path, top) for path in _files(paths)]


def _files(paths) -> Iterator[str]:
    for path in paths:
        if os.path.isdir(path):
            found = sorted(image_files(os.fspath(path)))
            if not found:
                raise DataError(f"{show(path)}: the folder has no images.")
            yield from found
        else:
            yield os.fspath(path)


def _predict_one(artifact, path, top):
    _, height, width, channels = artifact.model.input_shape
    if channels not in (1, 3):
        raise ValueError(f"the model takes {channels} channels; image files have 1 or 3.")
    image = read_image(path)
    if channels == 1:
        image = np.round(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]
    size = height or width or 224
    options = {"crop_fraction": 0.875} | artifact.options
    pixels = resize_and_crop(tf.constant(image), size, **options)
    probabilities = to_probabilities(artifact.model.predict_on_batch(pixels[None].numpy()))[0]
    best = np.argsort(-probabilities, kind="stable")[:top]
    return Prediction(show(path), [(artifact.class_names[i], float(probabilities[i])) for i in best])
