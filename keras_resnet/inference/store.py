"""What the operations of a lowered model hold: weights as constants, and layers that compute themselves."""

from __future__ import annotations

import zlib

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_resnet.copying import copy_layer, is_stock, parts_of

# A graph of constants is one protocol buffer, which ends at two GB.
MAX_CONSTANTS = 2_000_000_000


class Store(tf.Module):
    """What the operations of one model hold, as tensors.

    Attributes:
        dtype: In which convolutions compute.
        big: Weights that are no constants, because all together would make the graph too large.
        seeds: What random generators go on from.
        tables: Layers with lookup tables, which a SavedModel must find.
    """

    def __init__(self, model: keras.Model, dtype: str):
        super().__init__(name="store")
        self.dtype = tf.as_dtype(dtype)
        self.big: dict[str, tf.Variable] = {}
        self.seeds: dict[str, tf.Variable] = {}
        self.tables: dict[str, layers.Layer] = {}
        self._copies = _Untracked()
        size = sum(int(np.prod(v.shape)) for v in model.weights) * tf.float32.size
        self._fits_graph = size < MAX_CONSTANTS

    def constant(self, name: str, values: np.ndarray, dtype=None) -> tf.Tensor:
        """The weights `values` as a tensor, by default in the dtype of the computation."""
        # Converted here: TensorFlow would do it again at each call for more than 100 kB.
        values = np.asarray(values).astype((dtype or self.dtype).as_numpy_dtype)
        if self._fits_graph:
            return tf.constant(values)
        # A layer in two places may be folded in two ways.
        name = f"{name} {zlib.crc32(values.tobytes())}"
        if name not in self.big:
            with tf.init_scope():
                self.big[name] = tf.Variable(values, trainable=False)
        return tf.convert_to_tensor(self.big[name])

    def call(self, layer: layers.Layer, name: str, args, kwargs):
        """Compute what the layer itself computes, now and whatever happens to it later.

        It computes in float32 if it has weights, and else in the dtype of its input. Layers for
        which that is another dtype than their own are copied for it, if they can be.
        """
        first = next(x for x in keras.tree.flatten((args, kwargs)) if tf.is_tensor(x))
        dtype = first.dtype.name if first.dtype.is_floating and not layer.variables else "float32"
        layer = self._in_dtype(layer, name, dtype)
        seeds = {id(v) for part in parts_of(layer) for v in (s.state for s in part._seed_generators)}
        values = {}
        for i, v in enumerate(layer.variables):
            read = self._seed if id(v) in seeds else self._weight
            values[id(v)] = (v, read(f"{name}/{i}", v))
        if any(hasattr(part, "save_assets") for part in parts_of(layer)):
            self.tables[name] = layer
        with keras.StatelessScope(list(values.values()), initialize_variables=False) as scope:
            outputs = layer(*args, **kwargs)
        for i, v in enumerate(layer.variables):
            if id(v) in seeds:
                self.seeds[f"{name}/{i}"].assign(scope.get_current_value(v))
        return outputs

    def _in_dtype(self, layer, name, dtype):
        key = f"{name} {dtype}"
        if key not in self._copies:
            own = {part.compute_dtype for part in parts_of(layer)}
            differs = any(tf.as_dtype(d).is_floating and d != dtype for d in own)
            self._copies[key] = _copy(layer, dtype) if differs and is_stock(layer) else layer
        return self._copies[key]

    def _weight(self, name, variable):
        with tf.init_scope():  # out of the graph that is being traced
            values = keras.ops.convert_to_numpy(variable)
        return self.constant(name, values, tf.as_dtype(variable.dtype))

    def _seed(self, name, variable):
        if name not in self.seeds:
            with tf.init_scope():
                self.seeds[name] = tf.Variable(keras.ops.convert_to_numpy(variable), trainable=False)
        return self.seeds[name].read_value()


class _Untracked(dict):
    """A dictionary into which a SavedModel does not look: it would store the layers' weights too."""


def _copy(layer, dtype):
    try:
        with tf.init_scope():
            return copy_layer(layer, dtype)
    # Such as one with an activation that is a function of somebody.
    except (TypeError, ValueError):
        return layer
