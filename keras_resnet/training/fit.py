"""`train`: from a variant, data and a recipe to a run folder, by `keras.Model.fit`."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_resnet.data.errors import clear_errors
from keras_resnet.inference.artifacts import open_model
from keras_resnet.inference.evaluate import Evaluation
from keras_resnet.report.examine import examine
from keras_resnet.report.plots import plot_confusion_matrix, plot_curves
from keras_resnet.report.write import report_run
from keras_resnet.training import runs
from keras_resnet.training.checkpoint import Checkpoint
from keras_resnet.training.compile import build_network, compile_logits
from keras_resnet.training.datasets import HELD_OUT_BATCH, held_out_dataset, phases, training_dataset
from keras_resnet.training.ema import EMA
from keras_resnet.training.guards import checked_fit
from keras_resnet.training.recipe import Recipe, describe
from keras_resnet.training.recipes import choose_recipe, find_recipe
from keras_resnet.training.replicas import share_batches
from keras_resnet.training.states import can_remember
from keras_resnet.training.strategies import open_strategy, place, scale_recipe, synchronize
from keras_resnet.training.tensorboard import check_tensorboard, curves_writer
from keras_resnet.training.workers import WorkerCheckpoint, distributed, lost_workers


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its model (pixels in, probabilities out) and its figures."""

    folder: Path
    model: keras.Model
    history: list[dict]
    evaluation: Evaluation


