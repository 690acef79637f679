"""A model's weights as a file that another library loads."""

from __future__ import annotations

import functools
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_resnet.files import written_aside, written_by_others
from keras_resnet.weights.claims import variant_of
from keras_resnet.weights.convert import slots, to_state_dict
from keras_resnet.weights.keymaps import OWN
from keras_resnet.weights.load import count_tensors


def save_as(model: keras.Model, path, layout: str = "timm", *, float16: bool = False) -> None:
    """Write the weights of `model`; the file appears whole or not at all.

    Args:
        model: A model of this package.
        path: Ends in ``.safetensors`` (weights under the names of `layout`; needs the extra
            "convert"), ``.keras`` (the whole model) or ``.weights.h5``.
        layout: See `to_state_dict`.
        float16: Round the weights to half the bytes; for ``.safetensors``.

    Raises:
        ValueError: the ending is another, or the layout has no names for the model; or a weight
            is beyond the range of float16.
    """
    path = Path(path)
    as_safetensors = functools.partial(_save_safetensors, layout=layout, float16=float16)
    writers = {
        ".safetensors": as_safetensors,
        ".keras": _save_model,
        ".weights.h5": _save_weights,
    }
    ending = next((ending for ending in writers if path.name.endswith(ending)), None)
    if ending is None:
        raise ValueError(f"{path}: expected a name that ends in {', '.join(writers)}.")
    if float16 and ending != ".safetensors":
        raise ValueError(f"{path}: weights are rounded to float16 in .safetensors alone.")
    with written_aside(path) as part:
        writers[ending](model, part, path)
        if ending != ".safetensors":
            _check_count(model, part, path)


def _save_model(model, part, path):
    with written_by_others(path):
        model.save(part)


def _save_weights(model, part, path):
    """By way of a whole model: HDF5 writes that in memory, while on a full disk it ends the process."""
    archive = part.with_name(f"{part.name}.keras")
    try:
        _save_model(model, archive, path)
        with (
            zipfile.ZipFile(archive) as file,
            file.open("model.weights.h5") as weights,
            open(part, "wb") as out,
        ):
            shutil.copyfileobj(weights, out)
    finally:
        archive.unlink(missing_ok=True)


def _save_safetensors(model, part, path, layout, float16):
    try:
        from safetensors.numpy import load_file, save_file
    except ImportError as error:
        raise ImportError("writing .safetensors needs: pip install 'keras-resnet-zoo[convert]'") from error
    arrays = to_state_dict(model, layout)
    if float16:
        arrays = {name: _rounded(array, name) for name, array in arrays.items()}
    part.touch()
    mode = part.stat().st_mode
    with written_by_others(path):
        # timm and transformers look for the first entry, `load_weights` for the second.
        variant = variant_of(model)
        save_file(arrays, part, metadata={"format": "pt"} | ({"architecture": variant} if variant else {}))
        written = load_file(part)
    wrong = [name for name in arrays if not np.array_equal(arrays[name], written.get(name), equal_nan=True)]
    if wrong or len(written) != len(model.weights):
        raise ValueError(
            f"{path}: {len(written)} tensors were written for {len(model.weights)} weights"
            + (f", and {wrong[0]} differs." if wrong else ".")
        )
    part.chmod(mode)  # safetensors makes a file of its own, which nobody but its owner may read


def _check_count(model, part, path):
    """Read the names in a file of Keras back, and compare their number with the model's weights."""
    try:
        expected = len(slots(model, OWN))
    except ValueError:
        return  # Layers that keep their weights in ways of their own, such as LoRA's
    found = count_tensors(str(part))
    if found != expected:
        raise ValueError(f"{path}: {found} tensors were written for {expected} weights of {model.name!r}.")


def _rounded(array, name):
    if np.abs(array).max() > np.finfo(np.float16).max:
        raise ValueError(f"{name} is beyond the range of float16; save it as it is.")
    return array.astype(np.float16)
