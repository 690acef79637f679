"""`Checkpoint`: a run of `keras.Model.fit` that was killed goes on as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_resnet.arguments import real, whole
from keras_resnet.training import runs, snapshots, states


@dataclass(frozen=True)
class Position:
    """Where a run goes on.

    Attributes:
        epoch: For ``fit(initial_epoch=...)``; its first batches may be done already.
        step: Batches that are done, over all epochs; for ``make_dataset(start_step=...)``.
    """

    epoch: int = 0
    step: int = 0


class Checkpoint(keras.callbacks.Callback):
    """Save snapshots in `fit`, and go on from the last one, exactly.

    A snapshot holds all variables of the model (weights, statistics, the seeds of dropout), of
    its optimizer (with its moving averages and its count of steps) and of its metrics, the state
    of `callbacks`, the history and the position in the data. On a CPU a run that was killed and
    restored ends with the same bits as one that was not, if the batches are a function of the
    step, as those of `make_dataset` are, and the operations are deterministic
    (``tf.config.experimental.enable_op_determinism()``). What callbacks or datasets draw from
    the global generators of Python, numpy or Keras is not covered.

    `fit` needs ``steps_per_epoch``, a dataset that does not end, and this callback as the last
    one. Where a run goes on within an epoch, `fit` counts the batches that are done without
    running them, so that other callbacks see them begin and end with no logs; their state is
    restored after that.

    Used in a ``with`` statement, it also keeps other runs out of the folder and makes Ctrl-C and
    SIGTERM save a snapshot before they end the process (status 130 and 143).

    Args:
        folder: For the snapshots; made where it is missing.
        callbacks: Those whose state a snapshot shall hold: with ``get_state()``, which returns a
            dictionary of plain values and numpy arrays, and ``set_state(state)``; or Keras's
            EarlyStopping, ReduceLROnPlateau and ModelCheckpoint.
        every: Steps between snapshots, besides that at each epoch's end. Between two executions,
            if the model was compiled with ``steps_per_execution``.
        minutes: Likewise, by the clock.
        keep: How many snapshots stay, at least 2.
        config: What the run depends on, as JSON holds it; a run is restored with the same only.

    Raises:
        FloatingPointError: in `fit`, after the batch that made the loss NaN or infinite or before
            a snapshot of weights that are; the snapshots are finite.
        SnapshotError: in `fit`, a snapshot could not be written.
    """

    # Keras need not wait for each batch: its end is looked at from another thread. All else
    # happens where batches begin, which is in the thread that trains.
    async_safe = True

    def __init__(self, folder, callbacks=(), *, every=None, minutes=None, keep=2, config=None):
        super().__init__()
        keep = whole("keep", keep, least=2)
        every = None if every is None else whole("every", every)
        minutes = None if minutes is None else real("minutes", minutes, above=0)
        for callback in callbacks:
            states.check(callback)
        self.folder, self.callbacks = Path(folder), list(callbacks)
        self.every, self.minutes, self.keep = every, minutes, keep
        self.config = json.loads(json.dumps(config))
        self._history = {"epoch": [], "logs": {}}
        self._restored = self._late = self._start = self._path = None
        self._epoch = self._bad = self._signal = None
        self._ours = self._fitting = self._skipping = False

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(runs.locked(self.folder))
            stack.enter_context(runs.on_signals(self._on_signal))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        self._stack.close()

    def restore(self, model: keras.Model) -> Position:
        """Take the newest whole snapshot; a damaged one is passed over with a warning.

        Args:
            model: Built and compiled as it was then. Its variables and those of its optimizer
                are restored now, the rest when `fit` begins.

        Returns:
            Where `fit` and the data shall go on: the beginning, if there is no snapshot.

        Raises:
            ValueError: the configuration or a shape differs; the message names what.
            SnapshotError: there are snapshots, and all are damaged.
        """
        self._ours, snapshot = True, snapshots.newest(self.folder)
        if snapshot is None:
            return Position()
        state = snapshot.state
        if changed := states.differences(state["config"], self.config):
            raise ValueError(
                f"{snapshot.path} was made with another configuration: {'; '.join(changed)}. "
                "Give the former values, or begin another run."
            )
        if changed := states.differences(state["versions"], states.versions()):
            warnings.warn(f"{'; '.join(changed)}: the run may not go on bit for bit.", stacklevel=2)
        if not model.optimizer.built:
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)
        states.assign(snapshot, states.variables(model))
        self._restored, self._path = snapshot, snapshot.path
        self._history = states.unpack(state["history"], snapshot.read)
        self._start = Position(state["epoch"], state["step"])
        return self._start

    def on_train_begin(self, logs=None):
        """Check what `fit` was given, and go to the restored moment."""
        self._steps, block = self.params["steps"], self.model.steps_per_execution
        done = self._restored.state["batch"] if self._restored else 0
        if not self._steps or self._steps % block or done % block:
            raise ValueError(
                f"steps_per_epoch={self._steps} must be a multiple of steps_per_execution={block}"
                f"{f', as must {done}, where the run goes on' if done else ''}: Keras runs whole "
                "executions, and a snapshot must know which batch comes next."
            )
        if not self._ours and snapshots.newest(self.folder):
            raise ValueError(f"{self.folder} holds snapshots: restore(model) first, or take another folder.")
        self.model.history.history = {name: list(values) for name, values in self._history["logs"].items()}
        self._ours = self._fitting = True
        self._bad, self._saved, self._clock = None, 0, time.monotonic()
        if self._restored:
            self._saved = self._restored.state["step"]
            if done:
                self._skip(done)
            else:
                self._apply()

    def on_epoch_begin(self, epoch, logs=None):
        """Note the epoch."""
        if self._start is not None and epoch != self._start.epoch:
            raise ValueError(f"the run goes on in epoch {self._start.epoch}: fit needs it as initial_epoch.")
        self._epoch, self._start = epoch, None
        self.model.history.epoch = list(self._history["epoch"])

    def on_train_batch_begin(self, batch, logs=None):
        """Save, if it is time; `batch` batches of the epoch are done."""
        if self._skipping or batch == 0:
            return
        self._check_loss()
        step = self._epoch * self._steps + batch
        due = self.every and step // self.every > self._saved // self.every
        due = due or (self.minutes and time.monotonic() - self._clock >= 60 * self.minutes)
        if due or self._signal:
            self._save(self._epoch, batch, step, states.values(self.model.metrics_variables))

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss, which is the mean over the epoch so far."""
        if self._late:
            late, self._late = self._late, None
            self._remind(late)
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            self._bad = batch

    def on_test_begin(self, logs=None):
        """Keep the metrics of the epoch, which Keras resets now."""
        if self._epoch is not None:
            self._check_loss()
            self._metrics = states.values(self.model.metrics_variables)
            self.model.stop_evaluating = bool(self._signal)

    def on_test_end(self, logs=None):
        """After a signal, leave: the held-out images were cut short and come again."""
        if self._epoch is not None and self._signal:
            self._save(self._epoch, self._steps, (self._epoch + 1) * self._steps, self._metrics)

    def on_epoch_end(self, epoch, logs=None):
        """Save."""
        self.on_train_batch_end(self._steps - 1, logs)
        self._check_loss()
        self._epoch = None
        self._history["epoch"].append(epoch)
        for name, value in logs.items():
            self._history["logs"].setdefault(name, []).append(value)
        # Where another callback has stopped the training, nothing is left to do.
        following = self.params["epochs"] if self.model.stop_training else epoch + 1
        self._save(following, 0, (epoch + 1) * self._steps, [])

    def on_train_end(self, logs=None):
        """Let signals act at once again; of a run that had ended, show the history."""
        self._fitting = False
        self.model.history.epoch = list(self._history["epoch"])

    def _check_loss(self):
        if self._bad is None:
            return
        first = self._bad - self.model.steps_per_execution + 2
        raise FloatingPointError(
            f"the loss is not finite in epoch {self._epoch + 1}, since batch {first}"
            f"{f' to {self._bad + 1}' if first <= self._bad else ''} of {self._steps}; {self._kept()}."
        )

    def _kept(self):
        return f"{self._path} is the last finite snapshot" if self._path else "there is no snapshot yet"

    def _save(self, epoch, batch, step, metrics):
        """Write a snapshot, after which `batch` batches of `epoch` are done; leave, after a signal."""
        variables = states.variables(self.model)
        arrays = states.arrays(variables)
        try:
            states.check_finite(variables, arrays)
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}; {self._kept()}.") from None
        arrays |= {f"metrics/{i}": value for i, value in enumerate(metrics)}
        remembered = [states.callback_state(callback) for callback in self.callbacks]
        state = {
            "epoch": epoch, "batch": batch, "step": step, "steps_per_epoch": self._steps,
            "config": self.config, "versions": states.versions(),
            "callbacks": [states.pack(s, arrays, f"callbacks/{i}") for i, s in enumerate(remembered)],
            "history": states.pack(self._history, arrays, "history"),
        }  # fmt: skip
        self._path = snapshots.write(self.folder, step, arrays, state, keep=self.keep)
        self._saved, self._clock = step, time.monotonic()
        if self._signal:
            runs.leave(self._signal)

    def _apply(self):
        """Restore everything; nothing that has happened since `fit` began remains."""
        snapshot, self._restored = self._restored, None
        state, variables = snapshot.state, states.variables(self.model)
        if state["steps_per_epoch"] != self._steps:
            raise ValueError(f"steps_per_epoch was {state['steps_per_epoch']} and is {self._steps}.")
        if len(state["callbacks"]) != len(self.callbacks):
            raise ValueError(
                f"there were {len(state['callbacks'])} callbacks; {len(self.callbacks)} are given."
            )
        if state["batch"]:
            variables["metrics"] = self.model.metrics_variables
        states.assign(snapshot, variables)
        self._remind(snapshot)

    def _remind(self, snapshot):
        for callback, remembered in zip(self.callbacks, snapshot.state["callbacks"], strict=True):
            states.set_callback_state(callback, states.unpack(remembered, snapshot.read))

    def _skip(self, done):
        """Let `fit` count the batches that are done; restore everything before the next one runs."""
        run, left = self.model.train_function, done // self.model.steps_per_execution
        self._skipping = True

        def arrive(iterator):
            self.model.train_function, self._skipping = run, False
            # Some metrics have no variables yet; with tf.distribute, Keras makes them before.
            saved = [name for name in self._restored.places if name.startswith("metrics/")]
            if len(saved) != len(self.model.metrics_variables):
                states.build_metrics(self.model, iterator.element_spec)
            self._apply()

        def train_function(iterator):
            nonlocal left
            left -= 1
            if left < 0:
                arrive(iterator)
                return run(iterator)
            if left == 0 and done == self._steps:
                # The callbacks see the end of this batch yet, and are reminded after that.
                self._late = self._restored
                arrive(iterator)
                return self.model.get_metrics_result()
            return {}

        self.model.train_function = train_function

    def _on_signal(self, number):
        if not self._fitting:
            runs.leave(number)
        self._signal = number
        self.model.stop_evaluating = True
        # Not `print`, which the signal may have interrupted.
        os.write(2, b"\nsaving a snapshot after the batches that run now; once more to stop at once\n")
