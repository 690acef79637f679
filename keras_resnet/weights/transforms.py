"""How the images were prepared on which the weights in a file were trained, as far as that can be known."""

from __future__ import annotations

import os
from pathlib import Path

from keras_resnet.weights.claims import KERAS_ROWS
from keras_resnet.weights.fetch import is_good, published_digest
from keras_resnet.weights.hub import hub_config, hub_transform
from keras_resnet.weights.records import Record, Transform, get_record, list_records
from keras_resnet.weights.tensors import Tensor


def find_transform(path: str, legacy: bool, tensors: dict[str, Tensor]) -> Transform | None:
    """The transform that belongs to a file; ``None`` if nothing tells.

    A file has it that is called as the file of a record is (and has its checksum, where one is
    published), that lies next to timm's ``config.json``, or that keras.applications wrote.

    Args:
        path: Of the file.
        legacy: Whether Keras 2, or keras.applications, wrote it.
        tensors: By the names of the network, without a prefix.
    """
    if (record := record_of(path)) is not None:
        return record.transform
    if (transform := hub_transform(hub_config(path))) is not None:
        return transform
    if legacy and "conv1_conv/kernel" in tensors:
        return get_record(f"keras/{KERAS_ROWS['conv1_bn/gamma' not in tensors][0]}").transform
    return None


def record_of(path: str) -> Record | None:
    """The record whose file this is, by its name and its published checksum."""
    name = os.path.basename(path)
    for record in map(get_record, list_records()):
        digest = published_digest(record.sha256, record.md5)
        if record.file == name and (digest is None or is_good(Path(path), digest)):
            return record
    return None
