"""The outputs of a model for a batch, under whatever strategy it was built."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf


def batch_function(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from a batch of images to the outputs of `model`, one for each image.

    Under a strategy of several replicas, Keras 3.15's `predict_on_batch` gives the whole batch to each
    of them and returns all their answers, one after another. Here one replica computes the batch.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return model.predict_on_batch
    step = tf.function(lambda images: model.predict_step((images,)), reduce_retracing=True)
    return lambda images: keras.tree.map_structure(np.asarray, step(tf.convert_to_tensor(images)))


def check_one_device(function: str) -> None:
    """Raise ``ValueError`` in the scope of a strategy of several devices, where `function` cannot run."""
    if (replicas := tf.distribute.get_strategy().num_replicas_in_sync) > 1:
        raise ValueError(
            f"{function} runs on one device; leave the scope of the strategy, which has {replicas}."
        )
