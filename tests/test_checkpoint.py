"""A run of `fit` that was stopped, wherever, ends as one that was not."""

import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet as kr
from keras_resnet.training import snapshots
from keras_resnet.training.states import callback_state, pack, set_callback_state, unpack

STEPS = 6


def batches(start_step=0):
    """Digits with MixUp whose coefficient and partners are functions of the step."""
    dataset = kr.make_dataset(
        "digits", "train", batch_size=16, seed=3, crop="pad", crop_padding=1, start_step=start_step
    )

    def mix(step, batch):
        images, labels = tf.cast(batch[0], tf.float32), tf.one_hot(batch[1], 10)
        share = tf.random.stateless_uniform((), [step, 5])
        return (share * x + (1 - share) * tf.reverse(x, [0]) for x in (images, labels))

    counted = tf.data.Dataset.zip(tf.data.Dataset.counter(start_step), dataset)
    return counted.map(lambda step, batch: tuple(mix(step, batch)))


def compiled(**options):
    keras.utils.set_random_seed(1)
    model = kr.build_resnet(
        stages=((1, 8), (1, 16)), block="basic", stem="conv3", stem_pool=None, input_shape=(8, 8, 1),
        num_classes=10, dropout=0.3, drop_path=0.3, normalization=(0.5, 0.25),
    )  # fmt: skip
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 15, warmup_target=0.1, warmup_steps=4)
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"], **options)
    return model


class Counter(keras.callbacks.Callback):
    """Counts batches and epochs, and keeps their losses."""

    def __init__(self):
        super().__init__()
        self.epochs, self.batches, self.losses = 0, 0, np.zeros(0)

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs += 1

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        self.losses = np.append(self.losses, logs.get("loss", -1.0))

    def get_state(self):
        return {"epochs": self.epochs, "batches": self.batches, "losses": self.losses}

    def set_state(self, state):
        self.epochs, self.batches, self.losses = state["epochs"], state["batches"], state["losses"]


class At(keras.callbacks.Callback):
    """Does something once, at a hook (with batches: at one of them, of the second epoch)."""

    def __init__(self, hook, batch, action):
        super().__init__()
        self.epoch, self.batch, self.action, self.done = 0, batch, action, False
        setattr(self, hook, self._act)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def _act(self, batch=None, logs=None):
        if self.epoch == 1 and self.batch in (None, batch) and not self.done:
            self.done = True
            self.action()


class Killed(Exception):
    pass


def kill():
    raise Killed


class Bench:
    """One compiled model, brought back to its first weights for each run: tracing takes seconds."""

    def __init__(self):
        self.model = compiled()
        self.model.optimizer.build(self.model.trainable_variables)
        self.held_out = batches().take(3).cache()
        self.variables = self.model.variables + self.model.optimizer.variables
        self.first = [v.numpy() for v in self.variables]

    def reset(self, scramble=False):
        for variable, value in zip(self.variables, self.first, strict=True):
            variable.assign(value + 3 if scramble else value)

    def fit(self, folder, at=(), *, epochs=5, patience=2, **options):
        """One process: restore, and `fit` to the end or until something stops it."""
        counter = Counter()
        stop = keras.callbacks.EarlyStopping("val_loss", min_delta=10, patience=patience, mode="min")
        options = {"every": 2, "config": {"seed": 3}} | options
        with kr.Checkpoint(folder, [counter, stop], **options) as checkpoint:
            start = checkpoint.restore(self.model)
            history = self.model.fit(
                batches(start.step), initial_epoch=start.epoch, epochs=epochs, steps_per_epoch=STEPS,
                validation_data=self.held_out, callbacks=[counter, stop, *at, checkpoint], shuffle=False,
                verbose=0,
            )  # fmt: skip
        return self.outcome(history, counter)

    def outcome(self, history, counter):
        weights = [v.numpy().tobytes() for v in self.variables]
        counts = counter.epochs, counter.batches, counter.losses.tobytes()
        return weights, history.history, history.epoch, counts


@pytest.fixture(scope="module")
def bench():
    return Bench()