def train(
    model: str | None = None,
    data=None,
    recipe: str | Recipe | None = None,
    *,
    image_size: int | None = None,
    seed: int = 0,
    out=None,
    data_dir=None,
    download: bool = True,
    settings: dict | None = None,
    resume: bool = False,
    save_every: int | None = None,
    save_minutes: float | None = 10.0,
    strategy: str | None = None,
    tensorboard: bool = False,
    callbacks=(),
) -> Run | None:
    """Train a variant and write a run folder.

    Args:
        model: Name of a variant; by default the recipe's, or "resnet20_cifar".
        data: Anything that `make_dataset` takes and that has a training and a held-out split;
            by default the recipe's, or "digits".
        recipe: Name of a recipe, a YAML file of its fields, a `Recipe`, or ``None`` for the one
            that fits the data.
        image_size: Side of all images in pixels, instead of what the recipe says.
        seed: Decides initial weights, order, augmentation and dropout.
        out: The run folder, which must not exist or be empty; by default a new one in "runs".
        data_dir: Folder of the prepared datasets of tensorflow-datasets.
        download: Prepare a dataset of tensorflow-datasets that is not there yet.
        settings: Fields of the recipe to replace.
        resume: Go on with the run in `out`; what config.yaml holds must be as it was.
        save_every: Steps between snapshots, besides that after each epoch; see `Checkpoint`.
        save_minutes: Likewise, by the clock.
        strategy: ``"mirrored"``: on all GPUs of this machine, with steps as many times as large;
            ``"multiworker"``: on those of all workers that ``TF_CONFIG`` names. Every worker makes
            the same call; the first one alone writes the run folder, which all must see in order
            to resume. There, `save_minutes` has no effect. See `keras_resnet.training.strategies`.
        tensorboard: Also write curves for TensorBoard into the folder "tensorboard" of the run.
        callbacks: Further ones for `fit`. Snapshots hold the state of those that `Checkpoint` can
            save; give as many of them, in the same order, when the run goes on. Others begin anew then.

    Returns:
        The run; on the other workers ``None``. Its folder holds config.yaml, env.json,
        classes.txt, history.csv, snapshots, model.keras, report.html, curves.png and
        confusion_matrix.png. Where the recipe averages the weights, model.keras holds the average
        and model_as_trained.keras the last weights.

    Raises:
        ValueError: an unknown variant, recipe or field.
        DataError: the data cannot be used.
        FileExistsError: `out` holds files.
        ImportError: TensorBoard is wanted and not installed.
        FloatingPointError: the loss became NaN or infinite; the snapshots are finite.
        ConnectionError: another worker has ended.
    """
    if tensorboard:
        check_tensorboard()
    where = {"data_dir": data_dir, "download": download}
    devices = open_strategy(strategy)
    replicas, (worker, workers) = devices.num_replicas_in_sync, place(devices)
    begun, data, held_out = _open(recipe, data, image_size, settings or {}, where)
    recipe = scale_recipe(begun, replicas) if replicas > 1 else begun
    model = model or recipe.model or "resnet20_cifar"
    size, channels = held_out.element_spec[0].shape[2:]
    sizes = phases(recipe)
    dataset = training_dataset(data, recipe, sizes[0][2], seed, **where)
    steps = recipe.steps_per_epoch or dataset.steps_per_epoch
    keras.utils.set_random_seed(seed)
    any_size = {side or dataset.element_spec[0].shape[2] for _, _, side in sizes} != {size}
    with devices.scope():
        network = build_network(model, recipe, size, channels, len(dataset.class_names))
        synchronize(network, replicas > 1)
        logits = compile_logits(network, recipe, steps, any_size=any_size)
        if replicas > 1:
            share_batches(logits)
    config = {
        "model": model, "data": _name(data), "image_size": size, "channels": channels,
        "crop_fraction": held_out.crop_fraction, "interpolation": recipe.interpolation, "seed": seed,
        "recipe": describe(begun),
    } | ({"replicas": replicas} if replicas > 1 else {})  # fmt: skip

    def batches(side, done):
        make = functools.partial(training_dataset, data, recipe, side, seed, done, **where)
        if workers > 1:
            return distributed(devices, make, True)
        return make() if done else dataset

    begun_in = runs.reopen(out, config) if resume else None
    with tempfile.TemporaryDirectory() as own, contextlib.ExitStack() as after:
        # Workers but the first leave nothing behind.
        folder = Path(own) if worker else begun_in or runs.create(out, config, dataset.class_names)
        if not worker:
            print(
                f"{model}, {network.count_params():,} parameters, on {runs.device()}, "
                f"jit_compile={logits.jit_compile}: {folder}",
                flush=True,
            )
        log = EpochLog(folder / "history.csv", steps * recipe.batch_size, recipe.epochs, quiet=worker > 0)
        ema = EMA(recipe.ema, recipe.ema_every) if recipe.ema else None
        ours = [ema, log] if ema else [log]
        others = [*callbacks, curves_writer(folder)] if tensorboard and not worker else [*callbacks]
        remembered = [*ours, *filter(can_remember, others)]
        snapshots = (begun_in or folder) / "snapshots"
        tests, some = held_out, None
        if workers > 1:
            # As many on every worker, whatever its part; what is not there counts nothing.
            some = -(-held_out.num_examples // (HELD_OUT_BATCH * replicas))
            tests = distributed(devices, functools.partial(held_out_dataset, data, begun, **where), False)
            checkpoint = WorkerCheckpoint(devices, snapshots, remembered, every=save_every, config=config)
            after.enter_context(lost_workers())
        else:
            checkpoint = Checkpoint(
                snapshots, remembered, every=save_every, minutes=save_minutes, config=config
            )
        after.enter_context(checkpoint)
        after.enter_context(clear_errors())
        start = checkpoint.restore(logits)
        if not worker:
            after.push(functools.partial(_keep, network, folder, ema))
        after.callback(synchronize, network, False)
        _fit(
            logits, sizes, steps, start, batches, validation_data=tests, validation_steps=some,
            callbacks=[*ours, *others, checkpoint], verbose=int(sys.stdout.isatty() and not worker),
        )  # fmt: skip
    if worker:
        return None
    if replicas > 1:
        # Keras's `predict_on_batch` gives whole batches to every device, and all their answers.
        network = open_model(folder).model
    return _report(network, held_out, folder, log.history, dataset.class_names)


def _fit(logits, sizes, steps, start, batches, **options):
    """`fit` for each of the `sizes` from `start` on; `batches` takes the size and the steps done before."""
    for first, end, side in sizes:
        if end <= start.epoch and end < sizes[-1][1]:
            continue
        first = max(first, start.epoch)
        done = max(first * steps, start.step)
        dataset = batches(side, done)
        if done:
            logits.make_train_function(force=True)  # one graph for each size
        checked_fit(logits, dataset, steps_per_epoch=steps, initial_epoch=first, epochs=end, **options)
        if logits.stop_training:
            break


class EpochLog(keras.callbacks.Callback):
    """A row of history.csv for each epoch, and a printed line where there is no terminal."""

    def __init__(self, path, images_per_epoch: int, epochs: int, *, quiet: bool = False):
        super().__init__()
        self.history: list[dict] = []
        self._quiet = quiet or sys.stdout.isatty()
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
        runs.write_history(self.history, self._path)
        if not self._quiet:
            line = (
                "epoch {epoch}/{epochs}  loss {loss:.4f}  train {train_accuracy:.4f}"
                "  test {test_accuracy:.4f}  {seconds:.1f} s  {images_per_second:.0f} img/s"
            )
            print(line.format(epochs=self._epochs, **row), flush=True)

    def get_state(self) -> dict:
        """The rows, and the seconds of this epoch so far."""
        seconds = self._seconds or time.perf_counter() - self._start
        return {"history": self.history, "seconds": seconds}

    def set_state(self, state: dict):
        """Go on from these rows; later ones leave the file."""
        self.history, self._seconds = list(state["history"]), None
        self._start = time.perf_counter() - state["seconds"]
        runs.write_history(self.history, self._path)


def _name(data):
    """What config.yaml calls the data: arrays have no name."""
    return os.fspath(data) if isinstance(data, str | os.PathLike) else "arrays"


def _open(recipe, data, image_size, settings, where):
    """The recipe with its settings, the data, and what is held out of them."""
    if image_size:
        settings = {"test_image_size": None, "image_sizes": (), **settings, "image_size": image_size}
    # Those that are chosen by the data's size treat held-out images alike.
    found = find_recipe("small" if recipe is None else recipe, settings)
    data = data if data is not None else found.data or "digits"
    held_out = held_out_dataset(data, found, **where)
    if recipe is None:
        found = find_recipe(choose_recipe(data, held_out.element_spec[0].shape[2]), settings)
    return found, data, held_out


def _report(network, held_out, folder, history, class_names):
    findings = examine(network, held_out)
    evaluation = findings.evaluation
    plot_curves(history, folder / "curves.png")
    plot_confusion_matrix(evaluation.confusion, class_names, folder / "confusion_matrix.png")
    report_run(folder, network, findings)
    print(f"held-out images: {evaluation}", flush=True)
    return Run(folder, network, history, evaluation)


def _keep(network, folder, ema, kind, error, trace):
    """Whatever stops the training, the weights of that moment are kept, unless they are NaN.

    With an average, the model keeps that, and both sets are written.
    """
    if kind is None or not issubclass(kind, FloatingPointError):
        if ema:
            ema.swap_out()
            runs.save_model(network, folder, "model_as_trained")
            ema.swap_in()
        runs.save_model(network, folder)
    if kind is not None and issubclass(kind, KeyboardInterrupt | SystemExit):
        print(f"stopped; go on with: keras-resnet train --resume {folder}", flush=True)
