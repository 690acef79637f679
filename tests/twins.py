"""Shallow twins: what the golden outputs of other libraries are made for, and compared with.

A twin has the blocks of its variant, at most two in a stage, and fewer filters. `tools/make_golden.py`
builds it in timm, with `synthetic_tensor` weights; `test_parity.py` builds it here, with the same.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from test_table import shallow

from keras_resnet.inference.references import references

GOLDEN = Path(__file__).with_name("golden") / "outputs.json"
CLASSES = 10
SIZES = (64, 75)
NAMES = references("timm")


def twin(name):
    """The row of the twin of a variant, as timm can build it."""
    row = shallow(name)
    if row.stem == "conv7" and not row.preactivation:
        # timm's stem of one convolution has 64 channels always; as many in a first stage of
        # basic blocks leave its shortcut an identity, as it is in the variant.
        block = row.block if isinstance(row.block, str) else row.block[0]
        first = 64 if block == "basic" else row.stages[0][1]
        row = replace(row, stem_filters=64, stages=((row.stages[0][0], first), *row.stages[1:]))
    return row


def images(size):
    """Noise that depends on the size only, float32, ``(1, size, size, 3)``."""
    # No distribution of numpy's: those may change between releases.
    raw = np.random.PCG64(size).random_raw(size * size * 3) >> np.uint64(40)
    return (raw.astype(np.float32) * np.float32(2**-22) - 2).reshape(1, size, size, 3)


def numbers(outputs):
    """What is kept of ``{"stage1": (1, height, width, channels), ..., "logits": (1, classes)}``.

    Returns:
        All logits; and of each stage the mean, the mean of the absolute values, and the means
        over the channels of three pixels: the first, the middle one and the last. (Single
        elements would be zero half the time, after a ReLU.)
    """
    outputs = dict(outputs)
    logits = np.asarray(outputs.pop("logits"))[0].tolist()
    return {"logits": logits, "stages": [_of_stage(np.asarray(outputs[key])[0]) for key in sorted(outputs)]}


def _of_stage(features):
    pixels = features.mean(axis=2, dtype=np.float64)
    middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]
    return [pixels.mean(), np.abs(features).mean(dtype=np.float64), pixels[0, 0], middle, pixels[-1, -1]]


def read_golden():
    """``{variant: {size: what `numbers` returns}}``, without the sizes that timm cannot take."""
    return json.loads(GOLDEN.read_text())
