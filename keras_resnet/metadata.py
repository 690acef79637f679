"""What no weight of a model says: how images become its input, and what its classes are called.

Each fact belongs to the layer whose meaning it states: the geometry to the layer that takes the
images, the class names to the layers from the last weights to the output. A model that is built on
these layers knows what they know; one with a new head has no names that are not its own.

In a file the facts stand in the layers' ``build_config``, so that whatever saves the model saves them:
``model.save``, Keras's ``ModelCheckpoint``, a model around this one. Plain Keras reads such a file and
passes over them.
"""

from __future__ import annotations

import json
import types
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import keras

from keras_resnet.transform import Geometry

KEY = "keras_resnet"


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What is known of a model beside its graph; ``None`` where nothing is.

    Attributes:
        class_names: One for each class; a single output stands for two.
        geometry: How images are resized and cropped.
    """

    class_names: tuple[str, ...] | None = None
    geometry: Geometry | None = None


def attach_metadata(model: keras.Model, *, class_names=None, geometry: Geometry | None = None) -> keras.Model:
    """Attach facts to the layers of `model`, in place; what is not given stays as it was.

    Args:
        model: A Functional or Sequential model that is built.
        class_names: One for each class; a single output stands for two.
        geometry: How its images are resized and cropped.

    Raises:
        ValueError: there are more or fewer names than classes.
    """
    if class_names is not None:
        names = tuple(map(str, class_names))
        if len(names) == 1:
            raise ValueError(f"a single class, {names[0]!r}, leaves {model.name!r} nothing to tell apart.")
        if not _fits(names, model):
            classes = max(model.output_shape[-1], 2)
            raise ValueError(f"{len(names)} class names for the {classes} classes of {model.name!r}.")
        for layer in _head(model):
            _attach(layer, replace(_attached(layer), class_names=names))
    if geometry is not None:
        layer = model.inputs[0]._keras_history.operation
        _attach(layer, replace(_attached(layer), geometry=geometry))
    return model


def metadata_of(model: keras.Model) -> Metadata:
    """What `attach_metadata`, or the file that the model was opened from, says about it."""
    names = next((found for layer in _head(model) if (found := _attached(layer).class_names)), None)
    # Weights of a file can have come without its head.
    names = names if names and _fits(names, model) else None
    geometries = (_attached(layer).geometry for layer in _input_layers(model))
    return Metadata(class_names=names, geometry=next(filter(None, geometries), None))


def restore_metadata(model: keras.Model, path) -> keras.Model:
    """Attach to a model that Keras has loaded from the ``.keras`` file `path` what the file knows.

    Raises:
        ValueError: the facts in the file are not what `attach_metadata` writes.
    """
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    try:
        _restore(model, config)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: the {KEY!r} entries of its config.json are damaged: {error}") from error
    return model


def _restore(model, config):
    layers = {layer.name: layer for layer in (*model._layers, *model.layers)}
    for entry in config["config"].get("layers", ()):
        layer = layers.get(entry["config"]["name"])
        if isinstance(layer, keras.Model):
            _restore(layer, entry)
        facts = (entry.get("build_config") or {}).get(KEY)
        if layer is not None and facts:
            _attach(layer, _from_json(facts))


def _from_json(facts):
    names, geometry = facts.get("class_names"), facts.get("geometry")
    if names is not None and not all(isinstance(name, str) for name in names):
        raise ValueError("class_names must be text.")
    return Metadata(
        class_names=None if names is None else tuple(names),
        geometry=None if geometry is None else Geometry(**geometry),
    )


def _fits(names, model):
    # One sigmoid unit tells two classes apart.
    return len(names) == max(model.output_shape[-1], 2)


def _attached(layer) -> Metadata:
    return getattr(layer, "_keras_resnet_metadata", Metadata())


def _attach(layer, metadata: Metadata):
    layer._keras_resnet_metadata = metadata
    layer.get_build_config = types.MethodType(_build_config, layer)


def _build_config(layer):
    facts = {key: value for key, value in asdict(_attached(layer)).items() if value is not None}
    return (type(layer).get_build_config(layer) or {}) | {KEY: facts}


def _head(model) -> Iterator[keras.Layer]:
    """The layers from the output back to the last one with weights, nested models opened."""
    # A Sequential that is not built has no such attribute.
    outputs = getattr(model, "outputs", None) or ()
    if len(outputs) != 1:
        return
    (tensor,) = outputs
    while True:
        operation, node, _ = tensor._keras_history
        if isinstance(operation, keras.Model):
            yield from _head(operation)
            return
        if isinstance(operation, keras.Layer):
            yield operation
        inputs = operation._inbound_nodes[node].input_tensors
        if getattr(operation, "weights", ()) or len(inputs) != 1:
            return
        tensor = inputs[0]


def _input_layers(model) -> Iterator[keras.Layer]:
    for tensor in getattr(model, "inputs", None) or ():
        yield tensor._keras_history.operation
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _input_layers(layer)
