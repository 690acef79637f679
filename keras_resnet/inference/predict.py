"""What is on these images?"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.arguments import whole
from keras_resnet.data import images as one_image
from keras_resnet.data.decode import MAX_PIXELS, read_image, show
from keras_resnet.data.errors import DataError, clear_errors
from keras_resnet.data.folder import image_files
from keras_resnet.data.pipeline import fixed_parallelism
from keras_resnet.data.workers import python_function
from keras_resnet.graphs import functional_model
from keras_resnet.heads import find_head
from keras_resnet.inference.artifacts import to_artifact
from keras_resnet.inference.fuse import fuse
from keras_resnet.inference.kept import keep
from keras_resnet.inference.pixels import check_takes_pixels, prepares_images
from keras_resnet.output_kind import output_kind, to_probabilities
from keras_resnet.tails import class_count, units
from keras_resnet.transform import USUAL_SIZE


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image, best first, as ``(name, probability)``.

    `features` is what the head was given, one number for each channel, if it was asked for.
    An image that cannot be read has an `error`, and no classes.
    """

    path: str
    classes: list[tuple[str, float]]
    features: np.ndarray | None = None
    error: str | None = None


def predict(
    model,
    images: str | Iterable[str],
    *,
    top: int = 5,
    batch_size: int = 32,
    precision: str = "float32",
    outputs: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[Prediction]:
    """Classify image files; `predict_to_csv` is for many of them.

    The first call fuses the model, which takes seconds; further calls with the same model find what was
    fused, until its weights change. In a loop, open the model once: `open_model`.

    Args:
        model: A run folder, a ``.keras`` file, a Keras model, or an `Artifact`.
        images: Path of an image or of a folder of images, or several of them.
        top: How many classes to name.
        batch_size: How many images to compute at a time.
        precision: Of `fuse`.
        outputs: What the model returns, "probabilities", "logits" or "sigmoid": needed only if its
            graph does not tell, see `output_kind`.
        max_pixels: Images of more pixels are refused, and smaller ones that would take much more memory
            than so small a file should; by default 2**26 (64 Mpixel).

    Raises:
        DataError: an image cannot be read; the message names the file.
        ValueError: the model cannot be used.
    """
    options = {"top": top, "batch_size": batch_size, "precision": precision, "outputs": outputs}
    predictions = []
    for prediction in stream_predictions(model, images, max_pixels=max_pixels, **options):
        if prediction.error is not None:
            raise DataError(prediction.error)
        predictions.append(prediction)
    return predictions


def stream_predictions(
    model,
    images: str | Iterable[str],
    *,
    top: int = 5,
    batch_size: int = 32,
    precision: str = "float32",
    outputs: str | None = None,
    max_pixels: int = MAX_PIXELS,
    features: bool = False,
    known: set[str] | frozenset[str] = frozenset(),
) -> Iterator[Prediction]:
    """Classify any number of image files, one batch in memory at a time, in order.

    The arguments are those of `predict`, and:

    Args:
        features: Also give what the head was given, its pooled features.
        known: Paths, as in `Prediction.path`, to leave out.

    Raises:
        DataError: a folder has no images or cannot be listed. A file that cannot be read is a
            `Prediction` with an `error`.
        ValueError: the model cannot be used.
    """
    artifact = to_artifact(model)
    check_model(artifact.model, top, batch_size)
    top, batch_size = int(top), int(batch_size)
    kind, count = output_kind(artifact.model, outputs), class_count(artifact.model)
    if len(artifact.class_names) != count:
        raise ValueError(
            f"{len(artifact.class_names)} class names for the {count} classes of {artifact.model.name!r}."
        )
    network = artifact.model
    compute = keep(
        network,
        (precision, features),
        lambda: fuse(_with_features(network) if features else network, precision),
    )
    with clear_errors():
        for batch in _batches(artifact, images, batch_size, known, whole("max_pixels", max_pixels)):
            found = compute(tf.cast(batch["pixels"], tf.float32))
            probabilities = to_probabilities(found["probabilities"] if features else found, kind)
            pooled = found["features"].numpy() if features else [None] * len(probabilities)
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
            for i, path in enumerate(batch["path"]):
                if error := batch["error"][i].decode():
                    yield Prediction(text_of_path(path), [], error=error)
                    continue
                classes = [(artifact.class_names[j], float(probabilities[i, j])) for j in order[i]]
                yield Prediction(text_of_path(path), classes, pooled[i])


def text_of_path(path: str | bytes) -> str:
    """A path as text that every file of UTF-8 can hold: bytes that are not UTF-8 become escapes."""
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()


def check_model(model: keras.Model, top: int, batch_size: int) -> None:
    """Raise ``ValueError`` for a model that cannot name what is on an image file."""
    check_takes_pixels(model)
    units(model)
    if model.input_shape[-1] not in (1, 3):
        raise ValueError(f"the model takes {model.input_shape[-1]} channels; image files have 1 or 3.")
    whole("top", top)
    whole("batch_size", batch_size)


def head_pool(model: keras.Model) -> keras.KerasTensor:
    """What the head of a model is given: ``(batch, channels)``.

    Raises:
        ValueError: the graph does not tell where the head begins, or it does not take pooled features.
    """
    head = find_head(model)
    if head is None or len(head.features.shape) != 2:
        raise ValueError(f"{model.name!r} has no head that is given pooled features.")
    return head.features


def _with_features(model):
    return functional_model(
        model.inputs[0], {"probabilities": model.outputs[0], "features": head_pool(model)}
    )


def _batches(artifact, images, batch_size, known, max_pixels):
    """Batches of ``{"path", "error", "pixels"}``; what cannot be read is black, and has an error."""
    _, height, width, channels = artifact.model.input_shape
    resizes = prepares_images(artifact.model)
    size = height or width or artifact.geometry.size or USUAL_SIZE

    files = _files([images] if isinstance(images, str | os.PathLike) else images)
    paths = (os.fsencode(path) for path in files if text_of_path(path) not in known)

    def read(path):
        try:
            image = read_image(path, max_pixels)
        except DataError as error:
            return np.zeros((1, 1, channels), np.uint8), str(error).encode()
        return _to_grey(image) if channels == 1 else image, b""

    def read_resized(path):
        image, error = read(path)
        # Here, where a large image is not copied on its way into the graph.
        return one_image.resize_and_crop(image, size, **artifact.options), error

    read_input = read if resizes else read_resized

    def prepare(path):
        image, error = python_function(read_input, [path], [tf.uint8, tf.string])
        image = tf.ensure_shape(image, (None, None, channels) if resizes else (size, size, channels))
        return {"path": path, "error": tf.ensure_shape(error, ()), "pixels": image}

    first = list(itertools.islice(paths, 2))
    if len(first) == 1:
        # To make a pipeline costs more than to read one image.
        image, error = read_input(first[0])
        return [{"path": first, "error": [error], "pixels": image[None]}]
    dataset = tf.data.Dataset.from_generator(
        lambda: itertools.chain(first, paths), output_signature=tf.TensorSpec((), tf.string)
    )
    dataset = dataset.map(prepare, tf.data.AUTOTUNE, deterministic=True)
    # The models that resize take images of many sizes, one by one.
    dataset = dataset.batch(1 if resizes else batch_size).prefetch(2)
    return dataset.with_options(fixed_parallelism()).as_numpy_iterator()


def _to_grey(image):
    """One channel of an RGB image, row by row: the products of all pixels at once take 16 bytes each."""
    weights = np.array([0.299, 0.587, 0.114])
    return np.stack([np.round(row @ weights).astype(np.uint8)[:, None] for row in image])


def _files(paths) -> Iterator[str]:
    for path in paths:
        if not isinstance(path, str | bytes | os.PathLike):
            raise ValueError(
                f"images must be paths of files or folders, not {type(path).__name__}; "
                "fuse(model).predict(images) takes arrays and datasets."
            )
        if not os.path.isdir(path):
            yield os.fspath(path)
            continue
        found = 0
        for found, file in enumerate(image_files(os.fspath(path), unsupported=True), start=1):  # noqa: B007
            yield file
        if not found:
            raise DataError(f"{show(path)}: the folder has no images.")
