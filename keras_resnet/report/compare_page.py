"""The page of several runs, beside each other."""

from __future__ import annotations

import numpy as np

from keras_resnet.report.collect import RunRecord
from keras_resnet.report.figures import Line, chart
from keras_resnet.report.html import DASH, number, page, table, tag
from keras_resnet.report.run_page import CURVES, compact, duration, flat, note

_CURVES = {
    "Accuracy, held out": ("test_accuracy", "Accuracy"),
    "Cross-entropy, held out": ("test_loss", "Cross-entropy"),
    "Accuracy, training": ("train_accuracy", "Accuracy"),
    "Cross-entropy, training": ("loss", "Cross-entropy"),
    "Learning rate": ("learning_rate", "Learning rate"),
}


def compare_page(runs: list[RunRecord]) -> str:
    """HTML of several runs: results, curves, what their configurations differ in, classes."""
    names = _names(runs)
    parts = {
        "Results": _results(runs, names),
        "Curves": _curves(runs, names),
        "Differences": _differences(runs, names),
        "Classes": _classes(runs, names),
    }
    kinds = sorted(
        {f"{run.config.get('model', 'a model')} on {run.config.get('data', 'unknown data')}" for run in runs}
    )
    shown = ", ".join(kinds[:3]) + (f" and {len(kinds) - 3} others" if len(kinds) > 3 else "")
    return page(f"{len(runs)} runs", shown, parts)


def _names(runs):
    """Folders' own names, or where two are alike the paths."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _results(runs, names):
    rows = []
    for run, name in zip(runs, names, strict=True):
        found = run.findings
        evaluation = found.evaluation if found else None
        top1 = evaluation.top1 if found else run.last("test_accuracy")
        rows.append([
            name,
            number(top1, "{:.2%}".format, bar=True),
            number(evaluation.top5 if found else None, "{:.2%}".format),
            number(evaluation.loss if found else run.last("test_loss"), "{:.4f}".format),
            number(found.calibration.error if found else None, "{:.2%}".format),
            number(run.rows[-1].parameters if run.rows else None, compact),
            number(len(run.history), "{:,}".format),
            number(run.seconds, duration),
            number(run.images_per_second, "{:,.0f}".format),
        ])  # fmt: skip
    headers = ["run", "top-1", "top-5", "cross-entropy", "calibration error", "parameters", "epochs",
               "training", "images/s"]  # fmt: skip
    reasons = [
        note(f"{name}: figures of the last epoch. {run.missing['findings']}")
        for run, name in zip(runs, names, strict=True)
        if run.findings is None
    ]
    return [table(headers, rows, sortable=True), *reasons]


def _curves(runs, names):
    charts = []
    for title, (key, kind) in _CURVES.items():
        lines = [
            Line(name, [(row["epoch"], row[key]) for row in run.history if key in row and "epoch" in row])
            for run, name in zip(runs, names, strict=True)
        ]
        _, unit, limits = CURVES[kind]
        charts.append(chart(title, lines, unit=unit, limits=limits))
    return [tag("div", *charts, class_="charts")]


def _differences(runs, names):
    settings = [flat(run.config) for run in runs]
    keys = list(dict.fromkeys(key for some in settings for key in some))
    differing = [key for key in keys if len({some.get(key) for some in settings}) > 1]
    if not differing:
        return [note("All settings are the same.")]
    rows = [[key, *(some.get(key, DASH) for some in settings)] for key in differing]
    return [table(["setting", *names], rows)]


def _classes(runs, names):
    known = [(run, name) for run, name in zip(runs, names, strict=True) if run.findings]
    if len(known) < 2 or len({run.class_names for run, _ in known}) > 1:
        return [note("Accuracies of classes are compared where at least two runs have the same ones.")]
    rows = []
    shares = [_recalls(run.findings.evaluation.confusion) for run, _ in known]
    for i, name in enumerate(known[0][0].class_names):
        values = [float(some[i]) for some in shares]
        rows.append([name, *(number(value, "{:.1%}".format, bar=True) for value in values)])
    return [table(["class", *(name for _, name in known)], rows, sortable=True)]


def _recalls(confusion):
    return confusion.diagonal() / np.maximum(confusion.sum(axis=1), 1)
