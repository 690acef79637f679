"""Callbacks of the user's own in `train` and `finetune`: which can run, and what they save."""

from __future__ import annotations

import contextlib
import types

import keras

from keras_resnet.training.checkpoint import Checkpoint
from keras_resnet.training.strategies import one_device

_RATE = (
    "it sets the learning rate, which a schedule sets at every step here, and Keras allows no other; "
    "choose {schedule} instead"
)
_RESTART = "it repeats batches and forgets the seeds of dropout; {restart}"
# Of Keras's callbacks, those that would raise in the middle of a training, or train something else.
_REFUSED = {
    keras.callbacks.ReduceLROnPlateau: _RATE,
    keras.callbacks.LearningRateScheduler: _RATE,
    keras.callbacks.BackupAndRestore: _RESTART,
    keras.callbacks.SwapEMAWeights: "no optimizer here keeps Keras's averages; {average}",
    Checkpoint: "{restart}",
}
_REMEDIES = {
    "train": {
        "schedule": "learning_rate, schedule and epochs of the recipe",
        "restart": "train writes snapshots, and resume=True goes on with them",
        "average": "set ema of the recipe",
    },
    "finetune": {
        "schedule": "learning_rate and epochs of finetune",
        "restart": "finetune starts from its model each time",
        "average": "train has averages, by ema of its recipe",
    },
}


def check_callbacks(callbacks, function: str, *, averages: bool = False) -> list[keras.callbacks.Callback]:
    """The callbacks as a list, if each of them can do its work in `function`.

    Args:
        callbacks: What `train` or `finetune` was given.
        function: ``"train"`` or ``"finetune"``.
        averages: Whether the average of the weights is evaluated and kept.

    Raises:
        ValueError: one is not a callback of Keras's, or would fail in the middle of the training or
            leave other weights than it says; the message names the remedy.
    """
    try:
        callbacks = list(callbacks)
    except TypeError:
        raise ValueError(f"callbacks={callbacks!r} must be a list of callbacks.") from None
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise ValueError(f"callbacks has {callback!r}; each must be a keras.callbacks.Callback.")
        for kind, reason in _REFUSED.items():
            if isinstance(callback, kind):
                reason = reason.format(**_REMEDIES[function])
                raise ValueError(f"{kind.__name__} cannot be used in {function}: {reason}.")
        if averages and getattr(callback, "restore_best_weights", False):
            raise ValueError(
                "EarlyStopping(restore_best_weights=True) restores the weights as trained, and what is "
                "evaluated and kept is their average (ema of the recipe): give restore_best_weights=False, "
                "and keep the best average by ModelCheckpoint(save_best_only=True)."
            )
    return callbacks


def save_as(logits: keras.Model, network: keras.Model, *, ema=None, writes: bool = True) -> None:
    """Let whatever saves `logits` in `fit`, as Keras's `ModelCheckpoint` does, write `network`.

    The file takes pixels, gives probabilities, and loads in plain Keras: `logits` is compiled with
    functions that plain Keras does not know.

    Args:
        logits: What `fit` trains.
        network: The same layers up to the probabilities.
        ema: An `EMA`, whose average is written, as it is what `fit` evaluates.
        writes: Whether this worker writes files: the first one alone.
    """

    def saver(write):
        def save(model, *arguments, **options):
            if writes:
                with ema.averaged() if ema else contextlib.nullcontext(), one_device(network):
                    write(*arguments, **options)

        return types.MethodType(save, logits)

    logits.save, logits.save_weights = saver(network.save), saver(network.save_weights)
    # `keras.saving.save_model(logits)` writes the logits, which plain Keras opens as well.
    logits.get_compile_config = types.MethodType(lambda model: None, logits)
