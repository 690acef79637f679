"""What Keras's callbacks do in `train` and `finetune`: the right thing, or one line before the first step."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet as kr
from keras_resnet.metadata import metadata_of, restore_metadata
from keras_resnet.training.callbacks import save_as
from keras_resnet.training.checkpoint import Checkpoint
from keras_resnet.training.ema import EMA
from keras_resnet.training.losses import Accuracy, softmax_cross_entropy
from keras_resnet.training.strategies import synchronize

SETTINGS = {
    "epochs": 2, "warmup_epochs": 0, "steps_per_epoch": 2, "batch_size": 16,
    "architecture": {"stages": ((1, 16), (1, 32))},
}  # fmt: skip
PLAIN = """
import json, sys
import keras, numpy as np
pixels = np.load(sys.argv[1])
print(json.dumps([
    keras.saving.load_model(path).predict(pixels, verbose=0).tolist() for path in sys.argv[2:]
]))
assert not any(name.startswith("keras_resnet") for name in sys.modules)
"""


def data(count=48, classes=4):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    images = (rng.integers(0, 100, (count, 8, 8, 3)) + 50 * labels[:, None, None, None]).astype(np.uint8)
    return images, labels


def base():
    return kr.build_resnet(
        ((1, 8), (1, 8)), block="basic", stem="conv3", stem_pool=None, stem_filters=8, num_classes=3,
        input_shape=(8, 8, 3), normalization=(0.5, 0.25),
    )  # fmt: skip


def finetuned(callbacks, epochs=2, **options):
    train, validation = (
        kr.make_dataset(data(), "train", training=training, batch_size=16) for training in (True, False)
    )
    return kr.finetune(base(), train, validation, epochs=epochs, callbacks=callbacks, **options)


class At(keras.callbacks.Callback):
    """Calls a function with the model when something happens."""

    def __init__(self, when, call):
        super().__init__()
        setattr(self, when, lambda *_, **__: call(self.model))


def set_rate(model):
    model.optimizer.learning_rate = 0.01


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: keras.callbacks.ReduceLROnPlateau(), "ReduceLROnPlateau cannot be used in .*schedule"),
        (
            lambda: keras.callbacks.LearningRateScheduler(lambda e: 0.1),
            "LearningRateScheduler cannot be used",
        ),
        (lambda: keras.callbacks.BackupAndRestore("b"), "BackupAndRestore cannot be used in"),
        (lambda: keras.callbacks.SwapEMAWeights(), "SwapEMAWeights cannot be used in .*ema"),
        (lambda: Checkpoint("c"), "Checkpoint cannot be used in"),
        (lambda: At("on_train_begin", set_rate), "a callback sets the learning rate"),
        (lambda: At("on_epoch_begin", set_rate), "a callback sets the learning rate"),
        (lambda: print, "each must be a keras.callbacks.Callback"),
        (lambda: keras.callbacks.EarlyStopping, "each must be a keras.callbacks.Callback"),
    ],
)
def test_what_cannot_run_is_refused_before_the_first_step(make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps = []
    count = At("on_train_batch_begin", lambda model: steps.append(1))
    with pytest.raises(ValueError, match=message):
        kr.train(settings=SETTINGS, callbacks=[count, make()], out="run")
    with pytest.raises(ValueError, match=message):
        finetuned([count, make()])
    assert steps == []


def test_callbacks_must_be_several(tmp_path):
    with pytest.raises(ValueError, match="must be a list of callbacks"):
        finetuned(keras.callbacks.EarlyStopping())


def test_the_best_weights_as_trained_are_not_the_average(tmp_path):
    stop = keras.callbacks.EarlyStopping("val_accuracy", restore_best_weights=True)
    with pytest.raises(ValueError, match="restore_best_weights=False"):
        kr.train(settings=SETTINGS | {"ema": 0.9}, callbacks=[stop], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def plain(images, *paths):
    """What plain Keras, in another process, answers from files."""
    np.save(paths[0].parent / "pixels.npy", images)
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(paths[0].parent / "pixels.npy"), *map(str, paths)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return np.array(json.loads(done.stdout))


def test_the_files_of_model_checkpoint_are_plain_and_know_their_classes(tmp_path):
    images = data()[0][:4]
    seen = {}

    def checkpoint(name, **options):
        return keras.callbacks.ModelCheckpoint(str(tmp_path / name), **options)

    def direct(model):
        keras.saving.save_model(model, tmp_path / "direct.keras")

    last = [
        checkpoint("last.keras"),
        checkpoint("best.keras", monitor="val_accuracy", save_best_only=True),
        checkpoint("batch.keras", save_freq=1),
        checkpoint("last.weights.h5", save_weights_only=True),
        At("on_train_end", direct),
    ]
    network = finetuned(last)
    expected = network.predict(images, verbose=0)
    names = ("last.keras", "batch.keras", "direct.keras", "best.keras")
    seen = dict(zip(names, plain(images, *(tmp_path / name for name in names)), strict=True))
    np.testing.assert_allclose(seen["last.keras"], expected, atol=1e-6)
    np.testing.assert_allclose(seen["batch.keras"], expected, atol=1e-6)
    np.testing.assert_allclose(np.exp(seen["direct.keras"]) / np.exp(seen["direct.keras"]).sum(1)[:, None],
                               expected, atol=1e-5)  # fmt: skip
    np.testing.assert_allclose(seen["best.keras"].sum(axis=1), 1, atol=1e-5)
    for name in names:
        loaded = restore_metadata(keras.saving.load_model(tmp_path / name), tmp_path / name)
        assert metadata_of(loaded).class_names == tuple("0123")
        # By this package: the same answer, in words, from logits too.
        found = kr.open_model(tmp_path / name)
        assert found.class_names == tuple("0123")
    Image.fromarray(images[1]).save(tmp_path / "one.png")
    for name in ("last.keras", "direct.keras"):
        (answer,) = kr.predict(tmp_path / name, tmp_path / "one.png", top=4)
        probabilities = dict(answer.classes)
        np.testing.assert_allclose([probabilities[c] for c in "0123"], expected[1], atol=1e-5)
    network.load_weights(tmp_path / "last.weights.h5")
    np.testing.assert_allclose(network.predict(images, verbose=0), expected, atol=1e-6)


def test_in_train_the_file_holds_what_was_evaluated(tmp_path):
    """With an average of the weights, `ModelCheckpoint` monitors it and must save it."""
    keep = keras.callbacks.ModelCheckpoint(str(tmp_path / "e{epoch}.keras"))
    best = keras.callbacks.ModelCheckpoint(str(tmp_path / "b.keras"), "val_accuracy", save_best_only=True)
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=9)
    settings = SETTINGS | {"ema": 0.5, "mixup": 0.2}
    run = kr.train(settings=settings, callbacks=[keep, best, stop], out=tmp_path / "run")
    held_out = kr.make_dataset("digits", "held_out", image_size=8, batch_size=128)
    for epoch, row in enumerate(run.history, start=1):
        found = kr.evaluate(keras.saving.load_model(tmp_path / f"e{epoch}.keras"), held_out)
        assert found.top1 == pytest.approx(row["test_accuracy"], abs=1e-6)
        assert found.loss == pytest.approx(row["test_loss"], rel=1e-4)
    last = keras.saving.load_model(tmp_path / "e2.keras")
    for value, expected in zip(last.weights, run.model.weights, strict=True):
        np.testing.assert_array_equal(value.numpy(), expected.numpy())
    assert (tmp_path / "b.keras").is_file()


def test_an_average_within_an_average():
    model = base()
    ema = EMA(0.5)
    ema.set_model(model)
    ema.on_train_batch_end(0)
    trained = [v.numpy() for v in model.weights]
    ema.swap_in()
    model.weights[0].assign(model.weights[0] + 1)
    held = model.weights[0].numpy()
    with ema.averaged():
        pass
    np.testing.assert_array_equal(model.weights[0].numpy(), held)
    ema.swap_out()
    np.testing.assert_array_equal(model.weights[0].numpy(), trained[0])


@pytest.mark.parametrize("run", [lambda c: finetuned(c, epochs=3), None], ids=["finetune", "train"])
def test_the_best_weights_come_back(run, tmp_path):
    """The model ends with the weights of its best epoch, not of its last."""
    seen = []
    note = At("on_epoch_end", lambda model: seen.append([v.numpy() for v in model.weights]))
    # More loss is better here: the first epoch is the best one.
    stop = keras.callbacks.EarlyStopping("val_loss", mode="max", patience=1, restore_best_weights=True)
    if run:
        model = run([note, stop])
    else:
        settings = SETTINGS | {"epochs": 3}
        model = kr.train(settings=settings, callbacks=[note, stop], out=tmp_path / "run").model
    best = stop.best_epoch
    assert len(seen) <= 3
    for value, expected in zip(model.weights, seen[best], strict=True):
        np.testing.assert_array_equal(value.numpy(), expected)


@pytest.mark.parametrize("function", [kr.train, finetuned])
def test_nan_ends_both_with_an_error(function, tmp_path):
    def spoil(model):
        model.trainable_variables[-1].assign(model.trainable_variables[-1] * np.nan)

    callbacks = [At("on_train_batch_begin", spoil), keras.callbacks.TerminateOnNaN()]
    options = {"settings": SETTINGS, "out": tmp_path / "run"} if function is kr.train else {}
    with pytest.raises(FloatingPointError):
        function(callbacks=callbacks, **options)


@pytest.mark.parametrize(
    "train, validation, message",
    [
        ((True, None), (True, None), "the validation dataset has no end; make it with training=False"),
        ((True, None), (False, -1), "the validation dataset has no end"),
        ((False, None), (False, None), "training dataset has 3 batches, and 6 steps need one each"),
        ((True, 5), (False, None), "training dataset has 5 batches, and 6 steps need one each"),
    ],
)
def test_data_that_end_too_early_or_never(train, validation, message):
    def make(training, batches):
        dataset = kr.make_dataset(data(), "train", training=training, batch_size=16)
        if batches is None:
            return dataset
        part = dataset.take(batches) if batches > 0 else dataset.repeat()
        for name in ("class_names", "num_examples", "steps_per_epoch", "crop_fraction"):
            setattr(part, name, getattr(dataset, name))
        return part

    seen = []
    count = At("on_train_batch_begin", lambda model: seen.append(1))
    with pytest.raises(kr.DataError, match=message):
        kr.finetune(base(), make(*train), make(*validation), epochs=2, callbacks=[count])
    assert seen == []


@pytest.mark.parametrize(
    "epochs, every, down_to", [(3, 1, "stem"), (6, 2, "stem"), (2, 1, "stage1"), (1, 1, "stage2")]
)
def test_each_part_has_an_epoch_to_join_in(epochs, every, down_to):
    with pytest.raises(ValueError, match=f"'{down_to}' would join after epoch .* of epochs={epochs}"):
        finetuned([], epochs=epochs, unfreeze_every=every, down_to=down_to)


def test_an_average_that_was_never_updated_is_not_evaluated(tmp_path):
    settings = SETTINGS | {"ema": 0.9, "ema_every": 100}
    run = kr.train(settings=settings, out=tmp_path / "run")
    names = ("model.keras", "model_as_trained.keras")
    average, trained = (keras.saving.load_model(tmp_path / "run" / name) for name in names)
    for value, expected in zip(average.weights, trained.weights, strict=True):
        np.testing.assert_array_equal(value.numpy(), expected.numpy())
    assert run.history[-1]["test_loss"] == pytest.approx(run.evaluation.loss, rel=1e-4)


def test_functions_of_the_training_have_names_in_files():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", softmax_cross_entropy, metrics=[Accuracy()])
    other = keras.Sequential.from_config(model.get_config())
    other.compile_from_config(json.loads(json.dumps(model.get_compile_config())))
    x, y = np.eye(2, dtype="float32"), np.array([0, 2])
    other.set_weights(model.get_weights())
    assert other.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))


def test_files_from_several_devices_are_for_one(tmp_path):
    network = base()
    synchronize(network, True)
    logits = keras.Model(network.input, network.get_layer("head").output)
    save_as(logits, network)
    logits.save(tmp_path / "m.keras")

    def flags(model):
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        return {layer.synchronized for layer in norms}

    assert flags(keras.saving.load_model(tmp_path / "m.keras")) == {False}
    assert flags(network) == {True}
    save_as(logits, network, writes=False)
    logits.save(tmp_path / "other.keras")
    assert not (tmp_path / "other.keras").exists()
