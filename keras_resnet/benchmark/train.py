"""The training step: stock Keras, the accelerated one, and torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.benchmark.rounds import Row, take_turns
from keras_resnet.builders import build_model
from keras_resnet.copying import copy_model
from keras_resnet.data.pipeline import fixed_parallelism
from keras_resnet.inference.references import import_library, references
from keras_resnet.kernels import accelerate, computes_bfloat16
from keras_resnet.variants import VARIANTS


def run(
    variant: str = "resnet20_cifar",
    *,
    batch_size: int = 128,
    image_size: int | None = None,
    rounds: int = 5,
    steps: int = 4,
) -> list[Row]:
    """Time `steps` training steps on one batch of noise in memory, with SGD and Nesterov momentum.

    The first contender, "Keras fit", is a copy of the same network in stock layers alone, in
    float32. Torch is measured where it and timm are installed and timm has the variant.

    Args:
        variant: Name of a variant.
        batch_size: Images in a step.
        image_size: Side of the images; by default the variant's.
        rounds: Rounds of each contender.
        steps: Steps in a round.

    Returns:
        A row for each contender; `rate` is images in a second.
    """
    size = image_size or VARIANTS[variant].image_size
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch_size, size, size, 3)).astype("float32")
    labels = rng.integers(0, VARIANTS[variant].num_classes, batch_size)
    contenders: dict[str, Callable[[], int] | str] = {
        "Keras fit, float32": _fit(stock_copy(_build(variant, size, "float32")), images, labels, steps)
    }
    for precision in ("float32", "mixed_bfloat16"):
        if precision != "float32" and not computes_bfloat16():
            contenders[f"accelerated, {precision}"] = "this processor has no bfloat16 units"
        else:
            model = accelerate(_build(variant, size, precision))
            contenders[f"accelerated, {precision}"] = _fit(model, images, labels, steps)
    contenders |= _torch_contenders(variant, images, labels, steps)
    return take_turns(contenders, rounds)


def stock_copy(model: keras.Model) -> keras.Model:
    """The same network with the same weights, without the kernels that its builder bound."""
    return copy_model(model)


def _build(variant, size, precision):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return build_model(variant, input_shape=(size, size, 3), classifier_activation=None)
    finally:
        keras.config.set_dtype_policy(before)


def _fit(model, images, labels, steps):
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    # Else the end of each `fit` waits for the pipeline's idle tuner, up to a second for all contenders.
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat().with_options(fixed_parallelism())

    def turn():
        model.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)
        return steps * len(images)

    return turn


def _torch_contenders(variant, images, labels, steps):
    names = ("torch eager, float32", "torch eager, bfloat16", "torch compiled, bfloat16")
    if not all(map(importlib.util.find_spec, ("torch", "timm", "torchvision"))):
        return dict.fromkeys(names, "torch, torchvision and timm are not all installed")
    if variant not in references("timm"):
        return dict.fromkeys(names, f"timm has no {variant}")
    return {name: _torch_turn(variant, images, labels, steps, name) for name in names}


def _torch_turn(variant, images, labels, steps, name):
    timm = import_library("timm")
    import torch

    module = timm.create_model(variant).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(module.parameters(), 0.01, momentum=0.9, nesterov=True)
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    x, y = x.to(memory_format=torch.channels_last), torch.from_numpy(labels)
    forward = torch.compile(module) if "compiled" in name else module

    def turn():
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in name):
                loss = torch.nn.functional.cross_entropy(forward(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return steps * len(images)

    return turn
