"""What is on any number of images, as a table that an interrupted run goes on with."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from keras_resnet.arguments import whole
from keras_resnet.inference.artifacts import to_artifact
from keras_resnet.inference.outputs import CsvRows, NpyRows
from keras_resnet.inference.predict import check_model, head_pool, stream_predictions
from keras_resnet.tails import class_count

# How far a probability may be from what it was when the same model is asked again.
SAME = 1e-3


@dataclass(frozen=True)
class Report:
    """What `predict_to_csv` did: rows that were there, rows that it wrote, a line for each bad file."""

    known: int
    written: int
    errors: list[str] = field(default_factory=list)


def predict_to_csv(
    model,
    images,
    out,
    *,
    top: int = 5,
    features=None,
    batch_size: int = 32,
    precision: str = "float32",
    outputs: str | None = None,
) -> Report:
    """Classify any number of image files into a CSV file; go on with it if it is there.

    A row is a path, then the `top` likeliest classes and their probabilities. Files that
    cannot be read have no row; they are tried again when the file is gone on with.

    Args:
        out: The CSV file. Rows appear whole, a batch at a time.
        features: A ``.npy`` file for what the head was given, float32 ``(rows, channels)``:
            its rows are those of `out`.

    The other arguments are those of `predict`.

    Raises:
        DataError: a folder has no images or cannot be listed.
        ValueError: the model cannot be used; a file cannot be written; `out` is there, but was
            made otherwise: with other columns, or by another model.
    """
    artifact = to_artifact(model)
    top, batch_size = whole("top", top), whole("batch_size", batch_size)
    options = {"top": top, "batch_size": batch_size, "precision": precision, "outputs": outputs}
    check_model(artifact.model, top, batch_size)
    channels = head_pool(artifact.model).shape[-1] if features else None
    with CsvRows(out, _header(artifact, top)) as table:
        known = len(table.known)
        _check_last_row(artifact, table, options)
        predictions = stream_predictions(
            artifact, images, **options, features=channels is not None, known=table.known
        )
        if channels is None:
            return Report(known, *_write(predictions, batch_size, table, None))
        with NpyRows(features, channels, known) as arrays:
            return Report(known, *_write(predictions, batch_size, table, arrays))


def _write(predictions, batch_size, table, arrays):
    written, errors = 0, []
    while batch := list(islice(predictions, batch_size)):
        errors += [p.error for p in batch if p.error is not None]
        batch = [p for p in batch if p.error is None]
        if arrays is not None and batch:
            # First, because rows without a line in the table are taken back when it is gone on with.
            arrays.append(np.stack([p.features for p in batch]))
        table.append([[p.path, *(_cell(v) for pair in p.classes for v in pair)] for p in batch])
        written += len(batch)
    return written, errors


def _header(artifact, top):
    count = min(top, class_count(artifact.model))
    return ["path", *(f"{what}_{n}" for n in range(1, count + 1) for what in ("class", "probability"))]


def _cell(value):
    return value if isinstance(value, str) else f"{value:.7g}"


def _check_last_row(artifact, table, options):
    """Ask the model again what the last row says: a table of two models would be of no use."""
    if table.last is None or not Path(table.last[0]).is_file():
        return
    (again,) = stream_predictions(artifact, table.last[0], **options)
    if again.error is None and abs(again.classes[0][1] - float(table.last[2])) > SAME:
        raise ValueError(
            f"{table.path} has {table.last[1]} at {table.last[2]} for {again.path}, where this model has "
            f"{again.classes[0][0]} at {again.classes[0][1]:.7g}: another model made it; choose another "
            "file, or remove it."
        )
