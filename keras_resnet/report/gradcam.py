"""Grad-CAM: where in an image a network found what speaks for a class (arXiv:1610.02391)."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.arguments import whole
from keras_resnet.graphs import functional_model
from keras_resnet.inference.pixels import check_range, takes_pixels
from keras_resnet.preprocessing import visible_part
from keras_resnet.summary import stage_outputs

# Images of one pass. Only the layers above the stage keep what their gradient needs.
_BATCH = 32


def gradcam(model: keras.Model, images, class_index=None, stage: int | None = None) -> np.ndarray:
    """Heat maps of the evidence for a class.

    The maps of a stage are added, each weighted by the mean gradient of the class's logit with
    respect to it, and what is negative is set to zero (equations 1 and 2). It is the logit's gradient and not
    the probability's: that of a softmax vanishes where the network is sure, and mixes in
    what speaks against the other classes.

    Args:
        model: A classifier of this package, built or loaded: pooling and a dense head, with or
            without an activation. Layers in front, trainable or not, and any dtype policy will do.
        images: As the model takes them, ``(batch, height, width, channels)``.
        class_index: A class, or one for each image; by default the one that the model finds likeliest.
        stage: Its number, one-based; by default the last one, which is taken as the head pools
            it: behind the last normalisation and ReLU of a network with preactivation. Earlier
            stages show more detail and less of the class.

    Returns:
        float32 ``(batch, height, width)`` in [0, 1]: the maps, resized to the images bilinearly
        and divided by their maximum. A map is zero everywhere if nothing speaks for the class,
        and where a model with ``preprocess=True`` cuts off a margin.

    Raises:
        ValueError: the model has no pooling and head, or no such stage or class; the images are not a batch.
    """
    images = _check_images(images, model)
    maps = _stage_maps(model, stage)
    below = functional_model(model.input, maps)
    above = functional_model(maps, model.get_layer("head").output)
    classes = _classes(class_index, len(images), above.output_shape[-1])
    heat = []
    for start in range(0, len(images), _BATCH):
        some = slice(start, start + _BATCH)
        chosen = None if classes is None else classes[some]
        heat.append(_heat(below(images[some], training=False), above, chosen))
    return _resized(np.concatenate(heat), *visible_part(model, *images.shape[1:3]), images.shape[1:3])


def _stage_maps(model, stage):
    """The tensor ``(batch, height, width, channels)`` of a stage; all that follows depends on it alone."""
    names = {layer.name for layer in model.layers}
    if not {"head", "head_pool"} <= names:
        raise ValueError(
            f"{model.name!r} has no pooling and head: Grad-CAM needs a classifier, include_top=True."
        )
    stages = stage_outputs(model)
    stage = None if stage is None else whole("stage", stage)
    if stage is None or f"stage{stage}" == list(stages)[-1]:
        return model.get_layer("head_pool").input
    if f"stage{stage}" not in stages:
        raise ValueError(f"{model.name!r} has {', '.join(stages)}; asked for stage={stage!r}.")
    return stages[f"stage{stage}"]


def _check_images(images, model):
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or images.shape[-1] != model.input_shape[-1]:
        raise ValueError(
            f"images of shape {images.shape}: expected (batch, height, width, {model.input_shape[-1]})."
        )
    check_range(images, takes_pixels(model), model.name)
    return images


def _classes(class_index, count, classes):
    """One class for each image, int64, or ``None``."""
    if class_index is None:
        return None
    found = np.asarray(class_index)
    if found.dtype.kind not in "iu" or found.shape not in ((), (count,)):
        raise ValueError(
            f"class_index={class_index!r} must be an integer, or one for each of {count} images."
        )
    if found.size and not 0 <= found.min() <= found.max() < classes:
        raise ValueError(f"class_index={class_index!r} must be from 0 to {classes - 1}.")
    return np.broadcast_to(found.astype(np.int64), (count,))


def _heat(maps, above, classes):
    """The weighted sums of `maps` without what is negative: ``(batch, height, width)``."""
    with tf.GradientTape() as tape:
        # The maps are where the tape begins: with frozen weights, too, it has something to watch.
        tape.watch(maps)
        logits = above(maps, training=False)
        classes = tf.argmax(logits, axis=1) if classes is None else tf.constant(classes)
        scores = tf.gather(logits, classes, axis=1, batch_dims=1)
    weights = tf.cast(tf.reduce_mean(tape.gradient(scores, maps), axis=(1, 2), keepdims=True), tf.float32)
    return tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1)).numpy()


def _resized(heat, top, left, height, width, shape):
    """The maps in the part of the images that the network sees, with a maximum of 1."""
    full = np.zeros((len(heat), *shape), np.float32)
    resized = tf.image.resize(heat[..., None], (height, width))[..., 0].numpy()
    full[:, top : top + height, left : left + width] = resized
    return full / np.maximum(full.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
