"""Contenders take turns, and the median of their rounds is written down."""

from __future__ import annotations

import csv
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from keras_resnet.files import write_text, written_aside
from keras_resnet.processor import processor
from keras_resnet.report.plots import plot_bars

LIBRARIES = (
    "keras-resnet-zoo",
    "keras",
    "tensorflow",
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "openvino",
)


@dataclass(frozen=True)
class Row:
    """One contender's result.

    Attributes:
        contender: Its name.
        milliseconds: The median of its rounds, for `items` of them each.
        rate: Items (images, if nothing else is said) in a second, by the median round.
        ratio: `rate` over that of the first contender that ran.
        rounds: How many were counted.
        note: Why it did not run; empty if it did.
    """

    contender: str
    milliseconds: float
    rate: float
    ratio: float
    rounds: int
    note: str = ""


def take_turns(contenders: Mapping[str, Callable[[], int] | str], rounds: int = 5) -> list[Row]:
    """Run every contender once to warm up, then `rounds` times in turn.

    Machines are slow for minutes at a time: contenders that run one after another are compared
    under different conditions, those that take turns are not.

    Args:
        contenders: For each name a function that does one round's work and returns how many
            items (images) it went through, or a text: why the contender cannot run here.
        rounds: At least 1.

    Returns:
        A `Row` for each contender, in order; the first that ran has the ratio 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds} must be at least 1.")
    running = {name: run for name, run in contenders.items() if not isinstance(run, str)}
    seconds = {name: [] for name in running}
    items = {name: run() for name, run in running.items()}
    for _ in range(rounds):
        for name, run in running.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    rates = {name: items[name] / median[name] for name in running}
    first = next(iter(rates.values()), float("nan"))
    return [
        Row(name, 1e3 * median[name], rates[name], rates[name] / first, rounds)
        if name in running
        else Row(name, float("nan"), float("nan"), float("nan"), 0, why)
        for name, why in contenders.items()
    ]


def machine() -> str:
    """Processor, cores and versions, on one line."""
    versions = []
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "as TensorFlow chooses")
    python = f"Python {platform.python_version()}"
    return ", ".join([f"{processor()[0]} x {os.cpu_count()}", python, *versions, f"oneDNN: {onednn}"])


def format_rows(title: str, rows: list[Row], unit: str = "img/s") -> str:
    """The rows as an aligned table under the machine that they were measured on."""
    width = max(len(row.contender) for row in rows)
    lines = [title, machine(), f"{'':{width}}  {'ms':>10}  {unit:>10}  {'ratio':>6}  rounds"]
    for row in rows:
        figures = f"{row.milliseconds:10.1f}  {row.rate:10.1f}  {row.ratio:5.2f}x  {row.rounds:6d}"
        lines.append(f"{row.contender:{width}}  {(row.note and 'not run: ' + row.note) or figures}")
    return "\n".join(lines)


def save(title: str, rows: list[Row], folder, unit: str = "img/s") -> None:
    """Write `title`.txt, .csv and .png into `folder`, which is made if need be."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = "-".join("".join(c if c.isalnum() else " " for c in title).split())
    write_text(folder / f"{stem}.txt", format_rows(title, rows, unit) + "\n")
    with (
        written_aside(folder / f"{stem}.csv") as part,
        open(part, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    ran = {row.contender: row.rate for row in rows if row.rounds}
    plot_bars(ran, title, unit, folder / f"{stem}.png")
