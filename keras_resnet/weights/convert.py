"""Tensors of other libraries into a model, and back: transposed, complete, or not at all."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import keras
import numpy as np

from keras_resnet.graphs import leaves
from keras_resnet.weights.keymaps import HEAD, get_layout, layer_keys
from keras_resnet.weights.slots import Slot, find_layout, match, slots
from keras_resnet.weights.tensors import Tensor, WeightsError, readable

__all__ = ["adapt_channels", "assign", "find_layout", "slots", "to_state_dict"]

_STEMS = ("stem_conv", "stem_conv1")
# Of each kind of difference that an error lists.
_LISTED = 20


def to_state_dict(model: keras.Model, layout: str = "timm") -> dict[str, np.ndarray]:
    """The weights of `model` under the names and in the shapes of another library.

    ``torch.load_state_dict(..., strict=True)`` takes them, once made into tensors, but for the
    counters ``num_batches_tracked``, which torch adds by itself from a file that has none.

    Args:
        model: A model of this package.
        layout: "timm", "torchvision", "timm_v2", "akamaster", "keras_v1" or "keras_v2"; or
            "keras_resnet", which has a name for every layer: its own.

    Raises:
        ValueError: the layout is unknown, or has no name for a layer of the model.
    """
    return {slot.key: np.ascontiguousarray(slot.theirs()) for slot in slots(model, layout)}


@dataclass(frozen=True)
class _Plan:
    """What goes where: `kept` is loaded, `skipped` is left as it is, `folds` are moving means
    and the biases to take from them, by their keys; `differences` are what forbids it all."""

    kept: list[Slot]
    skipped: list[Slot]
    folds: dict[str, str]
    differences: list[str]


def assign(
    model: keras.Model, tensors: dict[str, Tensor], source: str, *, adapt: bool = False, check=None
) -> list[str]:
    """Put `tensors` into `model`: all of them, or the model stays as it was.

    The bias of a convolution that has none in `model` is taken from the moving mean of the
    batch normalisation that follows, which is the same network. A head is ignored where
    `model` has none.

    Args:
        model: A model of this package.
        tensors: What `open_tensors` returns.
        source: What to call it in errors.
        adapt: Fit the stem to another number of channels (see `adapt_channels`), and leave a
            head of other classes as it is; warnings tell.
        check: Function of the layout, called once names and shapes fit and before anything is
            read; it raises for weights of another network.

    Returns:
        The keys that were left out because of `adapt`.

    Raises:
        WeightsError: tensors are missing, left over, of another shape, no floats, or not finite.
    """
    layout, tensors = match(model, tensors, source)
    plan = _plan(model, tensors, layout, adapt)
    if plan.differences:
        fits = not adapt and not _plan(model, tensors, layout, True).differences
        raise WeightsError(_message(model, source, plan.differences, fits))
    if check is not None:
        check(layout)
    # Read as a whole before anything is assigned: a tensor that is not finite is found here.
    with readable(source):
        arrays = [_read(slot, tensors, plan.folds) for slot in plan.kept]
    for slot, array in zip(plan.kept, arrays, strict=True):
        slot.variable.assign(array)
    for line in _adapted(plan, tensors, model):
        warnings.warn(f"{source} {line}", stacklevel=3)  # who calls load_weights
    return [slot.key for slot in plan.skipped]


def _adapted(plan, tensors, model):
    """What was adapted, in words."""
    for slot in plan.kept:
        if (shape := tuple(tensors[slot.key].shape)) != slot.shape:
            inputs = 1 if slot.axes else 2
            how = "summed" if slot.shape[inputs] == 1 else "repeated and scaled"
            yield (
                f"has a stem of {shape[inputs]} channels; {slot.key} was {how} for the "
                f"{slot.shape[inputs]} of {model.name!r}."
            )
    if plan.skipped:
        left_out = ", ".join(slot.key for slot in plan.skipped)
        yield (
            f"has no head of {plan.skipped[-1].shape[-1 if plan.skipped[-1].axes is None else 0]} classes; "
            f"that of {model.name!r} stays as it was, without {left_out}."
        )


def _plan(model, tensors, layout, adapt) -> _Plan:
    wanted = slots(model, layout)
    head = [slot for slot in wanted if slot.layer == HEAD]
    skipped = head if adapt and _is_other_head(head, tensors) else []
    kept = [slot for slot in wanted if slot not in skipped]
    folds = _folds(model, tensors, layout)
    expected = {slot.key for slot in wanted} | set(folds.values())
    unused = [key for key in tensors if key not in expected]
    if not head:
        unused = [key for key in unused if not key.startswith(get_layout(layout).head)]
    return _Plan(kept, skipped, folds, _differences(kept, tensors, unused, adapt))


def _is_other_head(head, tensors):
    """Whether there is a whole head that differs from ours in its classes only, or none at all."""
    found = [slot for slot in head if slot.key in tensors]
    if not found or len(found) < len(head):
        return not found
    classes = tensors[head[-1].key].shape[-1:]
    wanted = [(*classes, *s.shape[1:]) if s.axes else (*s.shape[:-1], *classes) for s in head]
    return classes != head[-1].shape and wanted == [tuple(tensors[slot.key].shape) for slot in head]


def _differences(kept, tensors, unused, adapt):
    missing, others = [], []
    for slot in kept:
        if slot.key not in tensors:
            missing.append(f"missing: {slot.key} {slot.shape}")
            continue
        shape, dtype = tuple(tensors[slot.key].shape), tensors[slot.key].dtype
        if shape != slot.shape and not (adapt and _stem_adapts(slot, shape)):
            others.append(f"{slot.key}: {shape} in the file, {slot.shape} in the model")
        elif "float" not in dtype:
            others.append(f"{slot.key}: {dtype} in the file, floats in the model")
    unused = [f"unused: {key} {tuple(tensors[key].shape)}" for key in unused]
    return [kind for kind in (missing, unused, others) if kind]


def _stem_adapts(slot, shape):
    inputs = 1 if slot.axes else 2
    return (
        slot.layer in _STEMS
        and len(shape) == len(slot.shape) == 4
        and shape[inputs] > 0
        and (*shape[:inputs], *shape[inputs + 1 :]) == (*slot.shape[:inputs], *slot.shape[inputs + 1 :])
    )


def _message(model, source, differences, fits_adapted):
    count = sum(len(kind) for kind in differences)
    lines = [f"{source} does not fit {model.name!r}, {count} difference{'s' * (count > 1)}:"]
    for kind in differences:
        lines += [f"  {line}" for line in kind[:_LISTED]]
        if len(kind) > _LISTED:
            lines.append(f"  ... and {len(kind) - _LISTED} more like the last")
    if fits_adapted:
        lines.append(
            "adapt=True would load it: it fits the stem to other channels and leaves a head of other classes."
        )
    return "\n".join(lines)


def _folds(model, tensors, layout):
    """Moving mean -> bias, for each convolution without a bias that only a batch norm reads."""
    rules, keys = get_layout(layout), layer_keys(model, layout)
    biases = {
        layer.name: f"{keys[layer.name]}{rules.weights['bias']}"
        for layer in leaves(model)
        if isinstance(layer, keras.layers.Conv2D) and not layer.use_bias
    }
    biases = {name: key for name, key in biases.items() if key in tensors}
    if not biases:
        return {}
    layers = {layer.name: layer for layer in leaves(model)}
    readers = _readers(model)
    folds = {}
    for name, bias in biases.items():
        conv = layers[name]
        norm, *others = readers.get(id(conv.output), [None])
        alone = isinstance(norm, keras.layers.BatchNormalization) and not others
        if alone and tuple(tensors[bias].shape) == (conv.filters,) and "float" in tensors[bias].dtype:
            folds[f"{keys[norm.name]}{rules.weights['moving_mean']}"] = bias
    return folds


def _readers(model):
    """The layers that read each tensor, by its id; ``None`` for what leaves a model."""
    readers = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            readers |= _readers(layer)
        for tensor in keras.tree.flatten(layer.input):
            readers.setdefault(id(tensor), []).append(layer)
    for tensor in model.outputs:
        readers.setdefault(id(tensor), []).append(None)
    return readers


def _read(slot, tensors, folds):
    array = slot.ours(tensors[slot.key].read())
    if slot.key in folds:
        array = array - tensors[folds[slot.key]].read()
    if slot.layer in _STEMS and array.ndim == 4:
        array = adapt_channels(array, slot.variable.shape[2])
    return array


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A stem kernel ``(height, width, inputs, filters)`` for another number of inputs.

    For one it is the sum, which sees a grey image as the network saw it in all channels; for
    others the inputs are repeated, and scaled so that the sum stays about the same (timm's rule).
    """
    inputs = kernel.shape[2]
    if channels == inputs:
        return kernel
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.tile(kernel, (1, 1, -(-channels // inputs), 1))[:, :, :channels]
    return repeated * np.float32(inputs / channels)
