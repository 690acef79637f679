"""From runs to one HTML file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import keras

from keras_resnet.files import write_text
from keras_resnet.printing import show
from keras_resnet.report.collect import open_run, read_run, with_model
from keras_resnet.report.compare_page import compare_page
from keras_resnet.report.examine import Findings
from keras_resnet.report.run_page import run_page


def write_report(
    runs, out=None, *, data=None, layout: str | None = None, data_dir=None, download: bool = True
) -> tuple[Path, list[str]]:
    """Write the report of a run, or the comparison of several, as one HTML file.

    The file needs no other file and no network. It shows what the files of a run say and what
    its model answers on the held-out images, which are found again by config.yaml.

    Args:
        runs: A run folder, or several.
        out: The file; by default report.html in the run folder, or comparison.html of several.
        data: The data instead of what config.yaml names; see `make_dataset`.
        layout: See `make_dataset`; by default what config.yaml says.
        data_dir: See `make_dataset`.
        download: See `make_dataset`.

    Returns:
        The file, and a line for each thing that it could not show, with the reason.

    Raises:
        ValueError: a folder is no run, or a file of it is damaged.
    """
    folders = [Path(runs)] if isinstance(runs, str | os.PathLike) else list(map(Path, runs))
    if not folders:
        raise ValueError("no run is given.")
    several = len(folders) > 1
    path = Path(out or ("comparison.html" if several else folders[0] / "report.html"))
    for folder in folders:
        read_run(folder)  # a mistake in the last one shall not cost the work on the others
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: there is no such folder to write {path.name} into.")
    where = {"data": data, "layout": layout, "data_dir": data_dir, "download": download}
    records = [open_run(folder, explain=not several, **where) for folder in folders]
    write_text(path, compare_page(records) if several else run_page(records[0]))
    return path, sorted({f"{record.folder}: {why}" for record in records for why in record.missing.values()})


def report_run(folder, model: keras.Model, findings: Findings) -> None:
    """Write report.html of a run whose model and answers are at hand.

    Whatever fails is a line on stderr: the training is finished then, and its model saved.
    """
    path = Path(folder, "report.html")
    try:
        write_text(path, run_page(with_model(read_run(folder), model, findings)))
    except Exception as error:
        print(show(f"{path} could not be written: {type(error).__name__}: {error}"), file=sys.stderr)
