"""How an encoded image becomes a model's input: as data beside an export, and as a TensorFlow graph in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import tensorflow as tf

from keras_resnet.inference.artifacts import Artifact
from keras_resnet.inference.encoded import decode_encoded
from keras_resnet.inference.pixels import prepares_images
from keras_resnet.preprocessing import find_front
from keras_resnet.transform import USUAL_CROP, USUAL_SIZE

_KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}


@dataclass(frozen=True)
class Preparation:
    """The short side is resized to `resize` pixels; the middle `size` x `size` are kept.

    If nobody stated a crop, images that have exactly this size stay as they are; see `Geometry`.
    The pixels keep their values, 0 to 255: the model normalises them.

    Attributes:
        size: Side of the input in pixels.
        resize: Short side before the crop, in pixels.
        interpolation: "bilinear" or "bicubic".
        channels: 3 (red, green, blue) or 1 (grey).
        options: What is known of it, as arguments of `make_dataset`, which has its own defaults:
            it does not resize and crop images that have the right size.
    """

    size: int
    resize: int
    interpolation: str
    channels: int
    options: dict

    def describe(self) -> dict:
        """What transform.json says."""
        return {
            "color": "RGB" if self.channels == 3 else "grey, 0.299 R + 0.587 G + 0.114 B",
            "resize_short_side": self.resize,
            "interpolation": self.interpolation,
            "antialias": self.options["antialias"],
            "center_crop": self.size,
            "unless_already_of_that_size": self.options["crop_fraction"] is None,
            "layout": "NHWC",
            "dtype": "float32",
            "range": [0, 255],
            "normalization": "in the model",
        }


def preparation_of(artifact: Artifact) -> Preparation:
    """How the images of `artifact` are prepared, as `predict` does it.

    Raises:
        ValueError: the model's input is no square image of one or three channels, or it prepares
            images in a way that an export cannot state.
    """
    model, front = artifact.model, find_front(artifact.model)
    _, height, width, channels = shape = (model.inputs[0] if front is None else front.output).shape
    if front is None and prepares_images(model):
        raise ValueError(
            f"{model.name!r} resizes images otherwise than by their short side (crop_to_aspect_ratio=True): "
            "an export cannot take that over. Export the network behind its Resizing layer."
        )
    if height != width or channels not in (1, 3):
        raise ValueError(
            f"{model.name!r} takes {shape[1:]}; an export takes square images of 1 or 3 channels."
        )
    options = artifact.options
    if front is not None:
        # Half a pixel more, so that rounding down gives the layer's size again.
        fraction = 1.0 if front.resize == front.size else front.size / (front.resize + 0.5)
        options = {
            "crop_fraction": fraction,
            "interpolation": front.interpolation,
            "antialias": front.antialias,
        }
    size = height or artifact.geometry.size or USUAL_SIZE
    resize = math.floor(size / (options["crop_fraction"] or USUAL_CROP))
    return Preparation(size, resize, options["interpolation"], channels, options | {"image_size": size})


def prepare_encoded(data, preparation: Preparation):
    """Decode and prepare one image inside a TensorFlow graph.

    As `predict` prepares images, within two grey levels. What TensorFlow cannot decode to the same
    picture is refused; see `keras_resnet.inference.encoded`.

    Args:
        data: The bytes of a JPEG, PNG, GIF (first frame) or BMP file: a scalar string tensor.
        preparation: How.

    Returns:
        float32 tensor ``(size, size, channels)`` of whole numbers from 0 to 255.
    """
    image = decode_encoded(data)
    if preparation.channels == 1:
        grey = tf.constant([[0.299], [0.587], [0.114]], tf.float64)
        image = tf.round(tf.tensordot(tf.cast(image, tf.float64), grey, 1))
    extent = tf.shape(image)[:2]
    size, kernel = preparation.size, _KERNELS[preparation.interpolation]
    short_side = preparation.resize
    if preparation.options["crop_fraction"] is None:
        short_side = tf.where(tf.reduce_all(extent == preparation.size), preparation.size, short_side)
    resized = short_side * extent // tf.reduce_min(extent)
    corner = tf.round(tf.cast(resized - size, tf.float32) / 2)
    scale = tf.cast(resized / extent, tf.float32)
    antialias = preparation.options["antialias"]
    # Across, then down, and whole grey levels between: bicubic overshoots, and Pillow cuts that off.
    for steps, axis in (([extent[0], size], [False, True]), ([size, size], [True, False])):
        image = tf.raw_ops.ScaleAndTranslate(
            images=tf.cast(image, tf.float32)[None], size=steps,
            scale=tf.where(axis, scale, 1.0), translation=tf.where(axis, -corner, 0.0),
            kernel_type=kernel, antialias=antialias,
        )[0]  # fmt: skip
        if antialias or axis[0]:
            image = tf.clip_by_value(tf.floor(image + 0.5), 0.0, 255.0)
    return tf.ensure_shape(image, (size, size, preparation.channels))
