"""Pictures of a run and of a network, as PNG files."""

from __future__ import annotations

import functools
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_resnet.files import written_aside, written_by_others
from keras_resnet.printing import show
from keras_resnet.summary import Row

# Characters of a name in a picture; longer ones leave no room for what they name.
_LONGEST = 40


def draw_run(history: list[dict], confusion: np.ndarray, class_names, folder) -> None:
    """Draw curves.png and confusion_matrix.png of a run.

    A picture that cannot be drawn is a line on stderr: the training is finished then, and its model saved.
    """
    pictures = {
        "curves.png": functools.partial(plot_curves, history),
        "confusion_matrix.png": functools.partial(plot_confusion_matrix, confusion, class_names),
    }
    for name, plot in pictures.items():
        path = Path(folder, name)
        try:
            plot(path)
        except Exception as error:
            print(show(f"{path} could not be drawn: {type(error).__name__}: {error}"), file=sys.stderr)


def _names_are_text(plot):
    """Draw dollars as dollars, not as formulas, and what the font lacks as boxes, without warnings."""

    @functools.wraps(plot)
    def drawn(*arguments):
        with (
            matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            plot(*arguments)

    return drawn


def _label(name) -> str:
    text = show(str(name))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


@_names_are_text
def plot_curves(history: list[dict], path) -> None:
    """Loss, accuracy and learning rate against epochs."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    epochs = [row["epoch"] for row in history]
    panels = {
        "cross-entropy": {"loss": "train", "test_loss": "held out"},
        "accuracy": {"train_accuracy": "train", "test_accuracy": "held out"},
        "learning rate": {"learning_rate": None},
    }
    for axes, (title, lines) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for key, label in lines.items():
            axes.plot(epochs, [row[key] for row in history], marker=".", label=label)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if any(lines.values()):
            axes.legend()
    _save(figure, path)


@_names_are_text
def plot_confusion_matrix(confusion: np.ndarray, class_names, path) -> None:
    """True classes down, predicted ones across; names and counts where there is room."""
    classes = len(confusion)
    side = min(4 + 0.35 * classes, 16)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    right = confusion.trace() / max(confusion.sum(), 1)
    axes.set(xlabel="predicted", ylabel="true", title=f"{right:.2%} of {confusion.sum()} images are right")
    if classes <= 40:
        labels = list(map(_label, class_names))
        axes.set_xticks(range(classes), labels, rotation=90)
        axes.set_yticks(range(classes), labels)
    if classes <= 20:
        for i, j in np.argwhere(confusion):
            color = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(confusion[i, j]), ha="center", va="center", color=color, fontsize=8)
    _save(figure, path)


@_names_are_text
def plot_stages(rows: list[Row], title: str, path) -> None:
    """The stages as boxes: as high as the resolution, as wide as the channels (both in logarithms)."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots()
    left = 0.0
    for i, row in enumerate(rows[:-1]):
        resolution, channels = (row.output_shape[0], row.output_shape[-1])
        flat = len(row.output_shape) == 1
        height = 0.3 if flat or resolution is None else np.log2(resolution + 1)
        width = 0.3 + 0.09 * np.log2(channels + 1)
        axes.bar(left, height, width, -height / 2, align="edge", color=f"C{i}", alpha=0.75, edgecolor="black")
        shape = " x ".join("?" if n is None else str(n) for n in row.output_shape)
        figures = "" if not row.parameters else f"\n{row.parameters / 1e6:.2f} M\n{_macs(row)}"
        axes.text(
            left + width / 2,
            -height / 2 - 0.3,
            f"{row.stage}\n{shape}{figures}",
            ha="center",
            va="top",
            fontsize=8,
        )
        left += max(width, 1.05) + 0.25
    total = rows[-1]
    axes.set_title(f"{_label(title)}: {total.parameters / 1e6:.2f} M parameters, {_macs(total)}")
    axes.set_xlim(-0.4, left)
    axes.set_ylim(-7.5, 4.5)
    axes.axis("off")
    _save(figure, path)


def _macs(row):
    return "multiply-adds open" if row.macs is None else f"{row.macs / 1e9:.3f} G multiply-adds"


@_names_are_text
def plot_bars(values: dict[str, float], title: str, unit: str, path) -> None:
    """A horizontal bar for each name, the first on top."""
    figure = Figure(figsize=(9, 0.8 + 0.45 * len(values)), layout="constrained")
    axes = figure.subplots()
    # By position: two names that are the same once they are shortened are two bars.
    bars = axes.barh(range(len(values)), list(values.values()))
    axes.set_yticks(range(len(values)), list(map(_label, values)))
    axes.bar_label(bars, fmt="{:,.1f}", padding=3)
    axes.invert_yaxis()
    axes.set(title=show(title), xlabel=unit)
    axes.margins(x=0.15)
    _save(figure, path)


def _save(figure, path):
    with written_aside(path) as part, written_by_others(path):
        figure.savefig(part, dpi=120)
