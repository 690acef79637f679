"""A model's weights as a file that another library loads."""

from __future__ import annotations

from pathlib import Path

import keras

from keras_resnet.files import written_aside
from keras_resnet.weights.convert import to_state_dict


def save_as(model: keras.Model, path, layout: str = "timm") -> None:
    """Write the weights of `model`; the file appears whole or not at all.

    Args:
        model: A model of this package.
        path: Ends in ``.safetensors`` (weights under the names of `layout`; needs the extra
            "convert"), ``.keras`` (the whole model) or ``.weights.h5``.
        layout: See `to_state_dict`.

    Raises:
        ValueError: the ending is another, or the layout has no names for the model.
    """
    path = Path(path)
    writers = {".safetensors": _save_safetensors, ".keras": _save_keras, ".weights.h5": _save_weights}
    ending = next((ending for ending in writers if path.name.endswith(ending)), None)
    if ending is None:
        raise ValueError(f"{path}: expected a name that ends in {', '.join(writers)}.")
    with written_aside(path) as part:
        writers[ending](model, part, layout)


def _save_safetensors(model, path, layout):
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise ImportError("writing .safetensors needs: pip install 'keras-resnet-zoo[convert]'") from error
    # timm and transformers look for this entry.
    save_file(to_state_dict(model, layout), path, metadata={"format": "pt"})


def _save_keras(model, path, layout):
    model.save(path)


def _save_weights(model, path, layout):
    model.save_weights(path)
