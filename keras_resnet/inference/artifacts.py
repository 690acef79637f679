"""From a path back to a model and what one must know to use it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import yaml

from keras_resnet.graphs import deep_graphs
from keras_resnet.kernels import accelerate


@dataclass(frozen=True)
class Artifact:
    """A model from a file.

    Attributes:
        model: Pixels of 0 to 255 in, probabilities out.
        class_names: The classes, from classes.txt beside the model; else their numbers.
        crop_fraction: How much of an image's short side is kept; from config.yaml, else 0.875.
    """

    model: keras.Model
    class_names: tuple[str, ...]
    crop_fraction: float = 0.875


def open_model(path) -> Artifact:
    """Load a run folder or a ``.keras`` file.

    Raises:
        ValueError: there is no such model, or it cannot be read.
    """
    path = Path(path)
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{file}: there is no such model; give a run folder or a .keras file.")
    if file.suffix != ".keras":
        raise ValueError(f"{file}: expected a run folder or a file that ends in .keras.")
    try:
        with deep_graphs():
            model = accelerate(keras.saving.load_model(file, compile=False))
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not a readable Keras model: {error}") from error
    names, config = file.parent / "classes.txt", file.parent / "config.yaml"
    classes = (
        names.read_text(encoding="utf-8").splitlines() if names.is_file() else range(model.output_shape[-1])
    )
    options = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return Artifact(
        model, tuple(map(str, classes)), **{k: options[k] for k in ("crop_fraction",) if k in options}
    )


def check_takes_pixels(model: keras.Model) -> None:
    """Raise ``ValueError`` for a model without a normalisation of its own.

    Pixels of 0 to 255 would go straight into its first convolution, and the answer would be
    confident and wrong.
    """
    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    if not any(isinstance(layer, kinds) for layer in model.layers):
        raise ValueError(
            f"{model.name!r} does not normalise its input: it has no Rescaling or Normalization layer. "
            "Build it with normalization=(mean, std)."
        )
