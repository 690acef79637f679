"""What Keras lets pass in silence, as errors."""

from __future__ import annotations

import math
import warnings

import keras
import tensorflow as tf

from keras_resnet.data.errors import DataError
from keras_resnet.inference.evaluate import check_finite


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
        ValueError: a callback sets the learning rate beside the schedule.
    """
    _check_lengths(dataset, steps_per_epoch, options)
    error = DataError(f"the dataset is empty or ends before the last of {steps_per_epoch} steps an epoch.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Your input ran out of data")
            history = model.fit(dataset, steps_per_epoch=steps_per_epoch, shuffle=False, **options)
    except TypeError as raised:
        if "learning rate is not settable" not in str(raised):
            raise
        raise ValueError(
            "a callback sets the learning rate, which a schedule sets at every step here; leave it out, and "
            "choose learning_rate, schedule and epochs of the recipe."
        ) from raised
    except UserWarning as warning:
        if "ran out of data" not in str(warning):
            raise
        raise error from None
    if not history.history:
        raise error
    return history


def _check_lengths(dataset, steps_per_epoch, options):
    """Raise before the first step for what would end too early or never."""
    if options.get("validation_steps") is None:
        check_finite(options.get("validation_data"), "the validation dataset")
    needed = steps_per_epoch * (options.get("epochs", 1) - options.get("initial_epoch", 0))
    if isinstance(dataset, tf.data.Dataset) and 0 <= (there := int(dataset.cardinality())) < needed:
        raise DataError(
            f"the training dataset has {there} batches, and {needed} steps need one each; make it with "
            "training=True, which has no end."
        )


class FiniteLoss(keras.callbacks.Callback):
    """End `fit` with an error soon after the batch that made the loss NaN or infinite.

    Keras's `TerminateOnNaN` makes every step wait for its end.

    Raises:
        FloatingPointError: in `fit`.
    """

    # As in `Checkpoint`: the loss is looked at in another thread, the error raised where `fit` runs.
    async_safe = True

    def on_epoch_begin(self, epoch, logs=None):
        """Forget what was seen."""
        self._epoch, self._bad = epoch, None

    def on_train_batch_begin(self, batch, logs=None):
        """Raise."""
        if self._bad is not None:
            raise FloatingPointError(
                f"the loss is not finite after batch {self._bad + 1} of epoch {self._epoch + 1}; "
                "try a lower learning rate."
            )

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss, which is the mean over the epoch so far."""
        if self._bad is None and not math.isfinite((logs or {}).get("loss", 0.0)):
            self._bad = batch

    def on_epoch_end(self, epoch, logs=None):
        """Look at that of the whole epoch."""
        self.on_train_batch_end(self.params["steps"] - 1, logs)
        self.on_train_batch_begin(0)
