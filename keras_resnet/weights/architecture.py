"""Which network a model is: what its graph says, and what the names and shapes of weights cannot say.

Both are read off names, classes and configurations of layers, so that a model in memory and the
configuration in a ``.keras`` file are read alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import keras

from keras_resnet.graphs import leaves
from keras_resnet.variant import Variant

# Name, class and configuration of a layer.
Layer = tuple[str, str, dict]

_IN_BLOCK = re.compile(r"stage(\d+)_block(\d+)_(.+)")
_ACTIVATED = re.compile(r"(preact_|)relu\d*|out|pool_relu")
_NORMS = ("BatchNormalization", "GroupNormalization")


def layers_of(model: keras.Model) -> list[Layer]:
    """The layers of `model` that are named as this package names them, those of nested models included."""
    named = ((layer.name, layer) for layer in leaves(model) if is_ours(layer.name))
    return [(name, type(layer).__name__, layer.get_config()) for name, layer in named]


def is_ours(name: str) -> bool:
    """Whether a layer of that name belongs to a stem, a stage or the last norm of a network."""
    return name.startswith(("stem_", "head_bn", "head_gn")) or _IN_BLOCK.fullmatch(name) is not None


class _Graph:
    """The layers of a network by their places."""

    def __init__(self, layers: Iterable[Layer]):
        self.layers = list(layers)
        self.stem, self.blocks = {}, {}
        for name, kind, config in self.layers:
            if match := _IN_BLOCK.fullmatch(name):
                place = int(match[1]), int(match[2])
                self.blocks.setdefault(place, {})[match[3]] = kind, config
            elif name.startswith("stem_"):
                self.stem[name.removeprefix("stem_")] = kind, config

    def setting(self, key, *kinds):
        """The values of a setting of all layers of some classes: one, or a sorted tuple of them."""
        values = {config.get(key) for _, kind, config in self.layers if kind in kinds}
        return values.pop() if len(values) == 1 else tuple(sorted(values, key=str)) or None

    def parts(self):
        """The names that occur in any block."""
        return {part for block in self.blocks.values() for part in block}

    def strided(self):
        """Block -> the convolution that strides there, by itself or with the layer next to it."""
        found = {}
        for place, block in self.blocks.items():
            for part in ("conv1", "conv2"):
                if part in block and (_stride(block[part]) > 1 or f"{part}_subsample" in block):
                    found[place] = part
            if {"blur", "avg"} & block.keys():
                found[place] = "conv2" if "conv3" in block else "conv1"
        return found


def _stride(layer):
    return max(_pair(layer[1].get("strides", 1)))


def _pair(value):
    return tuple(value) if isinstance(value, list | tuple) else (value, value)


def hidden_traits(layers: Iterable[Layer]) -> dict:
    """What names and shapes of weights leave open: where a network strides, how it pools, ...

    Returns:
        By the names of the fields of `Variant`, and ``activation``. ``None`` where the network
        has no place for a choice.
    """
    graph = _Graph(layers)
    strided, parts = graph.strided(), graph.parts()
    in_bottlenecks = {part for place, part in strided.items() if "conv3" in graph.blocks[place]}
    return {
        "stem_pool": _stem_pool(graph.stem, "preact_relu" in parts),
        "shortcut": _shortcut(graph),
        "stride_conv": _one(in_bottlenecks),
        "stride_block": _stride_block(set(strided), graph.blocks),
        "downsample": "blur" if "blur" in parts else "avg" if "avg" in parts else "stride",
        "standardize_weights": any(kind == "StandardizedConv2D" for _, kind, _ in graph.layers),
        "norm_epsilon": graph.setting("epsilon", *_NORMS),
        "activation": _one({_activation(layer) for layer in _activations(graph)} - {None}),
    }


def _one(values):
    return next(iter(values)) if len(values) == 1 else "+".join(sorted(values)) or None


def _stem_pool(stem, preactivation):
    if "pool" not in stem:
        return "conv" if "pool_conv" in stem else None
    if "pool_pairs" in stem:
        return "blur"
    if stem["pool"][0] == "AveragePooling2D":
        return "avg"
    # After a ReLU both paddings are the same.
    return "max_zero" if "pool_pad" in stem and preactivation else "max"


def _shortcut(graph):
    parts = {part for part in graph.parts() if part.startswith("proj_")}
    if "proj_conv" not in parts:
        return "pad" if parts else None
    convs = [block["proj_conv"] for block in graph.blocks.values() if "proj_conv" in block]
    kind = "conv3" if any(max(_pair(config["kernel_size"])) == 3 for _, config in convs) else "conv"
    pooled = "pool_" if "proj_avg" in parts else ""
    return pooled + kind + ("_norm" if {"proj_bn", "proj_gn"} & parts else "")


def _stride_block(strided, blocks):
    last = {stage: max(b for s, b in blocks if s == stage) for stage, _ in blocks}
    if strided == {(stage, 1) for stage in last if stage > 1}:
        return "first"
    if strided == {(stage, block) for stage, block in last.items() if stage < max(last)}:
        return "last"
    return "block " + ", ".join(f"{block} of stage {stage}" for stage, block in sorted(strided))


def _activations(graph):
    for parts in (graph.stem, *graph.blocks.values()):
        yield from (layer for part, layer in parts.items() if _ACTIVATED.fullmatch(part))


def _activation(layer):
    kind, config = layer
    if kind in ("Add", "Activation"):
        return config.get("activation")
    changed = any(config.get(key) for key in ("max_value", "negative_slope", "threshold"))
    return {"ReLU": "relu"}.get(kind, kind) + "*" * changed


def hidden_traits_of(row: Variant) -> dict:
    """What `hidden_traits` finds in the network of a row."""
    stages = range(1, len(row.stages) + 1)
    strided = [s for s in stages if (s > 1 if row.stride_block == "first" else s < len(stages))]
    blocks = {row.block_row(stage, 1).block for stage in strided}
    by_averages = row.downsample if blocks and (blocks, row.stride_conv) != ({"bottleneck"}, "conv1") else ""
    shortcut = row.shortcut if strided else row.shortcut.replace("pool_", "").replace("conv3", "conv")
    return {
        "stem_pool": "max" if row.stem_pool == "max_zero" and not row.preactivation else row.stem_pool,
        "shortcut": shortcut,
        "stride_conv": row.stride_conv if "bottleneck" in blocks else None,
        "stride_block": row.stride_block if strided else "first",
        "downsample": by_averages or "stride",
        "standardize_weights": row.standardize_weights,
        "norm_epsilon": row.norm_epsilon,
        "activation": "relu",
    }


def shown_traits(layers: Iterable[Layer]) -> dict:
    """What names and shapes of weights say of a network, but for its input and its head."""
    graph = _Graph(layers)
    parts = graph.parts()
    stem = tuple(
        (config["filters"], max(_pair(config["kernel_size"])))
        for part, (_, config) in graph.stem.items()
        if re.fullmatch(r"conv\d?", part)
    )
    convs = [
        config for name, _, config in graph.layers if re.search(r"_conv\d?$", name) and "se_" not in name
    ]
    biases = {config.get("use_bias") for config in convs if "eca_conv" not in config["name"]}
    return {
        "blocks": {place: _widths(block) for place, block in graph.blocks.items()},
        "stem": stem,
        "stem_norm": bool({"bn", "gn"} & graph.stem.keys()),
        "stem_pool": "pool_conv" in graph.stem,
        "shortcut": _shortcut(graph) in ("pad", None),
        "preactivation": "preact_relu" in parts,
        "attention": "se" if "se_conv1" in parts else "eca" if "eca_conv" in parts else None,
        "norm": "group" if any(kind == _NORMS[1] for _, kind, _ in graph.layers) else "batch",
        "conv_bias": "unnormalized" if len(biases) > 1 else "all" if biases == {True} else "none",
    }


def _widths(block):
    convs = [block[part][1] for part in ("conv1", "conv2", "conv3") if part in block]
    return tuple(conv["filters"] for conv in convs), convs[-2].get("groups", 1) if len(convs) > 2 else 1


def shown_traits_of(row: Variant) -> dict:
    """What `shown_traits` finds in the network of a row."""
    blocks = {}
    for stage, (reps, filters) in enumerate(row.stages, start=1):
        for block in range(1, reps + 1):
            seen = row.block_row(stage, block)
            basic = seen.block == "basic"
            widths = (filters // row.reduce_first, filters) if basic else seen.channels(filters)
            blocks[stage, block] = widths, 1 if basic else row.cardinality
    stem = (row.stem_filters,) if isinstance(row.stem_filters, int) else row.stem_filters
    return {
        "blocks": blocks,
        "stem": tuple((filters, 7 if row.stem == "conv7" else 3) for filters in stem),
        "stem_norm": row.stem_norm and not row.preactivation,
        "stem_pool": row.stem_pool == "conv",
        "shortcut": row.shortcut == "pad",
        "preactivation": row.preactivation,
        "attention": row.attention,
        "norm": row.norm,
        "conv_bias": row.conv_bias,
    }


def differences(found: dict, wanted: dict) -> list[str]:
    """Where two results of `hidden_traits` differ, in words."""
    return [
        f"{name}={found[name]!r} instead of {value!r}"
        for name, value in wanted.items()
        # A network without blocks that stride, say, fits any choice of where they would.
        if found[name] != value and (name == "stem_pool" or None not in (found[name], value))
    ]
