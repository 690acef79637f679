"""What a `fit` may change: whole parts of a network, frozen and unfrozen in any order.

The parts are ``"stem"``, ``"stage1"``, ``"stage2"`` and so on, and ``"head"``, which is whatever
follows the stages. A frozen batch normalization keeps its statistics too: ``trainable=False`` is
the one way that Keras 3.15 and 3.16 both honour. 3.15's `fit` overrides
``base(x, training=False)`` in a Functional model.
"""

from __future__ import annotations

import re

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import arguments
from keras_resnet.nearest import suggest

NORMS = (keras.layers.BatchNormalization, keras.layers.GroupNormalization)


def freeze(model: keras.Model, up_to: str | None = None) -> keras.Model:
    """Let `fit` leave a part and all before it as they are, batch statistics included.

    A compiled model is compiled anew, as Keras would otherwise go on training what it traced:
    with the same loss, metrics and optimizer, whose step count and moments are kept.

    Args:
        model: A model of this package; the one that is compiled.
        up_to: The last part to freeze; by default the last stage.

    Returns:
        The same model. What is not named stays as it was.

    Raises:
        ValueError: the model has no such part, or no stages.
    """
    names = parts(model)
    last = _index(names, names[-2] if up_to is None else up_to)
    return _set_trainable(model, lambda layer, part: layer.trainable and part > last)


def unfreeze(model: keras.Model, down_to: str = "stem", *, norms: bool = True) -> keras.Model:
    """Let `fit` train a part and all after it; what is said of `freeze` holds here too.

    Args:
        model: A model of this package; the one that is compiled.
        down_to: The first part to train.
        norms: Train its normalisations, and their statistics, too; otherwise these are frozen.
    """
    first = _index(parts(model), down_to)

    def trains(layer, part):
        return layer.trainable if part < first else norms or not isinstance(layer, NORMS)

    return _set_trainable(model, trains)


def recalibrate_bn(model: keras.Model, dataset, steps: int) -> keras.Model:
    """Estimate the statistics of every batch normalization anew, frozen or not.

    For weights that meet other images than they were trained on (arXiv:1603.04779), or that were
    averaged (arXiv:1803.05407, section 3.2). The images go through the network as in training,
    so that dropout acts. Each layer gets mean and variance of all its inputs in these batches.
    No weight, no ``trainable`` and no compiled function changes.

    Args:
        model: Any Keras model.
        dataset: Batches ``(images, labels)`` or images.
        steps: How many of them.

    Raises:
        ValueError: the dataset has fewer, or `steps` is below 1.
    """
    steps = arguments.whole("steps", steps)
    layers = list(_batch_norms(model))
    if not layers:
        return model
    before = [(layer.trainable, layer.momentum) for layer in layers]
    kept = [(layer.moving_mean.numpy(), layer.moving_variance.numpy()) for layer in layers]
    for layer in layers:
        layer.trainable, layer.momentum = True, 0.0  # the statistics become those of the batch
    try:
        found = _statistics(model, layers, dataset, steps)
    finally:
        for layer, (trainable, momentum), statistics in zip(layers, before, kept, strict=True):
            layer.trainable, layer.momentum = trainable, momentum
            _assign_statistics(layer, *statistics)
    for layer, statistics in zip(layers, found, strict=True):
        _assign_statistics(layer, *statistics)
    return model


def parts(model: keras.Model) -> list[str]:
    """The names of the parts, from the stem to the head.

    Raises:
        ValueError: the model has no stages, or has models among its layers.
    """
    stages = max((stage_of(layer.name) or 0 for layer in arguments.model("model", model).layers), default=0)
    if stages == 0 or any(isinstance(layer, keras.Model) for layer in model.layers):
        raise ValueError(f"{model.name!r} has no stages as build_resnet makes and names them.")
    return ["stem", *(f"stage{i + 1}" for i in range(stages)), "head"]


def stage_of(layer_name: str) -> int | None:
    """The number of the stage that a layer is in, 0 for the stem, ``None`` for other layers."""
    match = re.match(r"stem_|stage(\d+)_", layer_name)
    return match and int(match[1] or 0)


def _index(names, part):
    if part not in names:
        hint = suggest(part, names, f"its parts are {', '.join(names)}.")
        raise ValueError(f"the model has no part {part!r}; {hint}")
    return names.index(part)


def _set_trainable(model, trains):
    head = len(parts(model)) - 1
    wanted = {}
    for layer in model.layers:
        stage = stage_of(layer.name)
        wanted[layer] = trains(layer, head if stage is None else stage)
    # A flag of the model itself hides those of its layers; setting it sets them all.
    model.trainable = True
    for layer, trainable in wanted.items():
        layer.trainable = trainable
    if model.compiled:
        _recompile(model)
    return model


def _recompile(model):
    # `get_compile_config` would lose functions of the user's that are not registered.
    config = dict(model._compile_config.config)
    model.compile(**config | {"optimizer": _renew(model.optimizer, model.trainable_variables)})


def _renew(optimizer, variables):
    """A copy for these variables, with the state for those that it had already.

    An optimizer only ever takes the variables that it was built with.
    """
    new = type(optimizer).from_config(optimizer.get_config())
    # Not part of a configuration, in Keras 3.15.
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        for source, target in zip(_with_inner(optimizer), _with_inner(new), strict=True):
            if hasattr(source, name):
                setattr(target, name, getattr(source, name))
    new.build(variables)
    state = {variable.path: variable for variable in optimizer.variables}
    for variable in new.variables:
        if variable.path in state:
            variable.assign(state[variable.path])
    return new


def _with_inner(optimizer):
    """The optimizer, and the one that a loss scale wraps."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return [optimizer] if inner is None else [optimizer, inner]


def _batch_norms(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _batch_norms(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            yield layer


def _statistics(model, layers, dataset, steps):
    """Mean and variance of each layer's inputs: those of the batches, by the law of total variance."""
    forward = tf.function(lambda images: model(images, training=True), reduce_retracing=True)
    sums, count, done = [[0.0, 0.0] for _ in layers], 0, 0
    for batch in dataset.take(steps):
        images = batch[0] if isinstance(batch, tuple) else batch
        forward(images)
        size = int(tf.shape(images)[0])
        for total, layer in zip(sums, layers, strict=True):
            mean, variance = (np.float64(v) for v in (layer.moving_mean, layer.moving_variance))
            total[0] = total[0] + size * mean
            total[1] = total[1] + size * (variance + mean**2)
        count, done = count + size, done + 1
    if done < steps:
        raise ValueError(f"the dataset ends after {done} of {steps} steps.")
    return [(first / count, second / count - (first / count) ** 2) for first, second in sums]


def _assign_statistics(layer, mean, variance):
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
