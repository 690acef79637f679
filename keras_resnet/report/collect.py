"""What a run folder holds, and what can be found out about it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import numpy as np

from keras_resnet.data.errors import DataError
from keras_resnet.inference.artifacts import open_model
from keras_resnet.inference.evaluate import evaluation_dataset
from keras_resnet.report.examine import Example, Findings, examine
from keras_resnet.report.gradcam import gradcam
from keras_resnet.run_files import (
    CLASSES,
    ENVIRONMENT,
    HISTORY,
    read_classes,
    read_config,
    read_environment,
    read_history,
)
from keras_resnet.summary import Row, shape_table, stage_outputs

# Coarser maps say no more than "left" or "right".
_LEAST_MAP = 4


@dataclass(frozen=True)
class Heat:
    """Heat maps ``(count, height, width)`` of the examples.

    Attributes:
        stage: Whose maps they are made of.
        size: Height and width of these.
        mistakes: Of the mistakes, for the predicted class.
        instead: Of the mistakes, for the true class.
        hits: Of the hits.
    """

    stage: str
    size: tuple[int, int]
    mistakes: np.ndarray
    instead: np.ndarray
    hits: np.ndarray


@dataclass(frozen=True)
class RunRecord:
    """A run, as its files and its model tell it.

    Attributes:
        folder: Where it is.
        config: config.yaml, nested.
        environment: env.json.
        history: history.csv, a dictionary of numbers for each epoch.
        class_names: classes.txt.
        rows: The shape table of the model.
        findings: Its answers on the held-out images.
        heat: Heat maps of the examples among them.
        missing: Of what is not there, why: "model", "findings" or "heat".
    """

    folder: Path
    config: dict
    environment: dict
    history: list[dict]
    class_names: tuple[str, ...]
    rows: list[Row] | None = None
    findings: Findings | None = None
    heat: Heat | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    def last(self, key: str) -> float | None:
        """A figure of the last epoch."""
        return self.history[-1].get(key) if self.history else None

    @property
    def seconds(self) -> float | None:
        """Of all epochs, without their evaluation."""
        return sum(row.get("seconds", 0) for row in self.history) or None

    @property
    def images_per_second(self) -> float | None:
        """Of the median epoch."""
        speeds = [row["images_per_second"] for row in self.history if "images_per_second" in row]
        return statistics.median(speeds) if speeds else None


def read_run(folder) -> RunRecord:
    """Read the text files of a run.

    Raises:
        ValueError: there is no run, or a file is damaged; the message names it.
    """
    folder = Path(folder)
    return RunRecord(
        folder=folder,
        config=read_config(folder),
        environment=_if_there(read_environment, folder / ENVIRONMENT, {}),
        history=_if_there(read_history, folder / HISTORY, []),
        class_names=_if_there(read_classes, folder / CLASSES, ()),
    )


def open_run(folder, *, data=None, explain: bool = True, **where) -> RunRecord:
    """`read_run`, and all that its model tells; what cannot be found out is in `missing`.

    Args:
        folder: The run.
        data: What it is examined on, instead of what config.yaml names; see `make_dataset`.
        explain: Compute heat maps.
        **where: `layout`, `data_dir` and `download` of `make_dataset`.

    Raises:
        ValueError: see `read_run`.
    """
    run = read_run(folder)
    try:
        artifact = open_model(folder)
    except ValueError as error:
        return replace(run, missing={"model": str(error), "findings": str(error), "heat": str(error)})
    try:
        findings = examine(artifact, _held_out(run.config, artifact, data, where))
    except ValueError as error:
        reason = f"The held-out images could not be examined: {error}"
        return replace(run, rows=shape_table(artifact.model), missing={"findings": reason, "heat": reason})
    return with_model(run, artifact.model, findings, explain=explain)


def with_model(run: RunRecord, model: keras.Model, findings: Findings, *, explain: bool = True) -> RunRecord:
    """The record with what a model of the run has answered, and with heat maps of the examples."""
    run = replace(run, rows=shape_table(model), findings=findings)
    if not explain:
        return run
    try:
        return replace(run, heat=_heat(model, findings.mistakes, findings.hits))
    except ValueError as error:
        return replace(run, missing={"heat": f"No heat maps: {error}"})


def _held_out(config, artifact, data, where):
    """The images on which the run was evaluated."""
    if data is None and where.get("layout") is None:
        where = where | {"layout": config.get("layout")}
    data = config.get("data") if data is None else data
    if data in (None, "arrays"):
        raise DataError("the run had arrays in memory; name its data by --data.")
    return evaluation_dataset(artifact, data, config.get("validation_split", "held_out"), **where)


def _heat(model, mistakes: list[Example], hits: list[Example]) -> Heat:
    """Of the last stage whose maps are not too coarse."""
    stages = stage_outputs(model)
    fine = [
        name for name, maps in stages.items() if min(n or _LEAST_MAP for n in maps.shape[1:3]) >= _LEAST_MAP
    ]
    stage = fine[-1] if fine else next(iter(stages), "stage1")
    asked = [(e.image, e.predicted) for e in (*mistakes, *hits)] + [(e.image, e.label) for e in mistakes]
    images, classes = zip(*asked, strict=True)
    heat = gradcam(model, np.stack(images), classes, int(stage.removeprefix("stage")))
    parts = np.split(heat, [len(mistakes), len(mistakes) + len(hits)])
    return Heat(stage, stages[stage].shape[1:3], parts[0], parts[2], parts[1])


def _if_there(read, path, absent):
    return read(path) if path.is_file() else absent
