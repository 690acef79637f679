"""A moving average of the weights, for `fit`."""

from __future__ import annotations

import contextlib

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.arguments import rate, whole


class EMA(keras.callbacks.Callback):
    """Average weights and statistics over the training, and evaluate the average.

    Keras's own leaves the statistics of normalisations out, and its `SwapEMAWeights` swaps by
    adding and subtracting, which changes the weights a little at every evaluation. Here both sets
    are kept and copied. After `fit` the model holds the weights as trained; `averaged` puts the
    others in.

    The decay grows with the updates, ``min(decay, (1 + n) / (10 + n))``, so that the average
    forgets the initial weights in short trainings too.

    Args:
        decay: Of the average in one step, in [0, 1).
        every: Steps between updates, each with ``decay ** every``.
    """

    def __init__(self, decay: float, every: int = 1):
        super().__init__()
        self.decay, self.every = rate("decay", decay), whole("every", every)
        self.steps = self.updates = 0
        self._averages = self._trained = None
        self._training = self._swapped = False

    def set_model(self, model):
        """Start from the weights that the model has now."""
        if self._averages is not None and model is self.model:
            return
        super().set_model(model)
        self._averages, self._trained = (
            [tf.Variable(v, trainable=False, dtype=v.dtype) for v in model.weights] for _ in range(2)
        )
        self._update = tf.function(self._make_update)

    def on_train_begin(self, logs=None):
        """Evaluations from here on are of the average."""
        self._training = True

    def on_train_end(self, logs=None):
        """Those after the training are of whatever the model holds."""
        self._training = False

    def on_train_batch_end(self, batch, logs=None):
        """Update the average."""
        self.steps += 1
        if self.steps % self.every == 0:
            keep = min(self.decay**self.every, (1 + self.updates) / (10 + self.updates))
            self._update(tf.constant(keep, tf.float32))
            self.updates += 1

    def on_test_begin(self, logs=None):
        """Put the average in."""
        if self._training:
            self.swap_in()

    def on_test_end(self, logs=None):
        """Put the weights as trained back."""
        if self._training:
            self.swap_out()

    def swap_in(self):
        """Put the average into the model, and keep the weights as trained.

        Before the first update the model keeps its weights: the average is still that of the initial ones.
        """
        if not self._swapped and self.updates:
            _copy(self.model.weights, self._trained)
            _copy(self._averages, self.model.weights)
            self._swapped = True

    def swap_out(self):
        """Put the weights as trained back, bit for bit."""
        if self._swapped:
            _copy(self._trained, self.model.weights)
            self._swapped = False

    @contextlib.contextmanager
    def averaged(self):
        """A context in which the model holds the average; after it, the model holds what it held before."""
        before = self._swapped
        self.swap_in()
        try:
            yield
        finally:
            if not before:
                self.swap_out()

    def get_state(self) -> dict:
        """What `set_state` needs: numbers and arrays."""
        averages = {f"average_{i}": value.numpy() for i, value in enumerate(self._averages)}
        return {"steps": self.steps, "updates": self.updates} | averages

    def set_state(self, state: dict):
        """Continue from what `get_state` gave; the model must be set."""
        self.steps, self.updates = int(state["steps"]), int(state["updates"])
        for i, average in enumerate(self._averages):
            average.assign(np.asarray(state[f"average_{i}"]))

    def _make_update(self, keep):
        for average, weight in zip(self._averages, self.model.weights, strict=True):
            part = tf.cast(keep, average.dtype)
            average.assign(part * average + (1 - part) * weight)


def _copy(sources, targets):
    for source, target in zip(sources, targets, strict=True):
        target.assign(source)
