"""The ``.keras`` and ``.weights.h5`` files of Keras 3: weights by the names of layers, the graph as data."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import h5py

from keras_resnet.weights.h5_files import MAX_DEPTH, check_heaps, describe, open_child, text_attribute
from keras_resnet.weights.tensors import WeightFile, WeightsError, shown

# What Keras numbers, in its order.
_NORM_WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")
_OTHER_WEIGHTS = ("kernel", "bias")
# Beside the layers in such a file.
_TRAINING = ("optimizer", "metrics")
# The configuration of ResNet-1202 has 4 MB.
MAX_CONFIG = 32 << 20


def open_weights_h5(path: str) -> WeightFile:
    """The tensors of a ``.weights.h5`` file; raises `WeightsError`."""
    tensors, kinds = _read(path, path)
    return WeightFile(tensors, kinds=kinds, by_keras=True)


def open_keras(path: str, folder: str) -> WeightFile:
    """The tensors of a ``.keras`` file, which are extracted to `folder`; raises `WeightsError`.

    Its configuration is read as JSON, to compare networks; nothing that it names is built.
    """
    tensors, kinds = _read(_extract(path, folder), path)
    try:
        layers = tuple(_layers(json.loads(_member(path, "config.json", MAX_CONFIG)), set()))
    except (ValueError, TypeError, KeyError, AttributeError, WeightsError):
        layers = None  # The weights do not need it, and their names tell what the graph would.
    return WeightFile(tensors, layers=layers, kinds=kinds, by_keras=True)


def _member(path, name, limit):
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(name)
        if member.file_size > limit:
            raise WeightsError(f"{path}: {name} in it has {member.file_size} bytes; {limit} are read.")
        return archive.read(member)


def _extract(path, folder) -> str:
    """The weights in a .keras file as a file of their own."""
    name = "model.weights.h5"
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(name)
            # Keras stores; what is compressed could grow without bounds.
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > os.path.getsize(path):
                raise WeightsError(f"{path}: {name} in it is compressed, which Keras does not do.")
            with archive.open(member) as source, open(Path(folder, name), "wb") as target:
                shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(f"{path}: is no whole .keras file of Keras 3: {error}") from error
    return str(Path(folder, name))


def _layers(config, seen, depth=0):
    """Name, class and configuration of each layer in a model's configuration, nested models opened."""
    if depth > MAX_DEPTH or type(config) is not dict or type(config.get("config")) is not dict:
        raise ValueError("not the configuration of a layer")
    inner = config["config"]
    for key in ("layers", "layer"):  # of a model, of a wrapper such as TimeDistributed
        for layer in inner[key] if type(inner.get(key)) is list else [inner.get(key)]:
            if type(layer) is dict and "config" in layer:
                yield from _layers(layer, seen, depth + 1)
    name = inner.get("name")
    if type(name) is str and "layers" not in inner and name not in seen:
        seen.add(name)
        yield name, str(config.get("class_name")), inner


def _read(path, source):
    """``(tensors, class of each layer by its name)`` of a file with the weights of a model."""
    walk = _Walk(source)
    check_heaps(Path(path).read_bytes(), source)
    try:
        with h5py.File(path, "r") as file:
            walk.model(file, "")
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{source}: is no whole weight file of Keras 3: {error}") from error
    if not walk.tensors:
        raise WeightsError(f"{source}: holds no weights of layers, as Keras 3 saves them.")
    return walk.tensors, walk.kinds


@dataclass
class _Walk:
    """Through the groups of a file; a key is a layer's name behind those of the models around it."""

    source: str
    tensors: dict = field(default_factory=dict)
    kinds: dict = field(default_factory=dict)
    seen: set = field(default_factory=set)

    def model(self, group, prefix, depth=0):
        """A model: its ``layers``, and the models that it holds as attributes."""
        # A hard link to a group further up would be followed for ever.
        address = h5py.h5o.get_info(group.id).addr
        if address in self.seen or depth > MAX_DEPTH:
            raise WeightsError(f"{self.source}: {shown(group.name)} is linked twice, or nested too deep.")
        self.seen.add(address)
        for name in group:
            if name == "vars" or (depth == 0 and name in _TRAINING):
                continue
            child = open_child(group, name, self.source)
            if name == "layers" and isinstance(child, h5py.Group):
                for layer in child:
                    self.layer(child, layer, prefix, depth)
            elif "layers" in getattr(child, "keys", tuple)():  # `in child` alone follows links
                self.model(child, f"{prefix}{self.called(child) or name}/", depth + 1)

    def layer(self, group, number, prefix, depth):
        """A layer, which may be a model; `number` is its class and its count."""
        layer = open_child(group, number, self.source)
        if not isinstance(layer, h5py.Group):
            raise WeightsError(f"{self.source}: {shown(layer.name)} is no layer.")
        name = self.called(layer)
        # Keras numbers the layers of a class: batch_normalization_3.
        kind = re.sub(r"_\d+$", "", number)
        if name is not None:
            self.kinds[name] = kind.replace("_", "")
        if "vars" in layer.keys():  # noqa: SIM118
            self.collect(open_child(layer, "vars", self.source), name, kind, prefix)
        self.model(layer, f"{prefix}{name or number}/", depth + 1)

    def called(self, layer):
        """The name that Keras wrote beside the variables of a layer."""
        if "vars" not in layer.keys():  # noqa: SIM118
            return None
        return text_attribute(open_child(layer, "vars", self.source), "name")

    def collect(self, group, layer, kind, prefix):
        """The variables of a layer."""
        if len(group) and layer is None:
            raise WeightsError(
                f"{self.source}: {shown(group.name)} does not name its layer; save it with Keras 3.15."
            )
        names = _NORM_WEIGHTS if kind.endswith("_normalization") else _OTHER_WEIGHTS
        for number in group:
            dataset = open_child(group, number, self.source)
            where = f"{self.source}: {shown(dataset.name)}"
            known = number.isdecimal() and int(number) < len(names)
            key = f"{prefix}{layer}/{names[int(number)] if known else number}"
            if key in self.tensors or not isinstance(dataset, h5py.Dataset):
                raise WeightsError(f"{where} is a second {shown(key)}, or no array.")
            self.tensors[key] = describe(dataset, where, group.file.filename)
