"""The page of one run."""

from __future__ import annotations

import numpy as np

from keras_resnet.report.collect import RunRecord
from keras_resnet.report.figures import Line, chart, confusion_matrix, reliability
from keras_resnet.report.html import DASH, Markup, number, page, table, tag
from keras_resnet.report.thumbnails import thumbnail

# Beyond this, cells of the matrix are too small to be seen.
_MATRIX = 100
CURVES = {
    "Cross-entropy": ({"loss": "training", "test_loss": "held out"}, "{:g}", (None, None)),
    "Accuracy": ({"train_accuracy": "training", "test_accuracy": "held out"}, "{:.0%}", (None, 1.0)),
    "Learning rate": ({"learning_rate": "learning rate"}, "{:g}", (0.0, None)),
    "Images per second": ({"images_per_second": "images per second"}, "{:,.0f}", (0.0, None)),
}


def run_page(run: RunRecord) -> str:
    """HTML of a run."""
    parts = {
        "Summary": [_summary(run)],
        "Training": _training(run),
        "Confusion": _confusion(run),
        "Classes": _classes(run),
        "Mistakes": _examples(run, "mistakes"),
        "Unsure hits": _examples(run, "hits"),
        "Calibration": _calibration(run),
        "Network": _network(run),
        "Configuration": _configuration(run),
    }
    return page(run.name, describe(run), parts)


def describe(run: RunRecord) -> str:
    """What was trained on what, in a line."""
    size, channels = run.config.get("image_size"), run.config.get("channels")
    images = f" at {size} x {size} x {channels}" if size and channels else ""
    device = run.environment.get("device")
    return f"{run.config.get('model', 'a model')} on {run.config.get('data', 'unknown data')}{images}" + (
        f", trained on {device}" if device else ""
    )


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def compact(value: float) -> str:
    """A large number with three figures and a letter."""
    for letter, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:g}"


def _summary(run):
    tiles = {}
    if run.findings:
        evaluation = run.findings.evaluation
        tiles["Top-1, held out"] = f"{evaluation.top1:.2%}"
        if len(evaluation.confusion) > 5:
            tiles["Top-5"] = f"{evaluation.top5:.2%}"
        tiles |= {
            "Cross-entropy": f"{evaluation.loss:.4f}",
            "Calibration error": f"{run.findings.calibration.error:.2%}",
            "Held-out images": f"{evaluation.count:,}",
        }
    elif run.last("test_accuracy") is not None:
        tiles["Accuracy, last epoch"] = f"{run.last('test_accuracy'):.2%}"
    if run.rows:
        tiles["Parameters"] = compact(run.rows[-1].parameters)
        if run.rows[-1].macs is not None:
            tiles["Multiply-adds"] = compact(run.rows[-1].macs)
    if run.history:
        tiles["Epochs"] = f"{len(run.history):,}"
    if run.seconds:
        tiles["Training"] = duration(run.seconds)
    if run.images_per_second:
        tiles["Images per second"] = f"{run.images_per_second:,.0f}"
    return tag("dl", *(
        tag("div", tag("dt", name), tag("dd", value), class_=None if i else "first")
        for i, (name, value) in enumerate(tiles.items())
    ), class_="tiles")  # fmt: skip


def _training(run):
    if not run.history:
        return [note("There is no history.csv with an epoch in it.")]
    charts = []
    for title, (keys, unit, limits) in CURVES.items():
        lines = [
            Line(name, [(row["epoch"], row[key]) for row in run.history if key in row and "epoch" in row])
            for key, name in keys.items()
        ]
        charts.append(chart(title, [line for line in lines if line.points], unit=unit, limits=limits))
    said = []
    if run.images_per_second:
        speed, spent = f"{run.images_per_second:,.0f} images per second", duration(run.seconds or 0)
        said = [note(f"{speed} in the median epoch, {spent} in all; evaluation is not counted.")]
    return [tag("div", *charts, class_="charts"), *said]


def note(text: str) -> Markup:
    """A line in small print."""
    return tag("p", text, class_="note")


def _confusion(run):
    if run.findings is None:
        return [note(run.missing["findings"])]
    confusion, names = run.findings.evaluation.confusion, _names(run)
    errors = np.argwhere(confusion * (1 - np.eye(len(confusion), dtype=np.int64)))
    errors = sorted(errors.tolist(), key=lambda at: -confusion[at[0], at[1]])[:10]
    rows = [
        (names[i], names[j], number(int(confusion[i, j]), "{:,}".format),
         number(confusion[i, j] / confusion[i].sum(), "{:.1%}".format))
        for i, j in errors
    ]  # fmt: skip
    headers = ["true", "predicted", "images", "of the class"]
    listed = [tag("h3", "Most frequent mistakes"), table(headers, rows, sortable=True)] if rows else []
    if len(confusion) > _MATRIX:
        return [note(f"The matrix is left out: there are more than {_MATRIX} classes."), *listed]
    matrix = confusion_matrix(confusion, names)
    said = note("True classes down, predicted ones across. Mistakes are coloured by the root of their share.")
    return [tag("div", tag("div", matrix, said), tag("div", *listed), class_="beside")]


