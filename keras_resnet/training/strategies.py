"""Several devices of one machine, by `tf.distribute`: the same training as on one, with larger steps.

Where every batch divides evenly, the last one too, weights equal those of one device within
rounding. Where one does not, Keras 3.15 still weighs all devices alike in gradients and statistics
(21 images in batches of 8, two devices: weights are 1e-2 off after two epochs). The datasets of
`train` leave a last smaller batch out.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import keras
import tensorflow as tf

from keras_resnet.training.recipe import Recipe

STRATEGIES = ("mirrored",)


def open_strategy(name: str | None) -> tf.distribute.Strategy:
    """``"mirrored"``: a copy of the model on each GPU, or on each logical CPU where there is no GPU.

    With ``None``, the strategy that is in force.

    Raises:
        ValueError: the name is unknown, there is one device only, or `keras.distribution` is set.
    """
    if keras.distribution.distribution() is not None:
        raise ValueError(
            "keras.distribution is set: on TensorFlow it raises nothing and leaves the variables on the "
            "first device. Unset it by keras.distribution.set_distribution(None), and use a strategy."
        )
    if name is None:
        return tf.distribute.get_strategy()
    if name not in STRATEGIES:
        raise ValueError(f"strategy={name!r} is unknown; choose one of {STRATEGIES}.")
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise ValueError(f"strategy={name!r} needs two devices; TensorFlow sees {devices[0].name} only.")
    return _mirrored(tuple(device.name for device in devices))


@functools.cache
def _mirrored(devices):
    # One for the process: a second one numbers its collective operations anew, and TensorFlow
    # takes them for those of the first.
    return tf.distribute.MirroredStrategy(devices)


def scale_recipe(recipe: Recipe, replicas: int) -> Recipe:
    """The recipe for steps of as many batches: its batch size is that of one device.

    The rate grows with the batch for SGD (arXiv:1706.02677, section 2.1) and with its square root
    for LAMB (arXiv:1904.00962, section 4). An epoch of stated length has fewer steps.
    """
    growth = replicas if recipe.optimizer == "sgd" else math.sqrt(replicas)
    steps = recipe.steps_per_epoch and max(1, round(recipe.steps_per_epoch / replicas))
    return replace(
        recipe,
        batch_size=recipe.batch_size * replicas,
        learning_rate=recipe.learning_rate * growth,
        steps_per_epoch=steps,
    )


def synchronize(model: keras.Model, on: bool) -> None:
    """Take batch statistics over all devices, or over each; to be called before `accelerate`.

    To be switched off before the model is saved: the file then holds what one device would have.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = on
