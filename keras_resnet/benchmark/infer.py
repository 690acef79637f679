"""How fast a variant answers: here, in keras.applications, in timm and in torchvision."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.benchmark.rounds import Row, take_turns
from keras_resnet.builders import build_model
from keras_resnet.inference.fuse import fuse
from keras_resnet.inference.references import import_library, references
from keras_resnet.kernels import computes_bfloat16
from keras_resnet.weights.synthetic import synthetic_tensor

# The network of keras.applications with the same stages.
COUNTERPARTS = {
    **{f"resnet{n}": f"ResNet{n}" for n in (50, 101, 152)},
    **{f"resnet{n}v1": f"ResNet{n}" for n in (50, 101, 152)},
    **{f"resnetv2_{n}": f"ResNet{n}V2" for n in (50, 101, 152)},
    **{f"resnet{n}v2_keras": f"ResNet{n}V2" for n in (50, 101, 152)},
}


def run(variant: str = "resnet50", batch_size: int = 32, image_size: int = 224, rounds: int = 5) -> list[Row]:
    """Measure the inference of a variant on one batch of float32 images.

    The first contender, to which the others are compared, is ``predict`` of keras.applications
    where it has the network, else ``predict`` of the variant's own model. Weights are synthetic:
    of a new network, whose biases are all zero, TensorFlow takes the bias out and then finds
    nothing to fuse.

    Args:
        variant: Name of a variant.
        batch_size: Images in a call.
        image_size: Their side in pixels.
        rounds: How often each contender has its turn, after one to warm up.

    Returns:
        A row for each contender, with a note where it could not take part.
    """
    images = np.random.default_rng(0).normal(size=(batch_size, image_size, image_size, 3)).astype("float32")
    computing = contenders(variant, images)

    def turn(compute):
        def one():
            compute()
            return batch_size

        return one

    return take_turns({name: c if isinstance(c, str) else turn(c) for name, c in computing.items()}, rounds)


def contenders(variant: str, images: np.ndarray) -> dict[str, Callable[[], np.ndarray] | str]:
    """Functions that compute `images` once, by name; or why one is not there."""
    model = _synthetic(build_model(variant, input_shape=images.shape[1:]))
    found = {}
    if variant in COUNTERPARTS:
        builder = getattr(keras.applications, COUNTERPARTS[variant])
        theirs = _synthetic(builder(weights=None, input_shape=images.shape[1:]))
        found |= _of_keras("keras.applications", theirs, images)
    found |= _of_keras("keras_resnet", model, images)
    found["fused float32"] = _of_fused(model, "float32", images)
    found["fused bfloat16"] = "neither a GPU nor a CPU with bfloat16 units"
    if computes_bfloat16():
        found["fused bfloat16"] = _of_fused(model, "bfloat16", images)
    for library in ("torchvision", "timm"):
        if variant in references(library):
            try:
                found |= _of_torch(library, variant, images)
            except ImportError as error:
                found[library] = str(error)
    return found


def _synthetic(model):
    for variable in model.weights:
        variable.assign(synthetic_tensor(variable.path, tuple(variable.shape)))
    return model


def _of_keras(name, model, images):
    function = tf.function(lambda x: model(x, training=False), autograph=False)
    tensor = tf.constant(images)
    return {
        f"{name} predict": lambda: model.predict(images, batch_size=len(images), verbose=0),
        f"{name} tf.function": lambda: function(tensor).numpy(),
    }


def _of_fused(model, precision, images):
    fused = fuse(model, precision)
    return lambda: fused(images).numpy()


def _of_torch(library, variant, images):
    """The same network in torch, channels last, as it is and compiled, in float32."""
    module = import_library(library)
    import torch

    make = module.create_model if library == "timm" else module.models.get_model
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = make(variant).eval().to(device, memory_format=torch.channels_last)
    compiled = torch.compile(network)
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).to(device, memory_format=torch.channels_last)

    def compute(function):
        with torch.inference_mode():
            return function(tensor).cpu().numpy()

    return {f"{library} eager": lambda: compute(network), f"{library} compiled": lambda: compute(compiled)}
