"""Which of the dicts in a torch checkpoint holds the weights, and what else it says about them."""

from __future__ import annotations

import re

from keras_resnet.weights.pickles import StoredTensor
from keras_resnet.weights.tensors import WeightsError, shown

# Where checkpoints name their architecture, and where they keep the arguments of their training.
_NAMES = ("arch", "architecture", "model_name", "model_arch", "arch_name", "model")
_ARGUMENTS = ("args", "config", "cfg", "opt", "hparams", "hyper_parameters", "meta")
# Dicts that hold tensors but no weights; and averages of weights.
_TRAINING = re.compile(r"optim|sched|scaler|criterion|loss")
_AVERAGE = re.compile(r"(^|[._])(ema|avg|averaged?|swa|shadow)([._]|$)")
_MAX_DEPTH, _MAX_DICTS = 5, 10_000


def choose_weights(value, which: str | None, path: str) -> tuple[dict, str, bool]:
    """The state dict in the value of a checkpoint.

    Of a set of weights and its moving average, the average is taken, as timm does.

    Args:
        value: What `read_pickle` returns.
        which: ``"ema"``, ``"raw"`` or the name of a set; ``None`` for the only one or the average.
        path: What to call the file in errors.

    Returns:
        The dict; a sentence for a warning if there was a choice; whether `which` made it.

    Raises:
        WeightsError: there is no set of weights, or several and no choice.
    """
    sets = _sets(value)
    if not sets:
        raise WeightsError(
            f"{path}: holds no state dict, neither at the top nor under a name such as state_dict, model or "
            "net; in torch, save model.state_dict()."
        )
    averages = {name for name in sets if _AVERAGE.search(name)}
    pool, chosen = _pool(sets, averages, which, path)
    if len(pool) > 1:
        raise WeightsError(
            f"{path}: holds several sets of weights, {', '.join(map(_called, pool))}: choose one with "
            f"which={pool[0]!r}."
        )
    (name,) = pool
    note = ""
    if which is None and len(sets) > 1 and name in averages:
        others = ", ".join(_called(other) for other in sets if other not in averages)
        note = (
            f"holds two sets of weights: the moving average ({_called(name)}) was taken; "
            f"which='raw' takes the others ({others})."
        )
    return sets[name], note, chosen


def _pool(sets, averages, which, path):
    """The names of the sets that may be meant, and whether `which` said so."""
    raw = [name for name in sets if name not in averages]
    if which is None:
        return sorted(averages) or raw, False
    if which in ("ema", "raw"):
        pool = sorted(averages) if which == "ema" else raw
        if not pool:
            named = ", ".join(map(_called, sets))
            raise WeightsError(f"{path}: holds no set of weights for which={which!r}; there is {named}.")
        return pool, True
    named = [name for name in sets if which in (name, *name.split("."))]
    # Else it may be what stands before the keys.
    return (named, True) if named else (sorted(averages) or raw, False)


def _called(name):
    return shown(name) if name else "the top level"


def _sets(value):
    """The dicts with tensors, by their place in the checkpoint; those with kernels, where any has."""
    found, with_kernels, seen = {}, {}, set()
    pending = [("", value)]
    while pending and len(seen) < _MAX_DICTS:
        place, item = pending.pop(0)
        if type(item) is not dict or id(item) in seen or place.count(".") > _MAX_DEPTH:
            continue
        seen.add(id(item))
        tensors = [entry for entry in item.values() if type(entry) is StoredTensor]
        if tensors:
            found[place] = item
        if any(type(entry.shape) is tuple and len(entry.shape) == 4 for entry in tensors):
            with_kernels[place] = item
        nests = [(key, entry) for key, entry in item.items() if not _TRAINING.search(key.lower())]
        pending += [(f"{place}.{key}" if place else key, entry) for key, entry in nests]
    nested = {place: item for place, item in found.items() if place}
    return with_kernels or nested or found


def named_architecture(value) -> dict[str, str]:
    """Where a checkpoint names its architecture -> the name."""
    if type(value) is not dict:
        return {}
    places = {"": value} | {key: value[key] for key in _ARGUMENTS if isinstance(value.get(key), dict)}
    for place, entries in places.items():
        for key in _NAMES:
            if type(name := entries.get(key)) is str and name:
                return {f"{place}.{key}".lstrip("."): name[:100]}
    return {}
