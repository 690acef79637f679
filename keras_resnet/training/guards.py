"""What Keras lets pass in silence, as errors."""

from __future__ import annotations

import warnings

import keras
import tensorflow as tf

from keras_resnet.data.errors import DataError


def checked_fit(model: keras.Model, dataset: tf.data.Dataset, *, steps_per_epoch: int, **options):
    """`model.fit`, that trains every step or raises.

    Keras 3.15 returns an empty history for an empty dataset, and where the data end before the
    last step it warns and stops, in the middle of the schedule of the learning rate.

    Args:
        model: Compiled.
        dataset: Batches; at least `steps_per_epoch` for each epoch.
        steps_per_epoch: Steps of an epoch.
        **options: Further arguments of `fit`.

    Raises:
        DataError: the dataset is empty or too short.
    """
    error = DataError(f"the dataset is empty or ends before the last of {steps_per_epoch} steps an epoch.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Your input ran out of data")
            history = model.fit(dataset, steps_per_epoch=steps_per_epoch, shuffle=False, **options)
    except UserWarning as warning:
        if "ran out of data" not in str(warning):
            raise
        raise error from None
    if not history.history:
        raise error
    return history
