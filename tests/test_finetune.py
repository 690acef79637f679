"""A trained network on other classes."""

import json
import time

import keras
import numpy as np
import pytest
import yaml

from keras_resnet import DataError, build_resnet, evaluate, finetune, make_dataset, open_model, train
from keras_resnet.cli import main
from keras_resnet.inference.artifacts import from_weights
from keras_resnet.training.finetune import LayerwiseSGD
from keras_resnet.training.new_head import with_new_head
from keras_resnet.training.optimizers import BIASES_AND_NORMS

PARTS = ["stem", "stage1", "stage2", "head"]


def network(**options):
    keras.utils.set_random_seed(0)
    options = dict(input_shape=(8, 8, 3), normalization=(0.5, 0.25)) | options
    return build_resnet(
        stages=((1, 8), (1, 16)), block="basic", stem="conv3", stem_pool=None, stem_filters=8,
        num_classes=4, zero_init_last=False, **options,
    )  # fmt: skip


def digits(count, **options):
    images, labels = next(iter(make_dataset("digits", "train", batch_size=count).as_numpy_iterator()))
    return make_dataset((images, labels), "train", batch_size=32, **options)


@pytest.fixture(scope="module")
def datasets():
    return digits(256), digits(128, training=False)


class Recorder(keras.callbacks.Callback):
    """What each epoch changes, and the loss after it."""

    def __init__(self):
        super().__init__()
        self.changed, self.losses = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self._before = {v.path: v.numpy() for v in self.model.variables}

    def on_epoch_end(self, epoch, logs=None):
        self.after = after = {v.path: v.numpy() for v in self.model.variables}
        self.changed.append({p for p, v in after.items() if not np.array_equal(v, self._before[p])})
        self.losses.append(logs.get("val_loss"))


@pytest.fixture(scope="module")
def tuned(datasets):
    source, recorder = network(), Recorder()
    before = source.get_weights()
    model = finetune(
        source, *datasets, epochs=5, unfreeze_every=1, norms=False, patience=5, learning_rate=0.4,
        callbacks=[recorder],
    )  # fmt: skip
    assert all(np.array_equal(a, b) for a, b in zip(source.get_weights(), before, strict=True))
    return model, recorder


def test_parts_join_from_the_head_down(tuned):
    joined = [{path.split("/")[0].split("_")[0] for path in paths} for paths in tuned[1].changed]
    assert joined == [set(PARTS[start:]) for start in (3, 2, 1, 0, 0)]


def test_all_is_trained_and_the_last_weights_stay(datasets):
    recorder = Recorder()
    model = finetune(network(), datasets[0], epochs=1, callbacks=[recorder])
    assert recorder.changed == [{v.path for v in model.variables if v.trainable or "moving" in v.path}]
    assert all(np.array_equal(v.numpy(), recorder.after[v.path]) for v in model.variables)


def test_normalisations_stay(tuned, datasets):
    model, recorder = tuned
    at_once = Recorder()
    finetune(network(), datasets[0], epochs=1, norms=False, callbacks=[at_once])
    assert {path.split("_")[0].split("/")[0] for path in at_once.changed[0]} == set(PARTS)
    assert not any("_bn" in path for paths in recorder.changed + at_once.changed for path in paths)
    # Estimated on the new images before that: a loaded or new network has zero and one.
    assert np.abs(model.get_layer("stem_bn").moving_mean).max() > 0


def test_the_best_weights_are_restored(tuned, datasets):
    model, recorder = tuned
    assert evaluate(model, datasets[1]).loss == pytest.approx(min(recorder.losses), rel=1e-4)
    assert min(recorder.losses) < recorder.losses[-1]


def test_grey_images_are_given_to_all_channels(tuned, rng):
    source = network()
    copy = with_new_head(source, 7, (12, 12, 1))
    images = rng.integers(0, 256, (2, 12, 12, 1), np.uint8)
    features = [
        keras.Model(m.input, m.get_layer("head").input)
        for m in (copy, build_like(source, input_shape=(12, 12, 3)))
    ]
    np.testing.assert_allclose(features[0](images), features[1](images.repeat(3, axis=-1)), atol=1e-5)
    assert (tuned[0].input_shape, tuned[0].output_shape) == ((None, 8, 8, 1), (None, 10))


def build_like(source, **options):
    model = network(**options)
    model.set_weights(source.get_weights())
    return model


def test_a_network_without_a_head():
    model = with_new_head(network(include_top=False), 3, (8, 8, 3))
    assert model.output_shape == (None, 3)