def _names(run):
    """A name for each class, whatever classes.txt says."""
    classes = len(run.findings.evaluation.confusion)
    return run.class_names if len(run.class_names) == classes else tuple(map(str, range(classes)))


def _classes(run):
    if run.findings is None:
        return [note(run.missing["findings"])]
    confusion, names = run.findings.evaluation.confusion, _names(run)
    rows = []
    for i, name in enumerate(names):
        count, said, right = (int(n) for n in (confusion[i].sum(), confusion[:, i].sum(), confusion[i, i]))
        others = np.where(np.arange(len(names)) == i, 0, confusion[i])
        worst = int(others.argmax())
        recall = right / count if count else None
        rows.append([
            name, number(count, "{:,}".format),
            number(recall, "{:.1%}".format, bar=True),
            number(right / said if said else None, "{:.1%}".format),
            f"{names[worst]} ({others[worst]:,})" if others[worst] else DASH,
        ])  # fmt: skip
    return [table(["class", "images", "accuracy", "precision", "taken most for"], rows, sortable=True)]


def _examples(run, kind):
    if run.findings is None:
        return [note(run.missing["findings"])]
    examples, names = getattr(run.findings, kind), _names(run)
    if not examples:
        return [note("There are none.")]
    said = {"mistakes": "The wrong answers of which the model was most sure.",
            "hits": "The right answers of which it was least sure."}[kind]  # fmt: skip
    if run.heat:
        height, width = run.heat.size
        size = f" ({height} x {width})" if height else ""
        said += f" Grad-CAM of {run.heat.stage}{size}: brighter pixels speak more for the class."
    else:
        said += f" {run.missing.get('heat', '')}"
    return [
        note(said),
        tag("ul", *(_example(run, kind, i, names) for i in range(len(examples))), class_="examples"),
    ]


def _example(run, kind, index, names):
    example = getattr(run.findings, kind)[index]
    true, predicted = names[example.label], names[example.predicted]
    text = [tag("b", predicted), f" {example.confidence:.1%}"]
    if kind == "mistakes":
        text += [", is ", tag("b", true)]
    pictures = [("image {:,}".format(example.position), None)]  # noqa: UP032
    if run.heat and kind == "mistakes":
        pictures += [(f"for {predicted}", run.heat.mistakes[index]), (f"for {true}", run.heat.instead[index])]
    elif run.heat:
        pictures.append((f"for {predicted}", run.heat.hits[index]))
    figures = [
        tag("figure", thumbnail(example.image, f"{true}: {caption}", heat), tag("figcaption", caption))
        for caption, heat in pictures
    ]
    return tag("li", tag("p", *text), tag("div", *figures, class_="pictures"))


def _calibration(run):
    if run.findings is None:
        return [note(run.missing["findings"])]
    calibration = run.findings.calibration
    surplus = calibration.overconfidence
    where = f"{abs(surplus):.2%} {'above' if surplus > 0 else 'below'} its accuracy"
    error = f"the expected calibration error is {calibration.error:.2%}"
    said = tag("p", f"The mean confidence of the model is {where}; {error}.")
    how = note(
        f"Images by the probability of their likeliest class, in {len(calibration.counts)} bins: how many of "
        "a bin are right, and in the second colour what is missing to its mean probability (in a paler one, "
        "what is above it). Below, how many images a bin has."
    )
    return [tag("div", reliability(calibration), tag("div", said, how), class_="beside")]


def _network(run):
    if run.rows is None:
        return [note(run.missing["model"])]
    rows = [
        [row.stage, " x ".join("?" if n is None else str(n) for n in row.output_shape),
         number(row.parameters, "{:,}".format), number(row.macs, "{:,}".format)]
        for row in run.rows
    ]  # fmt: skip
    return [table(["stage", "output shape", "parameters", "multiply-adds"], rows)]


def flat(config: dict, prefix: str = "") -> dict[str, str]:
    """Nested settings as ``{"recipe.epochs": "30", ...}``."""
    found = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def _configuration(run):
    both = [
        tag("div", tag("h3", title), table(["setting", "value"], list(flat(values).items())))
        for title, values in (("Settings", run.config), ("Environment", run.environment))
        if values
    ]
    return [tag("div", *both, class_="beside")]
