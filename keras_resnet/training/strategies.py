"""Several devices by `tf.distribute`: the same training as on one, with larger steps.

The devices are those of one machine, or of several workers, which are told of each other by
``TF_CONFIG``. Weights equal those of one device with the same batches within rounding; see
`keras_resnet.training.replicas`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from dataclasses import replace

import keras
import tensorflow as tf

from keras_resnet.training.recipe import Recipe

STRATEGIES = ("mirrored", "multiworker")


def open_strategy(name: str | None) -> tf.distribute.Strategy:
    """The strategy called `name`.

    ``"mirrored"``: a copy of the model on each GPU, or on each logical CPU where there is no GPU.
    ``"multiworker"``: likewise, on every worker that the environment variable ``TF_CONFIG`` names.
    It must be opened before TensorFlow computes anything, and returns when all workers are there.
    With ``None``, the strategy that is in force.

    Raises:
        ValueError: the name is unknown, there is one device only, `keras.distribution` is set, or
            ``TF_CONFIG`` does not say who the workers are.
    """
    if keras.distribution.distribution() is not None:
        raise ValueError(
            "keras.distribution is set: on TensorFlow it raises nothing and leaves the variables on the "
            "first device. Unset it by keras.distribution.set_distribution(None), and use a strategy."
        )
    if name is None:
        return tf.distribute.get_strategy()
    if name not in STRATEGIES:
        raise ValueError(f"strategy={name!r} is unknown; choose one of {STRATEGIES}.")
    if name == "multiworker":
        return _multiworker(os.environ.get("TF_CONFIG", ""))
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise ValueError(f"strategy={name!r} needs two devices; TensorFlow sees {devices[0].name} only.")
    return _mirrored(tuple(device.name for device in devices))


@functools.cache
def _mirrored(devices):
    # One for the process: a second one numbers its collective operations anew, and TensorFlow
    # takes them for those of the first.
    return tf.distribute.MirroredStrategy(devices)


@functools.cache
def _multiworker(config):
    _check_cluster(config)
    return tf.distribute.MultiWorkerMirroredStrategy()


def _check_cluster(config):
    try:
        cluster = json.loads(config)["cluster"]
        task = json.loads(config)["task"]
        workers = cluster[task["type"]]
        whole = set(cluster) <= {"chief", "worker"} and 0 <= int(task["index"]) < len(workers)
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(
            f"TF_CONFIG={config!r} does not name the workers; it must be like "
            '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
            ", with each worker's own index."
        )


def place(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """Number of this worker, of how many; the first one, the chief, writes the files."""
    resolver = strategy.cluster_resolver
    cluster = resolver.cluster_spec().as_dict() if resolver else {}
    if not cluster:
        return 0, 1
    chiefs = len(cluster.get("chief", ()))
    before = 0 if resolver.task_type == "chief" else chiefs
    return before + resolver.task_id, chiefs + len(cluster.get("worker", ()))


def agree(strategy: tf.distribute.Strategy, number: int) -> None:
    """Wait for all workers, and raise unless all give the same number.

    Raises:
        ValueError: they do not.
    """
    if place(strategy)[1] == 1:
        return

    def one_of_all():
        return tf.distribute.get_replica_context().all_gather(tf.constant([number], tf.int64), axis=0)

    gathered = tf.function(lambda: strategy.run(one_of_all))()
    numbers = strategy.experimental_local_results(gathered)[0].numpy().tolist()
    if len(set(numbers)) > 1:
        raise ValueError(f"the workers go on from different steps, {numbers}; they need the same run folder.")


def scale_recipe(recipe: Recipe, replicas: int) -> Recipe:
    """The recipe for steps of as many batches: its batch size is that of one device.

    The rate grows with the batch for SGD (arXiv:1706.02677, section 2.1) and with its square root
    for LAMB (arXiv:1904.00962, section 4). An epoch of stated length has fewer steps.
    """
    if replicas > 1 and recipe.accumulate > 1:
        raise ValueError(
            f"accumulate={recipe.accumulate}: Keras 3.15 cannot accumulate gradients on several devices; "
            "set accumulate=1 and a larger batch_size."
        )
    growth = replicas if recipe.optimizer == "sgd" else math.sqrt(replicas)
    steps = recipe.steps_per_epoch and max(1, round(recipe.steps_per_epoch / replicas))
    return replace(
        recipe,
        batch_size=recipe.batch_size * replicas,
        learning_rate=recipe.learning_rate * growth,
        steps_per_epoch=steps,
    )


def synchronize(model: keras.Model, on: bool) -> None:
    """Take batch statistics over all devices, or over each; to be called before `accelerate`.

    To be switched off before the model is saved: the file then holds what one device would have.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = on


@contextlib.contextmanager
def one_device(model: keras.Model):
    """A context in which the model is saved as one device would have it; what was traced stays as it is."""
    before = {
        layer: layer.synchronized
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    synchronize(model, False)
    try:
        yield
    finally:
        for layer, synchronized in before.items():
            layer.synchronized = synchronized
