"""What a file or record says about the network whose weights it holds, held against the model."""

from __future__ import annotations

import re
import warnings

import keras

from keras_resnet.variants import VARIANTS
from keras_resnet.weights.architecture import (
    differences,
    hidden_traits,
    hidden_traits_of,
    is_ours,
    layers_of,
    shown_traits,
    shown_traits_of,
)
from keras_resnet.weights.keymaps import OWN
from keras_resnet.weights.records import Record
from keras_resnet.weights.tensors import WeightFile, WeightsError

# The networks of keras.applications, by whether they activate before their convolutions.
KERAS_ROWS = {
    False: ("resnet50v1", "resnet101v1", "resnet152v1"),
    True: ("resnet50v2_keras", "resnet101v2_keras", "resnet152v2_keras"),
}
# Who trained them, in the names of timm 0.4; and gluon's v1b, v1c, v1d and v1s.
_PUBLISHERS, _GLUON = re.compile(r"(tv2?|gluon|ssl|swsl|ig)_"), re.compile(r"_v1([bcds])(?=_|$)")
# Layers that change nothing but training.
_OPTIONAL = re.compile(r".*_(drop_path|drop_block|subsample)")


def variant_called(name: str) -> str | None:
    """The variant that timm, torchvision or a hub calls `name`; ``None`` for what is not in the table."""
    plain = name.lower().rpartition("/")[2].partition(".")[0].replace("resnet-", "resnet")
    plain = _PUBLISHERS.sub("", plain, count=1) if _PUBLISHERS.match(plain) else plain
    plain = _GLUON.sub(lambda match: match[1].replace("b", ""), plain)
    plain = plain.replace("_bitm", "_bit")
    return next((known for known in (plain, f"{plain}_cifar") if known in VARIANTS), None)


def variant_of(model: keras.Model) -> str | None:
    """The variant that `model` is, whatever it is called; ``None`` for a network that is not in the table."""
    layers = layers_of(model)
    visible, hidden = shown_traits(layers), hidden_traits(layers)
    rows = (name for name, row in VARIANTS.items() if shown_traits_of(row) == visible)
    return next((name for name in rows if not _other(hidden, name)), None)


def check_record(model: keras.Model, record: Record) -> None:
    """Raise `WeightsError` if `model` is another network than the record's."""
    other = _other(hidden_traits(layers_of(model)), record.variant)
    if other:
        raise WeightsError(
            f"{record.name} holds the weights of {record.variant!r}, and {model.name!r} is another network "
            f"({other}): take build_{record.variant}(weights={record.name!r})."
        )


def check_file(model: keras.Model, file: WeightFile, layout: str, source: str) -> None:
    """Hold a file, whose names and shapes fit `model`, against it.

    Warns if the file does not say of which network it is, and a more usual one than `model` has
    the same names and shapes.

    Raises:
        WeightsError: the file says, or shows by its names, that it is of another network.
    """
    layers = layers_of(model)
    hidden, visible = hidden_traits(layers), shown_traits(layers)
    if any(map(is_ours, file.kinds)):
        _check_graph(model, file, hidden, source)
        return
    if _check_names(model, file.says, hidden, visible, source):
        return
    if layout == "keras":
        rows = KERAS_ROWS[visible["preactivation"]]
        # The networks differ in depth only; one that is none of them is compared with the first.
        row = next((row for row in rows if _fits(row, visible)), rows[0])
        _refuse(
            model,
            _other(hidden, row),
            f"names its layers as keras.applications does, which is {row!r}",
            source,
        )
        return
    _warn_of_others(model, hidden, visible, layout, source)


def _other(hidden, variant):
    return ", ".join(differences(hidden, hidden_traits_of(VARIANTS[variant])))


def _refuse(model, other, says, source):
    if other:
        raise WeightsError(f"{source} {says}; {model.name!r} is another network ({other}).")


def _fits(variant, visible):
    """Whether the weights of a row have the names and shapes; biases may be folded."""
    wanted = shown_traits_of(VARIANTS[variant])
    return all(visible[name] == wanted[name] for name in wanted if name != "conv_bias")


def _check_graph(model, file, hidden, source):
    """Compare the graph in a .keras file, or the names of the layers in a .weights.h5 file."""
    if found := [layer for layer in file.layers or () if is_ours(layer[0])]:
        if other := ", ".join(differences(hidden, hidden_traits(found))):
            raise WeightsError(f"{source} was saved of another network than {model.name!r} ({other}).")
        return
    found = {name: kind for name, kind in file.kinds.items() if is_ours(name)}
    if found.keys() <= {key.split("/")[-2] for key in file.tensors}:
        return  # Some releases of Keras wrote the names of layers with weights only.
    wanted = {name: kind.lower() for name, kind, _ in layers_of(model)}
    for name in sorted(found.keys() | wanted.keys()):
        theirs, ours = found.get(name), wanted.get(name)
        if theirs != ours and not _OPTIONAL.fullmatch(name):
            raise WeightsError(
                f"{source} was saved of another network than {model.name!r}: its {name!r} is "
                f"{theirs or 'missing'}, that of the model {ours or 'missing'}."
            )


def _check_names(model, says, hidden, visible, source) -> bool:
    """Whether the file names a variant that its weights can be of; the model must be the same."""
    for where, name in says.items():
        variant = variant_called(name)
        if variant is not None and _fits(variant, visible):
            _refuse(model, _other(hidden, variant), f"holds the weights of {variant!r} ({where})", source)
            return True
        warnings.warn(
            f"{source} says that it is of {name!r} ({where}), which is not among the variants or has other "
            f"names and shapes; it was taken for {model.name!r}.",
            stacklevel=5,
        )
        return True
    return False


def _warn_of_others(model, hidden, visible, layout, source):
    pooled = hidden["shortcut"] or ""
    fitting = [
        name
        for name, row in VARIANTS.items()
        if shown_traits_of(row) == visible
        # timm counts the average of a projection; our own names do not show it.
        and (layout in (OWN, "timm_v2") or pooled.startswith("pool") == row.shortcut.startswith("pool"))
    ]
    same = [name for name in fitting if not _other(hidden, name)]
    if not fitting or fitting[0] in same:
        return
    taken = repr(same[0]) if same else f"{model.name!r} ({_other(hidden, fitting[0])})"
    others = ", ".join(repr(name) for name in fitting if name not in same)
    warnings.warn(
        f"{source} does not say of which network it is, and fits {others} as well; it was taken for {taken}.",
        stacklevel=5,
    )
