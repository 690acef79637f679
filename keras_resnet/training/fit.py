"""`train`: from a variant, data and a recipe to a run folder, by `keras.Model.fit`."""

from __future__ import annotations

import contextlib
import functools
import sys
import tempfile
from pathlib import Path

import keras

from keras_resnet import arguments
from keras_resnet.data.errors import clear_errors
from keras_resnet.inference.artifacts import open_model
from keras_resnet.metadata import attach_metadata
from keras_resnet.printing import show
from keras_resnet.report.examine import examine
from keras_resnet.report.plots import draw_run
from keras_resnet.report.write import report_run
from keras_resnet.training import runs
from keras_resnet.training.callbacks import check_callbacks, save_as
from keras_resnet.training.checkpoint import Checkpoint
from keras_resnet.training.compile import build_network, compile_logits
from keras_resnet.training.datasets import held_out_crop, held_out_dataset
from keras_resnet.training.ema import EMA
from keras_resnet.training.feed import Feed
from keras_resnet.training.guards import checked_fit
from keras_resnet.training.recipe import Recipe, describe
from keras_resnet.training.recipes import choose_recipe, find_recipe
from keras_resnet.training.replicas import share_batches
from keras_resnet.training.resume import reopen
from keras_resnet.training.schedules import tell
from keras_resnet.training.states import can_remember
from keras_resnet.training.strategies import open_strategy, place, synchronize
from keras_resnet.training.tensorboard import check_tensorboard, curves_writer
from keras_resnet.training.workers import WorkerCheckpoint, lost_workers
from keras_resnet.transform import Geometry
from keras_resnet.variants import VARIANTS


def train(
    model: str | None = None,
    data=None,
    recipe: str | Recipe | None = None,
    *,
    image_size: int | None = None,
    seed: int = 0,
    out=None,
    layout: str | None = None,
    data_dir=None,
    download: bool = True,
    settings: dict | None = None,
    resume: bool = False,
    save_every: int | None = None,
    save_minutes: float | None = 10.0,
    strategy: str | None = None,
    tensorboard: bool = False,
    callbacks=(),
) -> runs.Run | None:
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
        layout: "splits" or "classes": what the folders in a folder of images are; see `make_dataset`.
        data_dir: Folder of the prepared datasets of tensorflow-datasets.
        download: Prepare a dataset of tensorflow-datasets that is not there yet.
        settings: Fields of the recipe to replace.
        resume: Resume the run in `out`. What config.yaml holds must be as it was, and so must the data: the
            names of the classes, and the names and sizes of the files (of arrays, the contents).
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
    seed = arguments.seed("seed", seed)
    image_size = None if image_size is None else arguments.side("image_size", image_size)
    model = None if model is None else arguments.known("model", model, VARIANTS)
    devices = open_strategy(strategy)
    where = {"data_dir": data_dir, "download": download, "layout": layout}
    many, (worker, workers) = devices.num_replicas_in_sync > 1, place(devices)
    recipe, data, held_out = _open(recipe, data, image_size, settings or {}, where)
    callbacks = check_callbacks(callbacks, "train", averages=bool(recipe.ema))
    feed = Feed(data, recipe, held_out, devices, seed, **where)
    model = model or recipe.model or "resnet20_cifar"
    keras.utils.set_random_seed(seed)
    network, logits = _compile(model, feed, devices)
    geometry = Geometry(crop_fraction=held_out.crop_fraction, interpolation=recipe.interpolation)
    attach_metadata(network, class_names=feed.class_names, geometry=geometry)
    config = {
        "model": model, "data": runs.name_of(data), "image_size": feed.image_size, "channels": feed.channels,
        "crop_fraction": held_out.crop_fraction, "interpolation": recipe.interpolation, "seed": seed,
        "data_digest": feed.digests, "recipe": describe(recipe),
    } | ({"layout": layout} if layout else {})  # fmt: skip
    config |= {"replicas": devices.num_replicas_in_sync} if many else {}
    begun = reopen(out, config, feed.class_names) if resume else None
    with tempfile.TemporaryDirectory() as own, contextlib.ExitStack() as after:
        # Workers but the first leave nothing behind.
        folder = Path(own) if worker else begun or runs.create(out, config, feed.class_names)
        if not worker:
            parameters = f"{network.count_params():,} parameters"
            compiled = f"jit_compile={logits.jit_compile}"
            print(f"{model}, {parameters}, on {runs.device()}, {compiled}: {show(folder)}", flush=True)
            print(tell(feed.recipe), flush=True)
        images = feed.steps * feed.recipe.batch_size
        log = runs.EpochLog(folder / "history.csv", images, recipe.epochs, quiet=worker > 0)
        ema = EMA(recipe.ema, recipe.ema_every) if recipe.ema else None
        save_as(logits, network, ema=ema, writes=not worker)
        ours = [ema, log] if ema else [log]
        others = [*callbacks, curves_writer(folder)] if tensorboard and not worker else [*callbacks]
        remembered = [*ours, *filter(can_remember, others)]
        snapshots, saved = (begun or folder) / "snapshots", {"every": save_every, "config": config}
        if workers > 1:
            checkpoint = WorkerCheckpoint(devices, snapshots, remembered, **saved)
            after.enter_context(lost_workers())
        else:
            checkpoint = Checkpoint(snapshots, remembered, minutes=save_minutes, **saved)
        after.enter_context(checkpoint)
        after.enter_context(clear_errors())
        start = checkpoint.restore(logits)
        if not worker:
            after.push(functools.partial(_keep, network, folder, ema))
        after.callback(synchronize, network, False)
        _fit(logits, feed, start, [*ours, *others, checkpoint], show=sys.stdout.isatty() and not worker)
    if worker:
        return None
    # Keras's `predict_on_batch` gives whole batches to every device, and all their answers.
    network = open_model(folder).model if many else network
    return _report(network, held_out, folder, log.history, feed.class_names)


