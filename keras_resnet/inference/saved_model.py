"""Exports as a TensorFlow SavedModel, which takes image files as they are."""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_resnet.inference.preparation import Preparation, prepare_encoded

# TensorFlow Serving decodes base64 for inputs whose alias ends in _bytes.
BYTES_INPUT = "image_bytes"
PIXELS_SIGNATURE = "pixels"
_TOP = 5


def write_saved_model(model: keras.Model, folder: str, preparation: Preparation, class_names) -> None:
    """Write `model` as a SavedModel that needs nothing but TensorFlow.

    Its signatures, for any number of images:

    - ``serving_default``: ``image_bytes``, strings ``(batch,)``, the contents of JPEG, PNG, GIF
      or BMP files (see `keras_resnet.inference.encoded`), to ``probabilities``
      ``(batch, classes)`` and, of the five likeliest classes, best first, ``classes`` (names) and
      ``scores`` (probabilities), both ``(batch, 5)``.
    - ``pixels``: ``image``, prepared pixels of 0 to 255, float32
      ``(batch, height, width, channels)``, to ``probabilities``.

    Args:
        model: A model of `rebuild`.
        folder: Where to.
        preparation: How images are prepared in ``serving_default``.
        class_names: The names of the classes.
    """
    names = tf.constant(list(class_names))
    top = min(_TOP, len(class_names))

    def from_pixels(image):
        return {"probabilities": model(image, training=False)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    pixel_spec = tf.TensorSpec(model.input.shape, tf.float32, "image")
    classify = archive.add_endpoint(PIXELS_SIGNATURE, from_pixels, [pixel_spec])

    def from_bytes(image_bytes):
        prepared = tf.TensorSpec((preparation.size, preparation.size, preparation.channels), tf.float32)
        pixels = tf.map_fn(
            lambda data: prepare_encoded(data, preparation), image_bytes, fn_output_signature=prepared
        )
        probabilities = classify(pixels)["probabilities"]
        scores, best = tf.math.top_k(probabilities, top)
        return {"classes": tf.gather(names, best), "scores": scores, "probabilities": probabilities}

    archive.add_endpoint("serving_default", from_bytes, [tf.TensorSpec([None], tf.string, BYTES_INPUT)])
    archive.write_out(folder, verbose=False)


def open_saved_model(folder: str):
    """The signature `pixels` of a SavedModel, as a function from arrays to probabilities."""
    loaded = tf.saved_model.load(folder)

    def run(images):
        image = tf.constant(images, tf.float32)
        return loaded.signatures[PIXELS_SIGNATURE](image=image)["probabilities"].numpy()

    return run
