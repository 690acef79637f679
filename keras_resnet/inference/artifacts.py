"""From a path back to a model and what one must know to use it."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import keras

import keras_resnet.layers  # noqa: F401  registers the layers that some files name
from keras_resnet.builders import build_model
from keras_resnet.graphs import deep_graphs
from keras_resnet.kernels import accelerate
from keras_resnet.run_files import CLASSES, CONFIG, read_classes, read_config
from keras_resnet.variants import VARIANTS
from keras_resnet.weights.records import get_record, resolve

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

WEIGHT_FILES = (".pth", ".pt", ".th", ".bin", ".safetensors", ".h5", ".keras")


@dataclass(frozen=True)
class Artifact:
    """A model and what one must know to use it.

    Attributes:
        model: Pixels of 0 to 255 in, probabilities out.
        class_names: The classes, from classes.txt beside the model or from the record of its
            weights; else their numbers.
        options: How its images are prepared, as arguments of `make_dataset`: crop_fraction and
            interpolation, where they are known.
    """

    model: keras.Model
    class_names: tuple[str, ...]
    options: dict


def open_model(path) -> Artifact:
    """Load a run folder or a ``.keras`` file.

    Raises:
        ValueError: there is no such model, or it cannot be read.
    """
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        raise ValueError(f"{path} is a SavedModel, which is code; if you trust it: open_export.")
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        remedy = "give weights for this variant, or" if str(path) in VARIANTS else "give"
        raise ValueError(f"{file}: there is no such model; {remedy} a run folder or a .keras file.")
    if file.suffix != ".keras":
        raise ValueError(f"{file}: expected a run folder or a file that ends in .keras.")
    if not zipfile.is_zipfile(file):
        # Keras would say that it does not exist.
        raise ValueError(f"{file} is not a readable Keras model: it is no zip file, or one that was cut off.")
    try:
        with deep_graphs():
            model = accelerate(keras.saving.load_model(file, compile=False))
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not a readable Keras model: {error}") from error
    # Beside a file that is not of a run, a config.yaml may be any program's.
    keys = ("crop_fraction", "interpolation")
    config = read_config(file.parent, keys=keys) if (file.parent / CONFIG).is_file() else {}
    options = {key: config[key] for key in keys if key in config}
    return Artifact(model, _class_names(file.parent / CLASSES, model), options)


def _class_names(path, model):
    shape = model.output_shape if isinstance(model.output_shape, tuple) else ()
    if path.is_file():
        return read_classes(path, shape[-1] if len(shape) == 2 else None)
    return tuple(map(str, range(shape[-1] if shape else 0)))


def from_weights(variant: str, source: str) -> Artifact:
    """Build a variant with the weights of a record or of a file; see `load_weights`.

    The images are prepared as the record says; for a file as its kind usually is: ImageNet's
    mean and standard deviation, and 0.875 of the short side where sizes differ.

    Raises:
        ValueError: the variant or the weights do not exist or do not fit.
    """
    source = resolve(source, variant)
    options, names = {}, ()
    if Path(source).exists():
        model = build_model(variant, weights=source, normalization=(IMAGENET_MEAN, IMAGENET_STD))
    elif source.endswith(WEIGHT_FILES):
        raise ValueError(f"{source}: there is no such file of weights.")
    else:
        record = get_record(source)
        transform = record.transform
        model = build_model(
            variant, weights=source, normalization=(transform.mean, transform.std),
            input_shape=(transform.size, transform.size, 3), num_classes=record.num_classes,
        )  # fmt: skip
        options = {"crop_fraction": transform.crop_fraction, "interpolation": transform.interpolation}
        names = record.class_names
    return Artifact(model, names or tuple(map(str, range(model.output_shape[-1]))), options)


def takes_pixels(model: keras.Model) -> bool:
    """Whether a model normalises its input itself, by a Rescaling or Normalization layer."""
    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    return any(
        takes_pixels(layer) if isinstance(layer, keras.Model) else isinstance(layer, kinds)
        for layer in model.layers
    )


def check_takes_pixels(model: keras.Model) -> None:
    """Raise ``ValueError`` for a model without a normalisation of its own.

    Pixels of 0 to 255 would go straight into its first convolution, and the answer would be
    confident and wrong.
    """
    if not takes_pixels(model):
        raise ValueError(
            f"{model.name!r} does not normalise its input: it has no Rescaling or Normalization layer. "
            "Build it with normalization=(mean, std)."
        )
