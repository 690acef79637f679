"""A model as a file for another runtime, which has been loaded and compared before it is there."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import keras

import keras_resnet
from keras_resnet.arguments import whole
from keras_resnet.files import locked, remove
from keras_resnet.inference.artifacts import to_artifact
from keras_resnet.inference.check import (
    BARS,
    Comparison,
    ExportError,
    bar_of,
    check,
    compare,
    load_images,
    right_outputs,
    run_all,
)
from keras_resnet.inference.formats import FORMATS, Format, Order
from keras_resnet.inference.forward import batch_function, check_one_device
from keras_resnet.inference.pixels import check_takes_pixels
from keras_resnet.inference.preparation import preparation_of
from keras_resnet.inference.rebuild import from_prepared, lowest_precision, rebuild
from keras_resnet.nearest import suggest
from keras_resnet.output_kind import output_kind, to_probabilities
from keras_resnet.printing import show
from keras_resnet.run_files import HISTORY, read_history

# Images for int8 calibration: what NNCF takes by default.
CALIBRATION_IMAGES = 300


@dataclass(frozen=True)
class Export:
    """A finished export: the file or folder, its bytes, how it compares with the model, and its card.json."""

    path: Path
    size: int
    comparison: Comparison
    card: dict


def export(
    model,
    path=None,
    format: str = "savedmodel",
    *,
    precision: str = "float32",
    calibration=None,
    images: int | None = None,
    outputs: str | None = None,
    layout: str | None = None,
    data_dir=None,
    download: bool = True,
) -> Export:
    """Write a classifier as a file for another runtime, and compare it there.

    The file takes pixels of 0 to 255, float32 ``(batch, height, width, channels)`` with any
    batch, and gives probabilities ``(batch, classes)``: of logits their softmax, of one sigmoid those
    of both classes. Several sigmoids stay as they are and do not sum to one. A SavedModel takes the
    bytes of image files too, see `write_saved_model`. The network is rebuilt in float32 whatever its
    policy was. The file is written under a temporary name, opened in its own runtime and compared with
    `model` on real images; if that fails nothing is left. Beside it appear ``labels.txt``,
    ``transform.json`` (how an image becomes the input) and ``card.json`` (size, accuracy, the
    comparison, versions), with the name of the file in front; in a SavedModel they lie in
    ``assets.extra``.

    | format     | precision                                  | bar of the comparison    |
    |------------|--------------------------------------------|--------------------------|
    | savedmodel | float32                                    | max abs(dp) <= 1e-5      |
    | onnx       | float32                                    | max abs(dp) <= 1e-5      |
    | litert     | float32, float16 (weights), int8           | float16: 0.02; see below |
    | openvino   | float32, bfloat16 (a hint), float16, int8  | bfloat16: 0.15           |

    Below float32, top-1 may also drop by at most 0.5 points; without labels, at most 0.5 % of
    the images may get another class. See `keras_resnet.inference.check.Bar`. The comparison is
    always with `model` as it was given: if its layers compute in bfloat16 or float16, the tolerance
    is at least that of this dtype, and the file is also held against the network in float32.

    Args:
        model: A run folder, a ``.keras`` file, an `Artifact` or a Keras model that normalises
            its input.
        path: What to write: a name that ends in ``.onnx``, ``.tflite`` or ``.xml``, for a
            SavedModel a folder. It must not exist. By default the name of the network, in the run
            folder or beside the ``.keras`` file, or else in the working folder.
        format: "savedmodel", "onnx", "litert" or "openvino".
        precision: See the table.
        calibration: Data as `make_dataset` takes them. For int8, 300 of their training images
            set the ranges; the comparison takes their held-out images. By default the
            comparison takes embedded digits, enlarged.
        images: At most so many images are compared; by default 32, and 1,000 with `calibration`.
        outputs: What the model returns, "probabilities", "logits" or "sigmoid": needed only if its
            graph does not tell, see `output_kind`. The card says it.
        layout: "splits" or "classes": what the folders in `calibration` are; see `make_dataset`.
        data_dir: Folder of the prepared datasets of tensorflow-datasets.
        download: Prepare a dataset of tensorflow-datasets that is not there yet.

    Returns:
        The path, the size and the comparison.

    Raises:
        ValueError: the format, precision or path does not fit; the model is no classifier
            that normalises its input, or does not tell what it returns.
        FileExistsError: there is something at `path`.
        ImportError: the format needs a package that is not installed.
        DataError: the calibration data cannot be used.
        ExportError: the file cannot be written, or does not compute what the model does.
    """
    check_one_device("export")
    artifact = _artifact(model)
    outputs = output_kind(artifact.model, outputs)
    kind = _format(format, precision, calibration)
    path = _default_path(model, artifact, format, precision) if path is None else Path(path)
    _check_path(path, kind, format)
    preparation = preparation_of(artifact)
    data = {"data_dir": data_dir, "download": download, "layout": layout}
    ranges = None
    if precision == "int8":
        ranges = load_images(calibration, "train", preparation, CALIBRATION_IMAGES, **data)[0]
    count = (32 if calibration is None else 1000) if images is None else whole("images", images)
    pixels, labels, source = load_images(calibration, "held_out", preparation, count, **data)
    labels, note = right_outputs(artifact, labels, source) if calibration is not None else (None, None)
    rebuilt = rebuild(artifact.model, outputs)
    with _whole_or_nothing(path) as part:
        _check_path(path, kind, format)  # which another export may have written meanwhile
        order = Order(str(part / path.name), precision, preparation, artifact.class_names, ranges)
        facts = _write(kind, rebuilt, order, path)
        comparison = _verify(artifact.model, outputs, rebuilt, kind, order, pixels, labels, path)
        size = _size(part)
        card = {
            "model": artifact.model.name, "parameters": artifact.model.count_params(), "format": format,
            "precision": precision, "outputs": outputs, "bytes": size, **facts,
            "top1_of_the_run": _run_accuracy(model),
            "comparison": _describe(comparison, calibration), "classes": note, "versions": _versions(kind),
        }  # fmt: skip
        beside = (
            str(part / f"{path.name}.") if kind.suffix else str(part / path.name / "assets.extra") + os.sep
        )
        _write_companions(beside, artifact, preparation.describe(), card)
        _publish(part, path)
    return Export(path, size, comparison, card)


def _artifact(model):
    artifact = to_artifact(model)
    check_takes_pixels(artifact.model)
    return artifact


def _default_path(model, artifact, format, precision):
    folder = Path()
    if isinstance(model, str | os.PathLike):
        folder = Path(model) if Path(model).is_dir() else Path(model).parent
    name = artifact.model.name + ("" if precision == "float32" else f"-{precision}")
    return folder / (name + (FORMATS[format].suffix or f"-{format}"))


def _format(name, precision, calibration) -> Format:
    if name not in FORMATS:
        hint = suggest(name, FORMATS, f"choose one of {', '.join(FORMATS)}.")
        raise ValueError(f"format={name!r} is unknown; {hint}")
    kind = FORMATS[name]
    if precision not in kind.precisions:
        choices = ", ".join(kind.precisions)
        raise ValueError(f"precision={precision!r} is none of those of {name!r}: {choices}.")
    if precision == "int8" and calibration is None:
        raise ValueError(
            "precision='int8' needs images to set its ranges: give calibration=DATA, best what the model "
            "was trained on."
        )
    if missing := [package for package in kind.packages if importlib.util.find_spec(package) is None]:
        raise ImportError(
            f"format={name!r} needs {', '.join(missing)}: pip install 'keras-resnet-zoo[export]'"
        )
    return kind


def _check_path(path, kind, name):
    if kind.suffix and path.suffix != kind.suffix:
        raise ValueError(f"{path}: expected a name that ends in {kind.suffix} for format {name!r}.")
    for other in [path, *(path.with_suffix(ending) for ending in kind.parts if ending)]:
        if other.exists():
            raise FileExistsError(f"{other} exists; remove it, or choose another name.")


@contextlib.contextmanager
def _whole_or_nothing(path):
    """A folder beside `path` that is gone afterwards, whatever happens, and that no other export uses.

    What an export has left that was killed is removed.
    """
    part, lock = (path.with_name(f".{kind}-{path.name}") for kind in ("part", "lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock, path):
            remove(part)
            part.mkdir()
            try:
                yield part
            finally:
                remove(part)
    except OSError as error:
        if isinstance(error, FileExistsError) and path.exists():  # another export has written it meanwhile
            raise
        raise ExportError(f"{path} cannot be written: {error.strerror or error}.") from error


def _write(kind, model, order, path):
    try:
        return kind.write(model, order)
    # The converters raise whatever they like; a full disk is an OSError only in some of them.
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        raise ExportError(f"{path} cannot be written: {type(error).__name__}: {reason}") from error


def _verify(model, outputs, rebuilt, kind, order, pixels, labels, path):
    """Compare the file with the given model, and with its network in float32 where that is another."""
    policy = lowest_precision(model)
    # GPUs multiply float32 with fewer bits.
    with keras.device("cpu:0"):
        reference = to_probabilities(run_all(from_prepared(model), pixels), outputs)
        network = reference if policy == "float32" else run_all(batch_function(rebuilt), pixels)
    try:
        found = run_all(kind.open(order.path, order.precision), pixels)
        in_float32 = compare(network, found, labels)
        check(in_float32, BARS[order.precision])
        comparison = replace(
            compare(reference, found, labels, policy), difference_float32=in_float32.difference
        )
        check(comparison, bar_of(order.precision, policy))
    # So do the runtimes, for a file that they cannot use.
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        raise ExportError(f"{path} was not kept: opened in its runtime, {reason}") from error
    return comparison


def _size(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _run_accuracy(model):
    """The accuracy on held-out images that a run ended with; None where no history is known."""
    if not isinstance(model, str | os.PathLike):
        return None
    folder = Path(model) if Path(model).is_dir() else Path(model).parent
    history = folder / HISTORY
    rows = read_history(history) if history.is_file() else []
    return rows[-1].get("test_accuracy") if rows else None


def _describe(comparison, calibration):
    data = "digits" if calibration is None else calibration
    data = os.fspath(data) if isinstance(data, str | os.PathLike) else "arrays"
    return {"data": data, **asdict(comparison)}


def _versions(kind):
    packages = ("keras", "tensorflow", *(package.replace("_", "-") for package in kind.packages))
    ours = {"python": platform.python_version(), "keras_resnet": keras_resnet.__version__}
    return ours | {package: metadata.version(package) for package in packages}


def _write_companions(prefix, artifact, transform, card):
    os.makedirs(os.path.dirname(prefix), exist_ok=True)
    texts = {
        "labels.txt": "".join(f"{show(name)}\n" for name in artifact.class_names),
        "transform.json": json.dumps(transform, indent=2) + "\n",
        "card.json": json.dumps(card, indent=2) + "\n",
    }
    for name, text in texts.items():
        Path(prefix + name).write_text(text, encoding="utf-8")


def _publish(part, path):
    """Move what `part` holds to its place; `path` itself comes last."""
    files = sorted(part.iterdir(), key=lambda file: file.name == path.name)
    done = []
    try:
        for file in files:
            done.append(path.with_name(file.name))
            os.replace(file, done[-1])
    # Ctrl-C too.
    except BaseException:
        for file in done:
            remove(file)
        raise
