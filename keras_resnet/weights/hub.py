"""The ``config.json`` that timm writes beside the weights on Hugging Face. Standard library only."""

from __future__ import annotations

import json
import os

from keras_resnet.weights.records import Transform

_ENDINGS = (".safetensors", ".bin", ".pth", ".pt", ".th", ".h5", ".keras")
# What Hugging Face calls weights; the configuration belongs to these, or to the only weights in a folder.
_NAMES = ("model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
_MAX_BYTES = 1 << 20


def hub_config(path: str) -> dict:
    """What the configuration beside a weight file says; empty if there is none, or none of timm's."""
    folder, name = os.path.split(os.path.abspath(path))
    file = os.path.join(folder, "config.json")
    if not os.path.isfile(file) or os.path.getsize(file) > _MAX_BYTES:
        return {}
    if name not in _NAMES and sum(entry.endswith(_ENDINGS) for entry in os.listdir(folder)) > 1:
        return {}
    try:
        with open(file, encoding="utf-8") as content:
            config = json.load(content)
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) and isinstance(config.get("architecture"), str) else {}


def hub_transform(config: dict) -> Transform | None:
    """How images are prepared for the network of a `hub_config`, if it says so."""
    known = config.get("pretrained_cfg")
    if not isinstance(known, dict):
        return None
    try:
        size = known.get("test_input_size") or known["input_size"]
        return Transform(
            size=int(size[-1]),
            crop_fraction=float(known.get("test_crop_pct") or known["crop_pct"]),
            interpolation=known["interpolation"],
            antialias=True,
            mean=tuple(map(float, known["mean"])),
            std=tuple(map(float, known["std"])),
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return None
