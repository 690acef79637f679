"""The moving average of the weights."""

import keras
import numpy as np
import pytest

from keras_resnet.training.ema import EMA


def model_and_data():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(24, 3)).astype(np.float32), rng.normal(size=(24, 1)).astype(np.float32)


def values(model):
    return [v.numpy() for v in model.weights]


class Record(keras.callbacks.Callback):
    """The weights after each step, and those that are evaluated."""

    def __init__(self):
        super().__init__()
        self.steps, self.evaluated = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(values(self.model))

    def on_test_batch_begin(self, batch, logs=None):
        self.evaluated.append(values(self.model))


def fit(callbacks, epochs=2, **options):
    model, x, y = model_and_data()
    model.fit(
        x, y, batch_size=4, epochs=epochs, validation_data=(x[:4], y[:4]), validation_batch_size=4,
        shuffle=False, verbose=0, callbacks=callbacks, **options,
    )  # fmt: skip
    return model


@pytest.mark.parametrize("every", [1, 2])
def test_average_of_all_weights_is_evaluated(every):
    ema, record = EMA(0.3, every), Record()
    start = values(model_and_data()[0])
    model = fit([ema, record])
    average, updates, wanted = start, 0, []
    for step, weights in enumerate(record.steps, start=1):
        if step % every == 0:
            keep = min(0.3**every, (1 + updates) / (10 + updates))
            average = [keep * a + (1 - keep) * w for a, w in zip(average, weights, strict=True)]
            updates += 1
        if step % 6 == 0:
            wanted.append(average)
    assert len(record.evaluated) == len(wanted) == 2
    for ours, theirs in zip(record.evaluated, wanted, strict=True):
        for a, b in zip(ours, theirs, strict=True):  # the statistics of the normalisation too
            np.testing.assert_allclose(a, b, atol=1e-6)
    # After the training the model holds the last weights; `averaged` lends the average.
    last = values(model)
    for a, b in zip(last, record.steps[-1], strict=True):
        np.testing.assert_array_equal(a, b)
    with ema.averaged():
        for a, b in zip(values(model), record.evaluated[-1], strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(values(model), last, strict=True):
        np.testing.assert_array_equal(a, b)


def test_averaging_leaves_the_training_as_it_was():
    with_average, without = fit([EMA(0.9)]), fit([])
    for a, b in zip(values(with_average), values(without), strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_continues():
    whole = EMA(0.9)
    fit([whole])
    first, second = EMA(0.9), EMA(0.9)
    model = fit([first], epochs=1)
    state = first.get_state()
    assert all(isinstance(v, int | np.ndarray) for v in state.values())
    second.set_model(model)
    second.set_state(state)
    _, x, y = model_and_data()
    model.fit(x, y, batch_size=4, epochs=2, initial_epoch=1, shuffle=False, verbose=0, callbacks=[second])
    for name, value in whole.get_state().items():
        np.testing.assert_array_equal(second.get_state()[name], value)


def test_bad_decay():
    with pytest.raises(ValueError, match="decay=1"):
        EMA(1)
