"""`train`: from a variant, data and a recipe to a run folder, by `keras.Model.fit`."""

from __future__ import annotations

import contextlib
import csv
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_resnet.builders import build_model
from keras_resnet.data.errors import clear_errors
from keras_resnet.data.pipeline import make_dataset
from keras_resnet.graphs import functional_model
from keras_resnet.inference.artifacts import IMAGENET_MEAN, IMAGENET_STD
from keras_resnet.inference.evaluate import Evaluation, evaluate
from keras_resnet.kernels import accelerate
from keras_resnet.report.plots import plot_confusion_matrix, plot_curves
from keras_resnet.training import runs
from keras_resnet.training.recipes import RECIPES, Recipe, choose_recipe, describe, override

# On the scale of 0 to 1. Three channels get ImageNet's, other numbers are centred.
CENTRED = (0.5, 0.25)


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its model (pixels in, probabilities out) and its figures."""

    folder: Path
    model: keras.Model
    history: list[dict]
    evaluation: Evaluation


def train(
    model: str = "resnet20_cifar",
    data="digits",
    recipe: str | Recipe | None = None,
    *,
    image_size: int | None = None,
    seed: int = 0,
    out=None,
    data_dir=None,
    download: bool = True,
    settings: dict | None = None,
) -> Run:
    """Train a variant and write a run folder.

    Args:
        model: Name of a variant.
        data: Anything that `make_dataset` takes and that has a training and a held-out split.
        recipe: Name of a recipe, a `Recipe`, or ``None`` for the one that fits the data.
        image_size: Side of the images in pixels; see `make_dataset`.
        seed: Decides initial weights, order, augmentation and dropout.
        out: The run folder, which must not exist or be empty; by default a new one in "runs".
        data_dir: Folder of the prepared datasets of tensorflow-datasets.
        download: Prepare a dataset of tensorflow-datasets that is not there yet.
        settings: Fields of the recipe to replace.

    Returns:
        The run. Its folder holds config.yaml, env.json, classes.txt, history.csv,
        model.keras, curves.png and confusion_matrix.png.

    Raises:
        ValueError: an unknown variant, recipe or field.
        DataError: the data cannot be used.
        FileExistsError: `out` holds files.
    """
    held_out = make_dataset(
        data,
        "held_out",
        image_size=image_size,
        batch_size=256,
        training=False,
        data_dir=data_dir,
        download=download,
    )
    size, channels = held_out.element_spec[0].shape[2:]
    recipe = _resolve(recipe, data, size, settings or {})
    dataset = make_dataset(
        data, "train", image_size=image_size, batch_size=recipe.batch_size, seed=seed, crop=recipe.crop,
        crop_padding=recipe.crop_padding, flip=recipe.flip, data_dir=data_dir, download=download,
    )  # fmt: skip
    keras.utils.set_random_seed(seed)
    with _dtype_policy(recipe.precision):
        network = build_model(
            model, input_shape=(size, size, channels), num_classes=len(dataset.class_names),
            dropout=recipe.dropout, drop_path=recipe.drop_path,
            normalization=(IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else CENTRED,
        )  # fmt: skip
        logits = _compiled(accelerate(network), recipe, dataset.steps_per_epoch)
    config = {
        "model": model, "data": _name(data), "image_size": size, "channels": channels,
        "crop_fraction": held_out.crop_fraction, "seed": seed, "recipe": describe(recipe),
    }  # fmt: skip
    folder = runs.create(out, config, dataset.class_names)
    print(f"{model}, {network.count_params():,} parameters, on {runs.device()}: {folder}", flush=True)
    log = EpochLog(folder / "history.csv", dataset.steps_per_epoch * recipe.batch_size, recipe.epochs)
    with clear_errors(), contextlib.ExitStack() as after:
        # Whatever stops the training, the weights of that moment are kept.
        after.callback(runs.save_model, network, folder)
        logits.fit(
            dataset, epochs=recipe.epochs, steps_per_epoch=dataset.steps_per_epoch,
            validation_data=held_out, callbacks=[log], shuffle=False, verbose=int(sys.stdout.isatty()),
        )  # fmt: skip
    evaluation = evaluate(network, held_out)
    plot_curves(log.history, folder / "curves.png")
    plot_confusion_matrix(evaluation.confusion, dataset.class_names, folder / "confusion_matrix.png")
    print(f"held-out images: {evaluation}", flush=True)
    return Run(folder, network, log.history, evaluation)


class EpochLog(keras.callbacks.Callback):
    """A row of history.csv for each epoch, and a printed line where there is no terminal."""

    def __init__(self, path, images_per_epoch: int, epochs: int):
        super().__init__()
        self.history: list[dict] = []
        self._path, self._images, self._epochs = path, images_per_epoch, epochs

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self._start, self._seconds = time.perf_counter(), None

    def on_test_begin(self, logs=None):
        """Stop the clock: the held-out images are not training."""
        self._seconds = time.perf_counter() - self._start

    def on_epoch_end(self, epoch, logs=None):
        """Write the row."""
        row = {
            "epoch": epoch + 1,
            "loss": logs["loss"],
            "train_accuracy": logs["accuracy"],
            "test_loss": logs["val_loss"],
            "test_accuracy": logs["val_accuracy"],
            "learning_rate": float(self.model.optimizer.learning_rate),
            "seconds": self._seconds,
            "images_per_second": self._images / self._seconds,
        }
        self.history.append(row)
        with open(self._path, "a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if epoch == 0:
                writer.writeheader()
            writer.writerow({key: f"{value:.6g}" for key, value in row.items()})
        if not sys.stdout.isatty():
            line = (
                "epoch {epoch}/{epochs}  loss {loss:.4f}  train {train_accuracy:.4f}"
                "  test {test_accuracy:.4f}  {seconds:.1f} s  {images_per_second:.0f} img/s"
            )
            print(line.format(epochs=self._epochs, **row), flush=True)


def _name(data):
    """What config.yaml calls the data: arrays have no name."""
    return os.fspath(data) if isinstance(data, str | os.PathLike) else "arrays"


def _resolve(recipe, data, image_size, settings):
    if recipe is None:
        recipe = choose_recipe(data, image_size)
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"there is no recipe {recipe!r}; choose one of {', '.join(RECIPES)}.")
        recipe = RECIPES[recipe]
    return override(recipe, settings)


def _compiled(network, recipe, steps_per_epoch):
    """The network up to its logits, where the cross-entropy is exact, ready for `fit`."""
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else recipe.learning_rate, recipe.epochs * steps_per_epoch - warmup,
        warmup_target=recipe.learning_rate if warmup else None, warmup_steps=warmup,
    )  # fmt: skip
    optimizer = keras.optimizers.SGD(
        schedule, momentum=recipe.momentum, nesterov=recipe.momentum > 0, weight_decay=recipe.weight_decay
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    logits = functional_model(network.input, network.get_layer("head").output)
    logits.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    return logits


@contextlib.contextmanager
def _dtype_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
