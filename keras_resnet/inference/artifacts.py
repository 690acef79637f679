"""From a path back to a model and what one must know to use it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import keras

import keras_resnet.layers  # noqa: F401  registers the layers that some files name
from keras_resnet.builders import build_model
from keras_resnet.data.names import canonical, listed
from keras_resnet.inference.keras_files import read_keras
from keras_resnet.kernels import accelerate
from keras_resnet.metadata import attach_metadata, metadata_of
from keras_resnet.run_files import CLASSES, CONFIG, read_classes, read_config
from keras_resnet.tails import class_count
from keras_resnet.transform import Geometry
from keras_resnet.variants import VARIANTS
from keras_resnet.weights.load import load_weights, opened
from keras_resnet.weights.records import get_record, resolve
from keras_resnet.weights.tensors import regular_file
from keras_resnet.weights.transforms import find_preparation

WEIGHT_FILES = (".pth", ".pt", ".th", ".bin", ".safetensors", ".h5", ".keras")


@dataclass(frozen=True)
class Artifact:
    """A model and what one must know to use it.

    Attributes:
        model: Pixels of 0 to 255 in, probabilities, logits or sigmoids out.
        class_names: The classes, from the model's file, from classes.txt next to it, or from the
            record of its weights; else their numbers.
        geometry: How images are resized and cropped for it.
        note: What was supposed about its images, for the user to know; empty for nothing.
    """

    model: keras.Model
    class_names: tuple[str, ...]
    geometry: Geometry
    note: str = ""

    @property
    def options(self) -> dict:
        """The geometry as arguments of `make_dataset`."""
        names = ("crop_fraction", "interpolation", "antialias")
        return {name: getattr(self.geometry, name) for name in names}


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
    model = accelerate(read_keras(file))
    known = metadata_of(model)
    names = _class_names(file, model, known.class_names)
    return _artifact(model, names, known.geometry or _geometry_of_run(file.parent))


def to_artifact(model) -> Artifact:
    """Open whatever is called "a model": an `Artifact`, a Keras model, a run folder or a ``.keras`` file.

    Raises:
        ValueError: there is no such model, or it cannot be read.
    """
    if isinstance(model, Artifact):
        return model
    if isinstance(model, keras.Model):
        known = metadata_of(model)
        return _artifact(model, known.class_names, known.geometry)
    if not isinstance(model, str | os.PathLike):
        raise ValueError(f"expected a run folder, a .keras file or a Keras model; got {model!r}.")
    return open_model(model)


def _artifact(model, class_names, geometry) -> Artifact:
    attach_metadata(model, class_names=class_names, geometry=geometry)
    names = class_names or tuple(map(str, range(_outputs(model))))
    return Artifact(model, names, geometry or Geometry())


def _class_names(file, model, own):
    """The names in the model's file and in classes.txt next to it, which agree where there are both."""
    path = file.parent / CLASSES
    if not path.is_file():
        return own
    beside = read_classes(path, _outputs(model) or None)
    if own is not None and beside != tuple(map(canonical, own)):
        raise ValueError(
            f"{path} says {listed(beside)}; {file.name} itself says {listed(own)}: remove or mend {CLASSES}."
        )
    return beside


def _geometry_of_run(folder) -> Geometry | None:
    """What the configuration of a run says, for files that do not say it themselves."""
    # Next to a file that is not of a run, a config.yaml may be any program's.
    keys = ("crop_fraction", "interpolation")
    config = read_config(folder, keys=keys) if (folder / CONFIG).is_file() else {}
    known = {key: config[key] for key in keys if key in config}
    return Geometry(**known) if known else None


def _outputs(model) -> int:
    """Classes of a classifier; 0 for a model that is none."""
    shape = model.output_shape if isinstance(model.output_shape, tuple) else ()
    return class_count(model) if len(shape) == 2 else 0


def from_weights(variant: str, source: str, which: str | None = None) -> Artifact:
    """Build a variant with the weights of a record or of a file; see `load_weights`.

    Images are prepared as the record says; for a file as `find_preparation` knows or supposes, which
    the artifact's note says.

    Args:
        variant: A name of the table.
        source: A record, a file, or the name of the data of a record.
        which: See `load_weights`.

    Raises:
        ValueError: the variant or the weights do not exist or do not fit.
    """
    source = resolve(source, variant)
    note = ""
    if Path(source).exists():
        path = regular_file(source)
        with opened(path, which) as file:
            found = find_preparation(path, file, variant)
        size = {"input_shape": (found.size, found.size, 3)} if found.size else {}
        model = build_model(variant, normalization=(found.mean, found.std), **size)
        load_weights(model, path, which=which)
        if not found.known:
            note = (
                f"{source} does not say how images are prepared; they are normalized with mean {found.mean} "
                f"and std {found.std}, {found.reason}."
            )
    elif source.endswith(WEIGHT_FILES):
        raise ValueError(f"{source}: there is no such file of weights.")
    else:
        record = get_record(source)
        transform = record.transform
        model = build_model(
            variant, weights=source, normalization=(transform.mean, transform.std),
            input_shape=(transform.size, transform.size, 3), num_classes=record.num_classes,
        )  # fmt: skip
    return replace(to_artifact(model), note=note)