@pytest.fixture(scope="module")
def whole(bench, tmp_path_factory):
    bench.reset()
    return bench.fit(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def fresh(bench, whole):
    bench.reset()
    return bench


def test_the_uninterrupted_run(whole):
    weights, history, epochs, counts = whole
    # Early stopping ends it after three of five epochs.
    assert epochs == [0, 1, 2]
    assert counts[:2] == (3, 18)
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert len(weights) > 30


MOMENTS = {
    "first batch": ("on_train_batch_begin", 0, kill),
    "on a snapshot": ("on_train_batch_begin", 2, kill),
    "between snapshots": ("on_train_batch_begin", 5, kill),
    "in the validation": ("on_test_batch_end", 1, kill),
    "end of the epoch": ("on_epoch_end", None, kill),
}


def assert_goes_on(bench, folder, whole):
    bench.reset(scramble=True)
    assert bench.fit(folder) == whole
    # Once more from the end: nothing is left to do, and everything is there.
    bench.reset(scramble=True)
    assert bench.fit(folder) == whole


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_killed_and_restored(fresh, whole, tmp_path, moment):
    with pytest.raises(Killed):
        fresh.fit(tmp_path, [At(*moment)])
    assert_goes_on(fresh, tmp_path, whole)


def test_killed_while_saving_twice(fresh, whole, tmp_path, monkeypatch):
    real, count = snapshots._put, []

    def put(path, chunks):
        count.append(path)
        if len(count) in (10, 20):
            path.write_bytes(b"half")
            raise Killed
        real(path, chunks)

    monkeypatch.setattr(snapshots, "_put", put)
    for _ in range(2):
        with pytest.raises(Killed):
            fresh.fit(tmp_path)
        assert list(tmp_path.glob(".part_*"))
        fresh.reset(scramble=True)
    assert fresh.fit(tmp_path) == whole
    assert not list(tmp_path.glob(".part_*"))


def test_damaged_newest(fresh, whole, tmp_path):
    with pytest.raises(Killed):
        fresh.fit(tmp_path, [At("on_train_batch_begin", 5, kill)])
    with open(tmp_path / "step_10/arrays.bin", "r+b") as file:
        file.write(b"\xff")
    fresh.reset(scramble=True)
    with pytest.warns(UserWarning, match="step_10 is damaged"):
        assert fresh.fit(tmp_path) == whole


@pytest.mark.parametrize(
    "number, hook, batch",
    [
        (signal.SIGINT, "on_train_batch_begin", 3),
        (signal.SIGTERM, "on_test_batch_begin", 1),
        (signal.SIGINT, "on_epoch_end", None),
    ],
)
def test_signals_save_and_leave(fresh, whole, tmp_path, number, hook, batch):
    before = signal.getsignal(number)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as left:
        fresh.fit(tmp_path, [At(hook, batch, lambda: os.kill(os.getpid(), number))], every=None)
    assert getattr(left.value, "code", 130) == 128 + number
    assert signal.getsignal(number) is before
    done = {"on_train_batch_begin": (1, 3, 9), "on_test_batch_begin": (1, 6, 12), "on_epoch_end": (2, 0, 12)}
    state = snapshots.newest(tmp_path).state
    assert (state["epoch"], state["batch"], state["step"]) == done[hook]
    fresh.reset(scramble=True)
    assert fresh.fit(tmp_path, every=None) == whole


def test_a_second_signal_acts_at_once(fresh, tmp_path):
    survived = []

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        survived.append(True)
        os.kill(os.getpid(), signal.SIGINT)
        survived.append(False)

    with pytest.raises(KeyboardInterrupt):
        fresh.fit(tmp_path, [At("on_train_batch_begin", 3, twice)], every=None)
    assert survived == [True]
    assert snapshots.newest(tmp_path).state["step"] == 6


def test_signals_act_at_once_where_nothing_trains(tmp_path):
    with pytest.raises(SystemExit) as left, kr.Checkpoint(tmp_path):
        os.kill(os.getpid(), signal.SIGTERM)
    assert left.value.code == 143


def test_nan_stops_and_the_snapshots_are_finite(fresh, tmp_path):
    begun = []
    kernel = fresh.model.trainable_variables[0]
    spoil = At("on_train_batch_begin", 3, lambda: kernel.assign(np.full(kernel.shape, np.nan)))
    count = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: begun.append(batch))
    count.async_safe = True
    with pytest.raises(
        FloatingPointError, match=r"epoch 2, since batch 4 of 6; .*step_8 is the last finite"
    ) as error:
        fresh.fit(tmp_path, [spoil, count])
    # The fourth batch has the NaN; it is seen when the fifth begins.
    assert begun == [*range(6), *range(5)]
    found = snapshots.newest(tmp_path)
    assert str(found.path) in str(error.value)
    assert all(np.isfinite(found.read(n)).all() for n in found.places if n.startswith(("model", "optimizer")))


