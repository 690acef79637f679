"""From a recipe to a network that is ready for `fit`."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import keras

from keras_resnet.builders import build_model
from keras_resnet.graphs import deep_graphs, functional_model
from keras_resnet.kernels import accelerate
from keras_resnet.resnet import build_variant
from keras_resnet.training.losses import LOSSES, Accuracy
from keras_resnet.training.optimizers import BIASES_AND_NORMS, SGD, Lamb
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.schedules import Schedule
from keras_resnet.variants import VARIANTS
from keras_resnet.weights.transforms import IMAGENET_MEAN, IMAGENET_STD

# On the scale of 0 to 1. Three channels get ImageNet's, other numbers are centred.
CENTRED = (0.5, 0.25)


def build_network(model: str, recipe: Recipe, image_size: int, channels: int, classes: int) -> keras.Model:
    """The variant called `model` with the recipe's changes: pixels in, probabilities out.

    Raises:
        ValueError: there is no such variant, or the changes do not fit it.
    """
    options = dict(
        input_shape=(image_size, image_size, channels), num_classes=classes, dropout=recipe.dropout,
        drop_path=recipe.drop_path, normalization=(IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else CENTRED,
    )  # fmt: skip
    with _dtype_policy(recipe.precision):
        if not recipe.architecture:
            return build_model(model, **options)
        if model not in VARIANTS:
            return build_model(model)  # which says so
        return build_variant(replace(VARIANTS[model], **recipe.architecture), name=model, **options)


def compile_logits(network: keras.Model, recipe: Recipe, steps_per_epoch: int, *, any_size: bool = False):
    """The network up to its logits, where the cross-entropy is exact, ready for `fit`.

    Args:
        network: With a layer "head". Its variables are shared.
        recipe: Its optimizer, schedule, loss and `jit_compile` are used.
        steps_per_epoch: Of which the schedule is made.
        any_size: Take images of any size, not only of the network's own.
    """
    logits = functional_model(network.input, network.get_layer("head").output)
    logits = _for_any_size(logits) if any_size else logits
    accelerate(logits).compile(
        optimizer=make_optimizer(recipe, steps_per_epoch),
        loss=LOSSES[recipe.loss],
        metrics=[Accuracy()],
        jit_compile=recipe.jit_compile,
    )
    return logits


def make_optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer of a recipe, with its schedule and decay."""
    boundaries = [round(boundary * steps_per_epoch) for boundary in recipe.boundaries]
    schedule = Schedule(
        recipe.schedule, recipe.learning_rate, recipe.epochs * steps_per_epoch,
        round(recipe.warmup_epochs * steps_per_epoch), boundaries, recipe.factor, recipe.power,
    )  # fmt: skip
    options = dict(
        weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip_norm,
        gradient_accumulation_steps=recipe.accumulate if recipe.accumulate > 1 else None,
    )  # fmt: skip
    if recipe.optimizer == "lamb":
        optimizer = Lamb(schedule, **options)
    else:
        optimizer = SGD(schedule, recipe.momentum, recipe.nesterov, **options)
    if not recipe.decay_all:
        optimizer.exclude_from_weight_decay(var_names=BIASES_AND_NORMS)
    return optimizer


def _for_any_size(model):
    """The same layers between an input of any height and width and their output."""
    inputs = keras.Input((None, None, model.input_shape[-1]), name="image")
    with deep_graphs():
        return keras.models.clone_model(
            model,
            keras.tree.pack_sequence_as(model.input, [inputs]),
            clone_function=lambda layer: layer,
            call_function=lambda layer, *args, **kwargs: layer(*args, **kwargs),
        )


@contextlib.contextmanager
def _dtype_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
