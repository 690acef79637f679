"""Grad-CAM: where in an image a network found what speaks for a class (arXiv:1610.02391)."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import arguments
from keras_resnet.graphs import functional_model
from keras_resnet.heads import POOLS, find_head, logits_function, single_inputs
from keras_resnet.inference.pixels import check_range, takes_pixels
from keras_resnet.preprocessing import visible_part
from keras_resnet.summary import stage_outputs
from keras_resnet.tails import class_count, read_tail

# Images of one pass. Only the layers above the stage keep what their gradient needs.
_BATCH = 32


def gradcam(model: keras.Model, images, class_index=None, stage: int | None = None) -> np.ndarray:
    """Heat maps of the evidence for a class.

    The maps of a stage are added, each weighted by the mean gradient of the class's logit with
    respect to it, and what is negative is set to zero (equations 1 and 2). It is the logit's gradient and not
    the probability's: that of a softmax vanishes where the network is sure, and mixes in
    what speaks against the other classes.

    Args:
        model: A classifier: maps, their pooling, a dense layer or 1x1 convolution, with or without an
            activation. Layers in front, trainable or not, and any dtype policy will do.
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
    images = _check_images(images, arguments.model("model", model))
    tail = _tail(model)
    maps = _stage_maps(model, stage)
    below = functional_model(model.inputs[0], maps)
    above = functional_model(maps, tail.source)
    end = logits_function(tail)

    def to_logits(maps):
        return end(above(maps, training=False))

    classes = _classes(class_index, len(images), class_count(model))
    heat = []
    for start in range(0, len(images), _BATCH):
        some = slice(start, start + _BATCH)
        chosen = None if classes is None else classes[some]
        heat.append(_heat(below(images[some], training=False), to_logits, chosen))
    return _resized(np.concatenate(heat), *visible_part(model, *images.shape[1:3]), images.shape[1:3])


def _stage_maps(model, stage):
    """The tensor ``(batch, height, width, channels)`` of a stage; all that follows depends on it alone."""
    stages = stage_outputs(model)
    stage = None if stage is None else arguments.whole("stage", stage)
    if stage is None or f"stage{stage}" in list(stages)[-1:]:
        return _pooled_maps(model)
    if f"stage{stage}" not in stages:
        raise ValueError(f"{model.name!r} has {', '.join(stages) or 'no stages'}; asked for stage={stage!r}.")
    return stages[f"stage{stage}"]


def _tail(model):
    try:
        tail = read_tail(model)
    except ValueError as error:
        raise _no_classifier(model, error.__cause__ or error) from error
    if tail.nested or tail.source is None:
        raise _no_classifier(model, "its head is in a model inside it, or one of several")
    return tail


def _pooled_maps(model):
    """What the head pools: the last maps ``(batch, height, width, channels)`` before it."""
    head = find_head(model)
    if head is None:
        raise _no_classifier(model, "it ends in features")
    tensor = head.features
    for node in single_inputs(tensor):
        if len(tensor.shape) == 4 and not isinstance(node.operation, POOLS):
            return tensor
        (tensor,) = node.input_tensors
    if len(tensor.shape) == 4:
        return tensor
    raise _no_classifier(model, f"its last maps do not lead to {head} alone")


def _no_classifier(model, reason):
    return ValueError(
        f"{model.name!r} has no pooling and head, which Grad-CAM needs (include_top=True): {reason}."
    )


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


def _heat(maps, to_logits, classes):
    """The weighted sums of `maps` without what is negative: ``(batch, height, width)``."""
    with tf.GradientTape() as tape:
        # The maps are where the tape begins: with frozen weights, too, it has something to watch.
        tape.watch(maps)
        logits = to_logits(maps)
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