def _compile(model, feed, devices):
    """The network, and the same up to its logits, ready for `fit`."""
    many = devices.num_replicas_in_sync > 1
    with devices.scope():
        classes = len(feed.class_names)
        network = build_network(model, feed.recipe, feed.image_size, feed.channels, classes)
        synchronize(network, many)
        logits = compile_logits(network, feed.recipe, feed.steps, any_size=feed.any_size)
        if many:
            share_batches(logits)
    return network, logits


def _fit(logits, feed, start, callbacks, show):
    """`fit` for each size of the images, from `start` on."""
    tests, some = feed.tests()
    for first, end, side in feed.phases:
        if end <= start.epoch and end < feed.phases[-1][1]:
            continue
        first = max(first, start.epoch)
        done = max(first * feed.steps, start.step)
        dataset = feed.batches(side, done)
        if done:
            logits.make_train_function(force=True)  # one graph for each size
        checked_fit(
            logits, dataset, steps_per_epoch=feed.steps, initial_epoch=first, epochs=end,
            validation_data=tests, validation_steps=some, callbacks=callbacks, verbose=int(show),
        )  # fmt: skip
        if logits.stop_training:
            break


def _open(recipe, data, image_size, settings, where):
    """The recipe with its settings, the data, and what is held out of them."""
    if image_size:
        settings = {"test_image_size": None, "image_sizes": (), **settings, "image_size": image_size}
    found = find_recipe("small" if recipe is None else recipe, settings)
    data = data if data is not None else found.data or "digits"
    held_out = held_out_dataset(data, found, **where)
    if recipe is None:
        first, found = found, find_recipe(choose_recipe(data, held_out.element_spec[0].shape[2]), settings)
        if held_out_crop(found) != held_out_crop(first):
            held_out = held_out_dataset(data, found, **where)
    return found, data, held_out


def _report(network, held_out, folder, history, class_names):
    findings = examine(network, held_out)
    evaluation = findings.evaluation
    draw_run(history, evaluation.confusion, class_names, folder)
    report_run(folder, network, findings)
    print(f"held-out images: {evaluation}", flush=True)
    return runs.Run(folder, network, history, evaluation)


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
        print(f"stopped; go on with: keras-resnet train --resume {show(folder)}", flush=True)
