"""Networks of other libraries, with synthetic weights: what `keras_resnet.inference.verify` compares with."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from keras_resnet.graphs import functional_model
from keras_resnet.nearest import suggest
from keras_resnet.variants import VARIANTS
from keras_resnet.weights.synthetic import synthetic_tensor

_TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
    "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
)  # fmt: skip
_KERAS = {
    "resnet50v1": "ResNet50",
    "resnet101v1": "ResNet101",
    "resnet152v1": "ResNet152",
    "resnet50v2_keras": "ResNet50V2",
    "resnet101v2_keras": "ResNet101V2",
    "resnet152v2_keras": "ResNet152V2",
}
# torch counts batches; no weight of ours.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Reference:
    """A network of another library.

    Attributes:
        tensors: Its weights under the names and in the shapes of its library.
        run: From float32 images ``(batch, height, width, 3)`` to ``{"stage1": (batch, height,
            width, channels), ..., "logits": (batch, classes)}``. Raises `RuntimeError` for
            a size that the network cannot take.
    """

    tensors: dict[str, np.ndarray]
    run: Callable[[np.ndarray], dict[str, np.ndarray]]


def references(against: str) -> list[str]:
    """The variants that "timm", "torchvision" or "keras" (keras.applications) has too.

    Raises:
        ValueError: there is no such library.
    """
    if against not in _OPENERS:
        hint = suggest(against, _OPENERS, f"choose one of {', '.join(_OPENERS)}.")
        raise ValueError(f"against={against!r} is unknown; {hint}")
    if against == "timm":
        return [name for name in VARIANTS if name not in _KERAS and not name.endswith("_cifar")]
    return [name for name in VARIANTS if name in {"torchvision": _TORCHVISION, "keras": _KERAS}[against]]


def open_reference(name: str, against: str) -> Reference:
    """The original of the variant `name` in the library `against`; raises `ImportError`."""
    return _OPENERS[against](name)


def torch_reference(module, forward) -> Reference:
    """A torch module, with synthetic weights from now on.

    Args:
        module: A ``torch.nn.Module``; it is changed, and set to inference.
        forward: From `module` and images ``(batch, 3, height, width)`` to a list of the
            stages' features, and the logits.
    """
    import torch

    module.eval()
    tensors = module.state_dict()
    for key, tensor in tensors.items():
        if not key.endswith(COUNTER):
            tensor.copy_(torch.from_numpy(synthetic_tensor(key, tuple(tensor.shape))))

    def run(images):
        with torch.inference_mode():
            stages, logits = forward(
                module, torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
            )
        found = {f"stage{n}": stage.numpy().transpose(0, 2, 3, 1) for n, stage in enumerate(stages, 1)}
        return found | {"logits": logits.numpy()}

    return Reference({key: tensor.numpy() for key, tensor in tensors.items()}, run)


def timm_forward(module, images):
    """What `torch_reference` needs to run a network of timm."""
    last, features = module.forward_intermediates(images)
    return features[1:], module.forward_head(last)  # the first is the stem


def _torchvision_forward(module, images):
    stages = []
    hooks = [
        getattr(module, f"layer{n}").register_forward_hook(lambda _, __, output: stages.append(output))
        for n in (1, 2, 3, 4)
    ]
    logits = module(images)
    for hook in hooks:
        hook.remove()
    return stages, logits


def _open_timm(name):
    return torch_reference(import_library("timm").create_model(name, pretrained=False), timm_forward)


def _open_torchvision(name):
    models = import_library("torchvision").models
    return torch_reference(models.get_model(name, weights=None), _torchvision_forward)


def _open_keras(name):
    builder = getattr(keras.applications, _KERAS[name])
    # Their stages are counted from the stem.
    ends = [f"conv{n}_block{reps}_out" for n, (reps, _) in enumerate(VARIANTS[name].stages, 2)]

    def build(size):
        # With its head it takes images of one size only.
        model = builder(weights=None, input_shape=(*size, 3), classifier_activation=None)
        variables = {f"{layer.name}/{v.name}": v for layer in model.layers for v in layer.weights}
        return model, variables

    tensors = {key: synthetic_tensor(key, tuple(v.shape)) for key, v in build((32, 32))[1].items()}

    def run(images):
        model, variables = build(images.shape[1:3])
        for key, variable in variables.items():
            variable.assign(tensors[key])
        found = {f"stage{n}": model.get_layer(end).output for n, end in enumerate(ends, 1)}
        outputs = functional_model(model.input, {**found, "logits": model.output})(images)
        return {key: np.array(output) for key, output in outputs.items()}

    return Reference(tensors, run)


_OPENERS = {"timm": _open_timm, "torchvision": _open_torchvision, "keras": _open_keras}


def import_library(name: str):
    """The module "timm" or "torchvision", both of which need torch; raises `ImportError`."""
    try:
        _import_torchvision()
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        wanted = 'pip install "keras-resnet-zoo[convert]"'
        raise ImportError(f"comparing with {name} needs {error.name}: {wanted}") from error


@functools.cache
def _import_torchvision():
    """Import torchvision, which timm imports too; returns what must live as long as the process."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        # A torchvision built for CUDA cannot load its extension where torch is for the CPU, and
        # then fails to describe two operators for detection, which no classifier calls: once
        # they are declared, it imports.
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
        return library
    return None
