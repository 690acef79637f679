"""How the images were prepared on which the weights in a file were trained, as far as that can be known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_resnet.weights.claims import KERAS_ROWS
from keras_resnet.weights.fetch import is_good, published_digest
from keras_resnet.weights.hub import hub_config, hub_transform
from keras_resnet.weights.records import Record, Transform, get_record, list_records
from keras_resnet.weights.tensors import Tensor, WeightFile

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def find_transform(path: str, by_keras: bool, tensors: dict[str, Tensor]) -> Transform | None:
    """The transform that belongs to a file; ``None`` if nothing tells.

    A file has it that is called as the file of a record is (and has its checksum, where one is
    published), that lies next to timm's ``config.json``, or that keras.applications wrote.

    Args:
        path: Of the file.
        by_keras: Whether Keras wrote it.
        tensors: By name.
    """
    if (record := record_of(path)) is not None:
        return record.transform
    if (transform := hub_transform(hub_config(path))) is not None:
        return transform
    layers = {key.rpartition("/")[0].rpartition("/")[2] for key in tensors}
    if by_keras and "conv1_conv" in layers:
        # Their networks without a norm in the stem activate before their convolutions.
        return get_record(f"keras/{KERAS_ROWS['conv1_bn' not in layers][0]}").transform
    return None


def record_of(path: str) -> Record | None:
    """The record whose file this is, by its name and its published checksum."""
    name = os.path.basename(path)
    for record in map(get_record, list_records()):
        digest = published_digest(record.sha256, record.md5)
        if record.file == name and (digest is None or is_good(Path(path), digest)):
            return record
    return None


@dataclass(frozen=True)
class Preparation:
    """How images are prepared for the weights in a file.

    Attributes:
        mean: Of red, green and blue on the scale of 0 to 1.
        std: Likewise.
        size: Side of the input in pixels; ``None`` for the variant's own.
        reason: How that is known.
        known: Whether the file, or what belongs to it, says so.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | None
    reason: str
    known: bool = True


def find_preparation(path: str, file: WeightFile, variant: str) -> Preparation:
    """How images are prepared for a file with weights of `variant`.

    Where nothing tells, as the published weights of the variant take them if these agree, and else
    with ImageNet's mean and standard deviation.
    """
    if (transform := find_transform(path, file.by_keras, file.tensors)) is not None:
        reason = "as published with these weights"
        return Preparation(transform.mean, transform.std, transform.size, reason)
    if scale := _normalization_in(file.layers):
        return Preparation(*scale, None, "as the model in the file does it")
    published = {
        (record.transform.mean, record.transform.std) for record in map(get_record, list_records(variant))
    }
    if len(published) == 1:
        return Preparation(*published.pop(), None, f"as for all published weights of {variant!r}", False)
    return Preparation(IMAGENET_MEAN, IMAGENET_STD, None, "which are ImageNet's", False)


def _normalization_in(layers):
    """``(mean, std)`` of the layer that `normalize` puts in front of a model, from a .keras file."""
    for name, kind, config in layers or ():
        if (name, kind) == ("normalize", "Rescaling"):
            scale, offset = (np.ravel(np.asarray(config[key], np.float64)) for key in ("scale", "offset"))
            std = 1 / (255 * scale)
            return tuple(map(float, -offset * std)), tuple(map(float, std))
    return None