def test_rates_fall_and_biases_are_not_decayed():
    model = network()
    optimizer = LayerwiseSGD(0.1, weight_decay=0.5, layer_decay=0.5, stages=2)
    optimizer = LayerwiseSGD.from_config(json.loads(json.dumps(optimizer.get_config())))
    optimizer.exclude_from_weight_decay(var_names=BIASES_AND_NORMS)
    variables = model.trainable_variables
    before = {v.path: v.numpy() for v in variables}
    optimizer.apply([keras.ops.ones(v.shape) for v in variables], variables)
    for v in variables:
        rate = 0.1 * 0.5 ** PARTS[::-1].index(v.path.split("_")[0].split("/")[0])
        decay = 0.5 * before[v.path] if v.name == "kernel" else 0.0
        np.testing.assert_allclose(v, before[v.path] - rate * (1 + decay), rtol=1e-5, atol=1e-7)


@pytest.fixture
def saved(tmp_path):
    network(input_shape=(8, 8, 1)).save(tmp_path / "model.keras")
    return str(tmp_path / "model.keras")


def test_a_loss_that_is_not_finite(saved, tmp_path, capsys):
    arguments = ["--data", "digits", "--learning-rate", "1e30", "--out", str(tmp_path / "run")]
    assert main(["finetune", saved, *arguments]) == 3
    assert "the loss is not finite after batch" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model.keras").exists()


def test_command(saved, tmp_path):
    run = tmp_path / "run"
    arguments = ["--data", "digits", "--epochs", "1", "--down-to", "head", "--batch-size", "256"]
    assert main(["finetune", saved, *arguments, "--out", str(run)]) == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["finetune"] == {"epochs": 1, "down_to": "head"}
    assert open_model(run).class_names == tuple("0123456789")
    assert len((run / "history.csv").read_text().splitlines()) == 2
    assert (run / "report.html").is_file()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"epochs": 0}, "epochs=0"),
        ({"patience": 0}, "patience=0"),
        ({"layer_decay": 1.5}, r"layer_decay=1.5 must be a finite number in \(0, 1\]"),
        ({"down_to": "stage9"}, "no part 'stage9'; did you mean 'stage2'"),
    ],
)
def test_options_that_cannot_be(options, message, datasets):
    with pytest.raises(ValueError, match=message):
        finetune(network(), *datasets, **options)


def test_patience_needs_a_validation_dataset(datasets):
    with pytest.raises(ValueError, match="needs a validation dataset"):
        finetune(network(), datasets[0], patience=3)


def test_data_that_do_not_fit(datasets, rng):
    with pytest.raises(ValueError, match="does not normalise its input"):
        finetune(network(normalization=None), *datasets)
    with pytest.raises(DataError, match="the same class_names"):
        finetune(
            network(), datasets[0], make_dataset("digits", "all", training=False).map(lambda x, y: (x, y))
        )
    with pytest.raises(DataError, match="the images have 1 channels; .* takes 4"):
        finetune(network(input_shape=(8, 8, 4)), *datasets)


@pytest.mark.slow
def test_a_thousand_images_of_other_classes(shared, tmp_path):
    """From CIFAR-10 to Fashion-MNIST, and from scratch: three seeds, each with its own images."""
    where = {"data_dir": shared / "data" / "tfds", "download": False}
    source = from_weights("resnet20_cifar", str(shared / "weights" / "akamaster-resnet20-12fca82f.th")).model
    figures = []
    for seed in range(3):
        images = {"split": f"train[{1000 * seed}:{1000 * seed + 1000}]", "image_size": 32, **where}
        begun = time.monotonic()
        train_set = make_dataset(
            "fashion_mnist", training=True, batch_size=32, seed=seed, crop="pad", flip=True, **images
        )
        keras.utils.set_random_seed(seed)
        tuned = finetune(source, train_set)
        between = time.monotonic()
        # The same images and augmentation, for 60 epochs instead of 30; a lower rate was worse.
        dataset = make_dataset("fashion_mnist", training=False, **images)
        pixels, labels = (np.concatenate(part) for part in zip(*dataset.as_numpy_iterator(), strict=True))
        scratch = train(
            "resnet20_cifar", ((pixels, labels), (pixels[:10], labels[:10])), "small", seed=seed,
            out=tmp_path / str(seed), settings={"batch_size": 32},
        ).model  # fmt: skip
        seconds = between - begun, time.monotonic() - between
        figures.append([evaluate(m, "fashion_mnist", "test", **where).top1 for m in (tuned, scratch)])
        print(f"seed {seed}: fine-tuned, from scratch {figures[-1]} in {seconds} s", flush=True)
    tuned, scratch = np.transpose(figures)
    assert tuned.mean() - scratch.mean() > max(np.ptp(tuned), np.ptp(scratch))
