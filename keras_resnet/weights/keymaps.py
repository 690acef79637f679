"""What each library calls the layers of a ResNet, as data.

A layout maps the names of our layers to theirs. Inside a stage our names are
``stage{s}_block{b}_{part}``; in the templates ``{s}`` and ``{b}`` are one-based and ``{s0}`` and
``{b0}`` zero-based. Group and batch normalisation share their names everywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import keras

from keras_resnet.graphs import leaves
from keras_resnet.nearest import suggest

HEAD = "head"
# The layout of our own names.
OWN = "keras_resnet"
TORCH_WEIGHTS = {
    "kernel": ".weight",
    "bias": ".bias",
    "gamma": ".weight",
    "beta": ".bias",
    "moving_mean": ".running_mean",
    "moving_variance": ".running_var",
}
KERAS_WEIGHTS = {name: f"/{name}" for name in TORCH_WEIGHTS}


@dataclass(frozen=True)
class Layout:
    """How one library names layers and weights.

    Attributes:
        layers: Our layer outside of the stages -> their layer.
        parts: Our part of a block -> a template of their layer.
        pooled: Replaces some `parts` in networks whose projections average first.
        weights: Our weight -> what they append to the name of its layer; kernels are stored as
            torch does with `TORCH_WEIGHTS`.
        conv_head: Their head is a 1x1 convolution.
    """

    layers: dict[str, str]
    parts: dict[str, str]
    pooled: dict[str, str] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=lambda: TORCH_WEIGHTS)
    conv_head: bool = False

    @property
    def head(self) -> str:
        """What the keys of their head begin with."""
        return self.layers[HEAD] + self.weights["kernel"][0]


_TIMM = Layout(
    layers={
        "stem_conv": "conv1",
        "stem_bn": "bn1",
        "stem_conv1": "conv1.0",
        "stem_bn1": "conv1.1",
        "stem_conv2": "conv1.3",
        "stem_bn2": "conv1.4",
        "stem_conv3": "conv1.6",
        "stem_pool_conv": "maxpool.0",
        "stem_pool_bn": "maxpool.1",
        "head": "fc",
    },
    parts={
        **{f"{part}{n}": f"layer{{s}}.{{b0}}.{part}{n}" for part in ("conv", "bn") for n in (1, 2, 3)},
        "proj_conv": "layer{s}.{b0}.downsample.0",
        "proj_bn": "layer{s}.{b0}.downsample.1",
        "se_conv1": "layer{s}.{b0}.se.fc1",
        "se_conv2": "layer{s}.{b0}.se.fc2",
        "eca_conv": "layer{s}.{b0}.se.conv",
    },
    pooled={
        "proj_conv": "layer{s}.{b0}.downsample.1",
        "proj_bn": "layer{s}.{b0}.downsample.2",
    },
)

_TIMM_V2 = Layout(
    layers={
        "stem_conv": "stem.conv",
        "stem_conv1": "stem.conv1",
        "stem_bn1": "stem.norm1",
        "stem_conv2": "stem.conv2",
        "stem_bn2": "stem.norm2",
        "stem_conv3": "stem.conv3",
        "head_bn": "norm",
        "head": "head.fc",
    },
    parts={
        **{f"conv{n}": f"stages.{{s0}}.blocks.{{b0}}.conv{n}" for n in (1, 2, 3)},
        "preact_bn": "stages.{s0}.blocks.{b0}.norm1",
        "bn1": "stages.{s0}.blocks.{b0}.norm2",
        "bn2": "stages.{s0}.blocks.{b0}.norm3",
        "proj_conv": "stages.{s0}.blocks.{b0}.downsample.conv",
    },
    conv_head=True,
)

_AKAMASTER = Layout(
    layers={"stem_conv": "conv1", "stem_bn": "bn1", "head": "linear"},
    parts=_TIMM.parts
    | {"proj_conv": "layer{s}.{b0}.shortcut.0", "proj_bn": "layer{s}.{b0}.shortcut.1"},  # its option B
)

# keras.applications counts the stem as its first stage. Their "0" is the projection.
_KERAS = Layout(
    layers={
        "stem_conv": "conv1_conv",
        "stem_bn": "conv1_bn",
        "head_bn": "post_bn",
        "head": "predictions",
    },
    parts={
        **{f"conv{n}": f"conv{{s1}}_block{{b}}_{n}_conv" for n in (1, 2, 3)},
        **{f"bn{n}": f"conv{{s1}}_block{{b}}_{n}_bn" for n in (1, 2, 3)},
        "preact_bn": "conv{s1}_block{b}_preact_bn",
        "proj_conv": "conv{s1}_block{b}_0_conv",
        "proj_bn": "conv{s1}_block{b}_0_bn",
    },
    weights=KERAS_WEIGHTS,
)

# Our own names, of which `layer_keys` changes none.
_OWN = Layout(layers={HEAD: HEAD}, parts={}, weights=KERAS_WEIGHTS)

LAYOUTS: dict[str, Layout] = {
    "timm": _TIMM,  # and torchvision, which names the same layers the same
    "timm_v2": _TIMM_V2,
    "akamaster": _AKAMASTER,
    "keras": _KERAS,
    OWN: _OWN,
}
ALIASES = {"torchvision": "timm", "keras_v1": "keras", "keras_v2": "keras"}

_BLOCK_LAYER = re.compile(r"stage(\d+)_block(\d+)_(.+)")


def layer_keys(model: keras.Model, layout: str) -> dict[str, str]:
    """Our layers that hold weights -> what `layout` calls them.

    Raises:
        ValueError: the layout is unknown, or has no name for a layer of `model`.
    """
    rules = get_layout(layout)
    names = [layer.name for layer in leaves(model) if layer.weights]
    if rules is _OWN:
        return {name: name for name in names}
    parts = rules.parts
    if any(layer.name.endswith("_proj_avg") for layer in leaves(model)):
        parts = parts | rules.pooled
    keys = {name: _key(name.replace("_gn", "_bn"), rules.layers, parts) for name in names}
    if unknown := [name for name, key in keys.items() if key is None]:
        raise ValueError(f"the layout {layout!r} has no name for {unknown[0]!r} of {model.name!r}.")
    return keys


def _key(name, layers, parts):
    if not (match := _BLOCK_LAYER.fullmatch(name)):
        return layers.get(name)
    s, b = int(match[1]), int(match[2])
    template = parts.get(match[3])
    return template and template.format(s=s, b=b, s0=s - 1, b0=b - 1, s1=s + 1)


def get_layout(name: str) -> Layout:
    """The layout of that name or alias."""
    name = ALIASES.get(name, name)
    if name not in LAYOUTS:
        known = [*LAYOUTS, *ALIASES]
        hint = suggest(name, known, f"choose one of {', '.join(known)}.")
        raise ValueError(f"there is no layout {name!r}; {hint}")
    return LAYOUTS[name]
