"""Weights into a model: everything fits and is loaded, or nothing changes."""

from __future__ import annotations

import os

import keras

from keras_resnet.graphs import deep_graphs


def load_weights(model: keras.Model, source) -> keras.Model:
    """Load `source` into `model`, in place.

    Args:
        model: A built model.
        source: Path of a ``.keras`` file or of a ``.weights.h5`` file of the same network.

    Returns:
        The same model.

    Raises:
        ValueError: the file is missing, of another kind, damaged, or holds another network;
            the message lists what differs.
    """
    path = os.fspath(source)
    if not os.path.isfile(path):
        raise ValueError(f"weights={path!r}: there is no such file.")
    if path.endswith(".keras"):
        _load_model_file(model, path)
    elif path.endswith(".weights.h5"):
        try:
            model.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"{path} does not hold weights of {model.name!r}: {error}") from error
    else:
        raise ValueError(f"weights={path!r}: expected a file that ends in .keras or .weights.h5.")
    return model


def _load_model_file(model, path):
    try:
        with deep_graphs():
            saved = keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a readable Keras model: {error}") from error
    theirs, ours = _by_name(saved), _by_name(model)
    differences = [f"missing in the file: {name}" for name in ours.keys() - theirs.keys()]
    differences += [f"not in the model: {name}" for name in theirs.keys() - ours.keys()]
    differences += [
        f"{name}: {tuple(theirs[name].shape)} in the file, {tuple(ours[name].shape)} in the model"
        for name in ours.keys() & theirs.keys()
        if tuple(theirs[name].shape) != tuple(ours[name].shape)
    ]
    if differences:
        listed = "\n  ".join(sorted(differences)[:20])
        raise ValueError(
            f"{path} holds another network than {model.name!r}; {len(differences)} differences:\n  {listed}"
        )
    for name, variable in ours.items():
        variable.assign(theirs[name])


def _by_name(model):
    return {variable.path: variable for variable in model.weights}
