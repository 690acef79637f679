"""Copies of layers and models that compute what the original computes.

A configuration and the list of weights are not all of a layer: an adapted `Normalization` keeps
what it computes with elsewhere, lookups keep their tables, LoRA adds weights, `quantize` replaces
them. A layer's own way to save itself knows all of this, so that is what a copy goes through.
"""

from __future__ import annotations

import tempfile
import types
from collections.abc import Callable

import keras

from keras_resnet.graphs import deep_graphs

# Keras wraps these two on every instance.
_WRAPPED_BY_KERAS = {"build", "quantize"}
_FLOATS = ("float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16")


def own_methods(layer) -> dict[str, Callable]:
    """Return the methods that were bound to this instance alone.

    Without those of this package, the kernels of `accelerate` for example: they change no result.
    """
    return {
        name: value
        for name, value in vars(layer).items()
        if callable(value)
        and hasattr(type(layer), name)
        and name not in _WRAPPED_BY_KERAS
        and not _module_of(value).startswith("keras_resnet.")
    }


def _module_of(method):
    return getattr(getattr(method, "__func__", method), "__module__", None) or ""


def is_stock(layer: keras.layers.Layer) -> bool:
    """Whether a layer and all layers in it are of Keras or this package, with no methods of their own.

    Configuration and saved state then say all about it. They do not for a `Lambda`.
    """
    return all(
        type(part).__module__.partition(".")[0] in ("keras", "keras_resnet")
        and not isinstance(part, keras.layers.Lambda)
        and not own_methods(part)
        for part in parts_of(layer)
    )


def parts_of(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the layer and all layers in it, in an order that its copies share."""
    return layer._flatten_layers()


def copy_layer(layer, dtype: str | None = None):
    """Return a new layer that computes what `layer` does.

    Weights, seeds, lookup tables, adapted statistics and methods bound to the instance come along.
    Kernels of `accelerate` do not: call it on the copy.

    Args:
        layer: A Keras layer, built or not, or an operation of `keras.ops`.
        dtype: Compute and keep floating-point weights in this dtype; by default as `layer` does.
            Quantized layers stay quantized.

    Raises:
        TypeError: the layer cannot be made from its configuration; or ValueError, by Keras.
    """
    if not isinstance(layer, keras.layers.Layer):
        return type(layer).from_config(layer.get_config())
    config = layer.get_config()
    classes = {type(part).__name__: type(part) for part in parts_of(layer) if not is_stock(part)}
    with keras.saving.custom_object_scope(classes):
        copy = type(layer).from_config(config if dtype is None else _with_dtype(config, dtype))
        if layer.built:
            copy.build_from_config(layer.get_build_config())
    for old, new in zip(parts_of(layer), parts_of(copy), strict=True):
        _copy_state(old, new)
    return copy


def copy_model(model: keras.Model, copy: Callable = copy_layer, inputs=None, call=None) -> keras.Model:
    """Return a new Functional or Sequential model of copied layers; nested models are copied too.

    Args:
        model: The model. It stays as it is.
        copy: From a layer to the layer that takes its place.
        inputs: Keras tensors to build on, in the structure of ``model.input``; by default new ones.
        call: Calls a new layer on its arguments, as ``call(layer, *args, **kwargs)``.
    """
    with deep_graphs():
        return keras.models.clone_model(model, inputs, copy, call, recursive=True)


def _copy_state(old, new):
    variables = {}
    old.save_own_variables(variables)
    new.load_own_variables(variables)
    if hasattr(old, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)
    for ours, theirs in zip(old._seed_generators, new._seed_generators, strict=True):
        theirs.state.assign(ours.state)
    for name, method in own_methods(old).items():
        bound = getattr(method, "__self__", None) is old
        setattr(new, name, types.MethodType(method.__func__, new) if bound else method)


def _with_dtype(config, dtype, keys=("dtype",)):
    """Replace the floating-point dtypes of a configuration and of all that it holds."""
    if isinstance(config, list | tuple):
        return type(config)(_with_dtype(value, dtype, keys) for value in config)
    if not isinstance(config, dict):
        return config
    if "DTypePolicy" in str(config.get("class_name")):
        keys = ("name", "source_name")
    return {
        key: dtype if key in keys and value in _FLOATS else _with_dtype(value, dtype, keys)
        for key, value in config.items()
    }
