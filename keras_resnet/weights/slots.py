"""Which variable of a model each tensor of a file belongs to: by layout, and behind whatever prefix."""

from __future__ import annotations

import re
from dataclasses import dataclass

import keras
import numpy as np

from keras_resnet.graphs import leaves
from keras_resnet.weights.keymaps import HEAD, LAYOUTS, OWN, TORCH_WEIGHTS, Layout, get_layout, layer_keys
from keras_resnet.weights.tensors import Tensor, WeightsError, shown

# What training counts and no inference needs: steps of a batch normalisation, models of an average.
_COUNTERS = ("num_batches_tracked", "n_averaged")
# Our axes in the order of theirs, by the layer.
_TO_TORCH = {"Conv2D": (3, 2, 0, 1), "Conv1D": (2, 1, 0), "Dense": (1, 0)}


@dataclass(frozen=True, eq=False)  # variables compare by value
class Slot:
    """One variable of a model and the tensor that belongs there.

    Attributes:
        variable: Ours.
        layer: The name of its layer.
        key: What they call the tensor.
        axes: Our axes in the order of theirs, or ``None`` where they are the same.
        shape: The shape of their tensor.
    """

    variable: keras.Variable
    layer: str
    key: str
    axes: tuple[int, ...] | None
    shape: tuple[int, ...]

    def ours(self, array: np.ndarray) -> np.ndarray:
        """Their array as ours."""
        if self.axes is None:
            return array
        return array.reshape(array.shape[: len(self.axes)]).transpose(np.argsort(self.axes))

    def theirs(self) -> np.ndarray:
        """The variable as their array."""
        array = self.variable.numpy()
        return array if self.axes is None else array.transpose(self.axes).reshape(self.shape)


def slots(model: keras.Model, layout: str) -> list[Slot]:
    """Every variable of `model`, nested models included, with the key and shape of its tensor in `layout`.

    Raises:
        ValueError: the layout is unknown, or has no name for a layer or weight of the model; or
            two layers have the same name, as two copies of a network in one model do.
    """
    rules, keys = get_layout(layout), layer_keys(model, layout)
    found = [
        _slot(layer, variable, keys[layer.name], rules)
        for layer in leaves(model)
        for variable in layer.weights
    ]
    seen = set()
    for slot in found:
        if slot.key in seen:
            raise ValueError(
                f"{model.name!r} has more than one {slot.key!r} (layer {slot.layer!r}): take the weights "
                "of the networks in it one by one."
            )
        seen.add(slot.key)
    named = {id(slot.variable) for slot in found}
    if others := [variable.path for variable in model.weights if id(variable) not in named]:
        raise ValueError(f"{model.name!r} has {others[0]!r}, which is in no layer of its graph.")
    return found


def _slot(layer, variable, key, rules: Layout) -> Slot:
    if variable.name not in rules.weights:
        raise ValueError(f"no layout has a name for the weight {variable.name!r} of {layer.name!r}.")
    axes = None
    if rules.weights is TORCH_WEIGHTS and variable.name == "kernel":
        kind = next((kind for kind in _TO_TORCH if isinstance(layer, getattr(keras.layers, kind))), None)
        if kind is None:
            raise ValueError(f"no layout has an order of axes for {layer.name!r}, a {type(layer).__name__}.")
        axes = _TO_TORCH[kind]
    shape = tuple(variable.shape) if axes is None else tuple(variable.shape[i] for i in axes)
    if layer.name == HEAD and rules.conv_head and axes:
        shape = (*shape, 1, 1)
    return Slot(variable, layer.name, key + rules.weights[variable.name], axes, shape)


def find_layout(model: keras.Model, keys, source: str = "the file") -> str:
    """The layout in which most of the model's tensors have a name among the `keys` of `source`.

    Raises:
        ValueError: there is none; the message shows some of the keys.
    """
    return _find(model, keys, source)[0]


def match(
    model: keras.Model, tensors: dict[str, Tensor], source: str, which: str | None = None
) -> tuple[str, dict[str, Tensor]]:
    """The layout of `tensors`, and the tensors by their names in it.

    Counters of training are left out, and so is what stands before the names of the network:
    ``module.``, ``_orig_mod.``, ``model.backbone.``, or the name of a model around it. For a model
    without a head, the vectors and matrices of others (a new head, a projection) are left out too.

    Args:
        model: A model of this package.
        tensors: What `open_tensors` returns.
        source: What to call it in errors.
        which: Of several networks in the file, the one behind this prefix.

    Raises:
        WeightsError: no tensor belongs to the model, or several networks in the file do.
    """
    tensors = {key: tensor for key, tensor in tensors.items() if not key.endswith(_COUNTERS)}
    layout, prefix = _find(model, tensors, source, which)
    if not prefix:
        return layout, tensors
    wanted = {slot.key for slot in slots(model, layout)}
    headless = not any(layer.name == HEAD for layer in leaves(model))
    found = {}
    for key, tensor in tensors.items():
        if headless and key not in wanted and not key.startswith(prefix) and len(tensor.shape) <= 2:
            continue
        name = key.removeprefix(prefix)
        if name in found:
            raise WeightsError(f"{source}: holds {name!r} twice, with and without {prefix!r}.")
        found[name] = tensor
    return layout, found


def _find(model, keys, source, which=None):
    """``(layout, prefix)`` of most names."""
    matches, firsts = _matches(model, keys)
    if which is not None:
        matches = {place: found for place, found in matches.items() if which in _words(place[1])}
        if not matches:
            raise WeightsError(f"{source}: has nothing behind which={which!r}; there are {_first(keys)}.")
    best = max(matches, key=matches.get)
    if matches[best] == 0:
        raise WeightsError(
            f"{source}: none of the tensors belongs to {model.name!r}: there are {_first(keys)}; "
            f"its first would be one of {', '.join(firsts)}."
        )
    # An average or a momentum encoder has all the names, too.
    rivals = sorted({prefix for (_, prefix), found in matches.items() if found == matches[best]})
    if len(rivals) > 1:
        raise WeightsError(
            f"{source}: holds several networks that may be {model.name!r}, behind "
            f"{', '.join(map(shown, rivals))}: choose one with which=. There are {_first(keys)}."
        )
    return best


def _matches(model, keys):
    """How many of the model's tensors have a name, by layout and prefix; the first name of each layout."""
    matches, firsts = {}, []
    for name, rules in LAYOUTS.items():
        try:
            wanted = [slot.key for slot in slots(model, name)]
        except ValueError:
            if rules is LAYOUTS[OWN]:  # the others lack names for some networks
                raise
            continue
        firsts += wanted[:1]
        for prefix in _prefixes(keys, wanted):
            found = sum(prefix + key in keys for key in wanted)
            # A head decides between layouts that differ in nothing else, also for a model without one.
            headed = any(key.startswith(prefix + rules.head) for key in keys)
            matches[name, prefix] = found + (found > 0) * headed
    return matches, firsts


def _prefixes(keys, wanted):
    """What may stand before the names in `wanted`: whatever precedes the first or the last of them."""
    anchors = wanted[:1] + wanted[-1:]
    found = {key.removesuffix(anchor) for anchor in anchors for key in keys if key.endswith(anchor)}
    return sorted({prefix for prefix in found if prefix.endswith((".", "/"))} | {""})


def _words(prefix):
    whole = prefix.rstrip("./")
    return prefix, whole, *re.split(r"[./]", whole)


def _first(keys):
    return f"{', '.join(shown(key).strip(chr(39)) for key in sorted(keys)[:5])} ..."