def test_weights_that_are_not_finite_are_not_saved(fresh, tmp_path):
    # In the last layer's average: the loss does not see it.
    spoil = At("on_train_batch_begin", 2, lambda: fresh.model.optimizer.variables[-1].assign([np.inf] * 10))
    with pytest.raises(FloatingPointError, match="holds NaN or infinity; .*step_6 is the last finite"):
        fresh.fit(tmp_path, [spoil])
    assert snapshots.newest(tmp_path).state["step"] == 6


def test_by_the_clock(fresh, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(snapshots, "write", lambda folder, step, *rest, **options: written.append(step))
    fresh.fit(tmp_path, every=None, minutes=1e-9)
    assert written == list(range(1, 19))
    written.clear()
    fresh.reset()
    fresh.fit(tmp_path, every=4, minutes=1e9)
    assert written == [4, 6, 8, 12, 16, 18]


# What is refused.


def test_two_runs_in_one_folder(tmp_path):
    with kr.Checkpoint(tmp_path), pytest.raises(ValueError, match=f"in use by process {os.getpid()} on"):
        kr.Checkpoint(tmp_path).__enter__()
    with kr.Checkpoint(tmp_path):
        pass


@pytest.fixture(scope="module")
def saved(bench, whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    bench.reset()
    with pytest.raises(Killed):
        bench.fit(folder, [At("on_train_batch_begin", 3, kill)])
    return folder


def test_another_configuration(bench, saved):
    config = {"seed": 4, "recipe": {"epochs": 2}}
    with pytest.raises(ValueError, match="seed was 3 and is 4; recipe was missing and is {'epochs': 2}"):
        kr.Checkpoint(saved, config=config).restore(bench.model)


def test_another_model(saved):
    model = kr.build_resnet(
        stages=((1, 8), (1, 24)), block="basic", stem="conv3", stem_pool=None, input_shape=(8, 8, 1),
        num_classes=10, dropout=0.3, drop_path=0.3, normalization=(0.5, 0.25),
    )  # fmt: skip
    model.compile(keras.optimizers.SGD(momentum=0.9))
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=r"float32 of shape \(3, 3, 8, 16\) for 'stage2_block1_conv1/kernel'"
    ):
        kr.Checkpoint(saved, config={"seed": 3}).restore(model)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_mistakes_in_fit(bench, saved, tmp_path):
    data = batches()

    def fit(checkpoint, **options):
        options = dict(steps_per_epoch=STEPS, epochs=2, verbose=0, shuffle=False) | options
        bench.model.fit(data, callbacks=[checkpoint], **options)

    with pytest.raises(ValueError, match=r"saved\d+ holds snapshots: restore\(model\) first"):
        fit(kr.Checkpoint(saved))
    callbacks = [Counter(), Counter()]
    checkpoint = kr.Checkpoint(saved, callbacks, config={"seed": 3})
    start = checkpoint.restore(bench.model)
    assert start == kr.Position(epoch=1, step=8)
    with pytest.raises(ValueError, match="goes on in epoch 1: fit needs it as initial_epoch"):
        fit(checkpoint)


def test_mistakes_in_arguments(tmp_path):
    with pytest.raises(TypeError, match="CSVLogger has no get_state"):
        kr.Checkpoint(tmp_path, [keras.callbacks.CSVLogger("x")])
    with pytest.raises(ValueError, match="every=0"):
        kr.Checkpoint(tmp_path, every=0)


# States.


def test_callbacks_of_keras():
    stop, plateau = keras.callbacks.EarlyStopping(), keras.callbacks.ReduceLROnPlateau()
    stop.on_train_begin()
    plateau.on_train_begin()
    stop.wait, stop.best, stop.best_weights = 2, np.float32(0.1), [np.arange(3.0), np.ones((2, 2))]
    plateau.wait, plateau.cooldown_counter, plateau.best = 4, 1, 0.3
    for callback, other in (
        (stop, keras.callbacks.EarlyStopping()),
        (plateau, keras.callbacks.ReduceLROnPlateau()),
    ):
        arrays = {}
        other.on_train_begin()
        set_callback_state(other, unpack(pack(callback_state(callback), arrays, "x"), arrays.__getitem__))
        assert repr(callback_state(other)) == repr(
            callback_state(callback) | ({"best": float(np.float32(0.1))} if callback is stop else {})
        )


@pytest.mark.parametrize("value", [{1: 2}, {"a": object()}, [b"x"], {"a": {"b": 1j}}])
def test_values_that_would_not_come_back_are_refused(value):
    with pytest.raises(TypeError, match="x.* is .*a snapshot holds no such values"):
        pack(value, {}, "x")
