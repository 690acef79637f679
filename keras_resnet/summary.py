"""What a model looks like inside: its stages as tensors, and as a table."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import keras

from keras_resnet import arguments
from keras_resnet.graphs import functional_model

_STAGE = re.compile(r"(stem|stage\d+)_")
_BLOCK = re.compile(r"stage(\d+)_block(\d+)_")


def stage_outputs(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The output of the last block of each stage, as ``{"stage1": tensor, ...}``, in order.

    With preactivation that is the sum, before the normalisation of the next block.
    """
    last = {}
    for layer in arguments.model("model", model).layers:
        if (match := _BLOCK.match(layer.name)) and layer.name.endswith("_out"):
            stage, block = map(int, match.groups())
            if block >= last.get(stage, (0, None))[0]:
                last[stage] = (block, layer.output)
    return {f"stage{stage}": last[stage][1] for stage in sorted(last)}


def features(model: keras.Model, stages=(1, 2, 3, 4)) -> keras.Model:
    """A model that returns the feature maps of the given stages.

    Args:
        model: A model of this package.
        stages: Numbers of stages, one-based.

    Returns:
        A model with the weights of `model` and the outputs
        ``{"stage1": (batch, height, width, channels), ...}``.

    Raises:
        ValueError: the model has no such stage.
    """
    outputs = stage_outputs(model)
    stages = stages if hasattr(stages, "__iter__") else [stages]
    wanted = [f"stage{arguments.whole('a number of stages', number)}" for number in stages]
    if not wanted or (missing := [name for name in wanted if name not in outputs]):
        asked = ", ".join(missing) if wanted else "none"
        raise ValueError(f"{model.name!r} has {', '.join(outputs) or 'no stages'}; asked for {asked}.")
    return functional_model(
        model.input, {name: outputs[name] for name in wanted}, name=f"{model.name}_features"
    )


@dataclass(frozen=True)
class Row:
    """One line of a shape table; `macs` is for one image, ``None`` where the size is open."""

    stage: str
    output_shape: tuple[int | None, ...]
    parameters: int
    macs: int | None


def shape_table(model: keras.Model) -> list[Row]:
    """Per stage: the output shape, the parameters and the multiply-adds for one image.

    Multiply-adds are those of convolutions and dense layers, as the papers count them;
    normalisation, activation and pooling are left out.

    Returns:
        Rows for the input, the stem, each stage, the head, and a row of totals.
    """
    groups: dict[str, list] = {}
    for layer in arguments.model("model", model).layers:
        part = _STAGE.match(layer.name)
        # What a head's layers are called is up to whoever built it.
        group = part[1] if part else "head" if "stem" in groups else "input"
        groups.setdefault(group, []).append(layer)
    rows = [
        Row(
            group,
            tuple(layers[-1].output.shape[1:]),
            sum(layer.count_params() for layer in layers),
            _sum(_macs(layer) for layer in layers),
        )
        for group, layers in groups.items()
    ]
    total = Row("total", tuple(model.output.shape[1:]), model.count_params(), _sum(row.macs for row in rows))
    return [*rows, total]


def format_table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    cells = [("stage", "output shape", "parameters", "multiply-adds")]
    for row in rows:
        shape = " x ".join("?" if n is None else str(n) for n in row.output_shape)
        cells.append((row.stage, shape, f"{row.parameters:,}", "?" if row.macs is None else f"{row.macs:,}"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _macs(layer):
    if not isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
        return 0
    positions = layer.output.shape[1:-1]
    return None if None in positions else math.prod(layer.kernel.shape) * math.prod(positions)


def _sum(values):
    values = list(values)
    return None if None in values else sum(values)
