"""The state of a training run as plain values and arrays, and back."""

from __future__ import annotations

import os

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.training.snapshots import Snapshot

# What Keras's own callbacks remember from epoch to epoch.
REMEMBERED = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best",),
}


def variables(model: keras.Model) -> dict[str, list]:
    """All variables that training changes; the seeds of dropout are among those of the model."""
    return {"model": model.variables, "optimizer": model.optimizer.variables}


def values(variables) -> list[np.ndarray]:
    """Their values."""
    return [np.asarray(variable.numpy()) for variable in variables]


def arrays(groups: dict[str, list]) -> dict[str, np.ndarray]:
    """The values of groups of variables, under the names that `assign` expects."""
    return {f"{group}/{i}": v for group, found in groups.items() for i, v in enumerate(values(found))}


def assign(snapshot: Snapshot, groups: dict[str, list]) -> None:
    """Give groups of variables their values, after all shapes were compared and nothing was read.

    Raises:
        ValueError: number, type or shape of the variables differs.
    """
    for group, found in groups.items():
        names = [name for name in snapshot.places if name.startswith(f"{group}/")]
        if len(names) != len(found):
            raise ValueError(f"{snapshot.path} has {len(names)} {group} variables; here are {len(found)}.")
        for i, variable in enumerate(found):
            dtype, shape, _ = snapshot.places[f"{group}/{i}"]
            if (dtype.name, shape) != (variable.dtype, tuple(variable.shape)):
                raise ValueError(
                    f"{snapshot.path} has {dtype.name} of shape {shape} for {variable.path!r}; the "
                    f"model has {variable.dtype} of shape {tuple(variable.shape)}."
                )
    for group, found in groups.items():
        for i, variable in enumerate(found):
            variable.assign(snapshot.read(f"{group}/{i}"))


def build_metrics(model: keras.Model, element_spec) -> None:
    """Make the variables of the metrics, which Keras makes while it traces the first batch.

    `element_spec` is that of the dataset. The metrics are updated with zeros meanwhile.
    """
    images, labels, _ = keras.utils.unpack_x_y_sample_weight(element_spec)
    images = tf.nest.map_structure(lambda spec: keras.KerasTensor(spec.shape, spec.dtype.name), images)
    outputs = model.compute_output_spec(images)
    labels, outputs = tf.nest.map_structure(
        lambda spec: tf.zeros([length or 1 for length in spec.shape], spec.dtype), (labels, outputs)
    )
    model.compute_loss(y=labels, y_pred=outputs)
    model.compute_metrics(None, labels, outputs)


def versions() -> dict[str, str]:
    """Of what computes, and whether oneDNN does, whose sums are others."""
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "unset")
    return {"keras": keras.__version__, "tensorflow": tf.__version__, "TF_ENABLE_ONEDNN_OPTS": onednn}


def can_remember(callback) -> bool:
    """Whether the state of a callback can be saved: it says how, or is one of Keras's above."""
    own = hasattr(callback, "get_state") and hasattr(callback, "set_state")
    return own or isinstance(callback, tuple(REMEMBERED))


def check(callback) -> None:
    """Raise ``TypeError`` for a callback whose state cannot be saved."""
    if not can_remember(callback):
        _remembered(callback)


def callback_state(callback) -> dict:
    """What `callback` remembers: its own ``get_state()``, or that of Keras's callbacks above."""
    if hasattr(callback, "get_state"):
        return callback.get_state()
    return {name: getattr(callback, name, None) for name in _remembered(callback)}


def set_callback_state(callback, state: dict) -> None:
    """Undo `callback_state`, by its own ``set_state(state)`` where it has one."""
    if hasattr(callback, "set_state"):
        callback.set_state(state)
        return
    for name in _remembered(callback):
        setattr(callback, name, state[name])


def _remembered(callback):
    for kind, names in REMEMBERED.items():
        if isinstance(callback, kind):
            return names
    raise TypeError(
        f"{type(callback).__name__} has no get_state() and set_state(state); a callback needs both for its "
        f"state to be saved, unless it is one of {', '.join(kind.__name__ for kind in REMEMBERED)}."
    )


def pack(value, arrays: dict[str, np.ndarray], where: str):
    """`value` as JSON keeps it exactly; its arrays go into `arrays` under names that begin with `where`.

    Raises:
        TypeError: it holds something else than None, booleans, numbers, strings, arrays, and
            lists and dictionaries (with strings as keys) of them.
    """
    if isinstance(value, np.ndarray):
        arrays[where] = value
        return {"array": where}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: pack(item, arrays, f"{where}/{key}") for key, item in value.items()}}
    if isinstance(value, list | tuple):
        return [pack(item, arrays, f"{where}/{i}") for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{where} is {value!r}, a {type(value).__name__}: a snapshot holds no such values.")


def unpack(value, read):
    """Undo `pack`; ``read(name)`` returns an array. Tuples come back as lists."""
    if isinstance(value, dict):
        if "array" in value:
            return read(value["array"])
        return {key: unpack(item, read) for key, item in value["dict"].items()}
    return [unpack(item, read) for item in value] if isinstance(value, list) else value


def differences(saved, given, name: str = "") -> list[str]:
    """Where two configurations differ, in words such as ``"recipe.epochs was 5 and is 6"``."""
    if isinstance(saved, dict) and isinstance(given, dict):
        found = []
        for key in [*saved, *(key for key in given if key not in saved)]:
            inner = f"{name}.{key}" if name else str(key)
            found += differences(saved.get(key, "missing"), given.get(key, "missing"), inner)
        return found
    return [] if saved == given else [f"{name or 'it'} was {saved} and is {given}"]


def check_finite(groups: dict[str, list], arrays: dict[str, np.ndarray]) -> None:
    """Raise ``FloatingPointError`` for the first of the variables whose value holds NaN or infinity."""
    for group, found in groups.items():
        for i, variable in enumerate(found):
            array = arrays[f"{group}/{i}"]
            if array.dtype.kind not in "biu" and not np.isfinite(array).all():
                raise FloatingPointError(f"{variable.path!r} holds NaN or infinity")
