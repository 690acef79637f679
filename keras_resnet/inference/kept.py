"""What was fused for a model, kept as long as the model and its weights stay what they are."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.inference.fuse import FusedModel

_KEPT: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def keep(model: keras.Model, key, make: Callable[[], FusedModel]) -> Callable:
    """Return ``make().function``, the same for each call until a weight of `model` changes.

    Args:
        model: It is not kept alive by this.
        key: What else the result depends on.
        make: Fuses `model`.
    """
    kept = _KEPT.setdefault(model, {})
    if key not in kept or not kept[key].is_current(model):
        kept[key] = _Kept(model, make())
    return kept[key].function


class _Kept:
    """The function of a fused model, and the values of the weights that are constants in it.

    The values are the variables' own buffers, not copies: TensorFlow gives a variable another buffer when
    it is assigned while somebody else holds its value. On the CPU, comparing addresses says exactly
    and in microseconds whether any weight was assigned.
    """

    def __init__(self, model, fused):
        # Not the fused model itself, which holds the model and would keep it alive.
        self.function, self._store = fused.function, fused.store
        self._weights = list(model.weights)
        variables = [weight.value for weight in self._weights if weight.shape.num_elements() != 0]

        def read():
            return [_value(variable) for variable in variables]

        def equal(values):
            return tf.reduce_all([tf.reduce_all(a == b) for a, b in zip(read(), values, strict=True)])

        self._read = tf.function(read, autograph=False).get_concrete_function()
        self._equal = tf.function(equal, autograph=False)
        self._values = self._read()
        self._on_cpu = all(value.device.endswith("CPU:0") for value in self._values)
        self._addresses = list(map(_address, self._values)) if self._on_cpu else []

    def is_current(self, model) -> bool:
        weights = model.weights
        if len(weights) != len(self._weights) or any(
            a is not b for a, b in zip(weights, self._weights, strict=True)
        ):
            return False
        if self._on_cpu:
            return list(map(_address, self._read())) == self._addresses
        return bool(self._equal(self._values))


def _value(variable):
    """The value, as integers where Python's buffers do not know its type: bfloat16, float8."""
    value = tf.convert_to_tensor(variable)
    if not value.dtype.is_floating or value.dtype in (tf.float16, tf.float32, tf.float64):
        return value
    return tf.bitcast(value, {1: tf.uint8, 2: tf.uint16}[value.dtype.size])


def _address(tensor) -> int:
    return np.asarray(memoryview(tensor)).__array_interface__["data"][0]
