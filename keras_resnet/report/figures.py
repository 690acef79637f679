"""Figures of a report as SVG: their colours are the page's, so that they are right in light and dark."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from keras_resnet.report.examine import BINS, Calibration
from keras_resnet.report.html import Markup, tag

# Colours of the page's style sheet, --line0 to --line7: those of Okabe and Ito.
COLOURS = 8
_WIDTH, _HEIGHT = 400, 232
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 10, 34


@dataclass(frozen=True)
class Line:
    """A line of a chart: points ``(x, y)`` in the order of x."""

    name: str
    points: list[tuple[float, float]]


def chart(title: str, lines: list[Line], *, unit: str = "{:g}", limits=(None, None)) -> Markup:
    """Lines against epochs, with what belongs to which below the title.

    Args:
        title: Above the chart.
        lines: Points that are not finite are left out.
        unit: How values are written, such as ``"{:.0%}"``.
        limits: The lowest value that is shown, and the highest one that there can be, or ``None``.
    """
    lines = [Line(one.name, [p for p in one.points if all(map(math.isfinite, p))]) for one in lines]
    points = [point for one in lines for point in one.points]
    if not points:
        return Markup()
    (x, x_ticks), (y, y_ticks) = _axes(points, *limits)
    drawn = [_grid(x, x_ticks, y, y_ticks, unit)]
    drawn += [_line(i, one, x, y, unit) for i, one in enumerate(lines)]
    names = [tag("span", tag("i", class_=_style(i)), one.name) for i, one in enumerate(lines) if one.points]
    caption = tag("figcaption", tag("b", title), *(names if len(lines) > 1 else ()))
    return tag("figure", caption, _svg(_WIDTH, _HEIGHT, title, *drawn), class_="chart")


def _axes(points, bottom, top):
    """Of both axes: from a value to its place, and the ticks."""
    xs, ys = zip(*points, strict=True)
    x_ticks = [
        t for t in MaxNLocator(6, integer=True).tick_values(min(xs), max(xs)) if min(xs) <= t <= max(xs)
    ]
    low, high = min(ys), max(ys)
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1
    low = bottom if bottom is not None else max(0, low - margin) if low >= 0 else low - margin
    high = min(high + margin, top if top is not None else math.inf)
    y_ticks = [t for t in MaxNLocator(5).tick_values(low, high) if low <= t <= high]
    x = _scale(min(xs), max(xs), _LEFT + 6, _WIDTH - _RIGHT - 4)
    return (x, x_ticks), (_scale(low, high, _HEIGHT - _BOTTOM, _TOP), y_ticks)


def _scale(low, high, start, end):
    extent = high - low or 1
    middle = 0 if high > low else (end - start) / 2
    return lambda value: round(start + (value - low) / extent * (end - start) + middle, 1)


def _grid(x, x_ticks, y, y_ticks, unit):
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    drawn = [tag("path", d=" ".join(f"M{_LEFT} {y(t)}H{right}" for t in y_ticks), class_="grid")]
    drawn += [
        tag("text", unit.format(t), x=_LEFT - 6, y=y(t) + 4, class_="tick", text_anchor="end")
        for t in y_ticks
    ]
    drawn += [
        tag("text", f"{t:g}", x=x(t), y=bottom + 16, class_="tick", text_anchor="middle") for t in x_ticks
    ]
    drawn.append(tag("text", "epoch", x=right, y=bottom + 30, class_="tick", text_anchor="end"))
    return tag("g", *drawn)


def _line(index, line, x, y, unit):
    path = tag("polyline", points=" ".join(f"{x(a)},{y(b)}" for a, b in line.points))
    unit = unit.replace(".0%", ".2%")
    dots = [
        tag("circle", tag("title", f"{line.name}, epoch {a:g}: {unit.format(b)}"), cx=x(a), cy=y(b), r=2.4)
        for a, b in line.points
    ]
    many = "many" if len(dots) > 40 else None
    return tag("g", path, tag("g", *dots, class_=many), class_=f"line {_style(index)}")


def _style(index):
    return f"c{index % COLOURS}" + (" dashed" if index // COLOURS % 2 else "")


def reliability(calibration: Calibration) -> Markup:
    """Accuracy of each bin of confidence, how far it is from the diagonal, and how many images it has."""
    side, left, top, strip = 250, 50, 10, 52
    x, y = _scale(0, 1, left, left + side), _scale(0, 1, top + side, top)
    width = side / BINS
    drawn, most = [], max(int(calibration.counts.max()), 1)
    bottom = top + side + strip + 34
    for i, (count, sure, hits) in enumerate(
        zip(calibration.counts.tolist(), calibration.confidences, calibration.hits, strict=True)
    ):
        if not count:
            continue
        accuracy, confidence = hits / count, sure / count
        at = {"x": round(x(i / BINS) + 1, 1), "width": round(width - 2, 1)}
        words = f"{count:,} images of {confidence:.1%} confidence: {accuracy:.1%} are right"
        low, high = sorted((accuracy, confidence))
        drawn += [
            tag("rect", tag("title", words), **at, y=y(low), height=round(y(0) - y(low), 1), class_="right"),
            tag("rect", tag("title", words), **at, y=y(high), height=round(y(low) - y(high), 1),
                class_="missing" if accuracy < confidence else "surplus"),
            tag("rect", tag("title", words), **at, y=round(bottom - strip * count / most, 1),
                height=round(strip * count / most, 1), class_="count"),
        ]  # fmt: skip
    drawn.append(tag("path", d=f"M{x(0)} {y(0)}L{x(1)} {y(1)}", class_="diagonal"))
    for share in (0, 0.25, 0.5, 0.75, 1):
        drawn.append(
            tag("text", f"{share:.0%}", x=left - 6, y=y(share) + 4, class_="tick", text_anchor="end")
        )
        drawn.append(
            tag("text", f"{share:.0%}", x=x(share), y=y(0) + 16, class_="tick", text_anchor="middle")
        )
    drawn.append(tag("path", d=f"M{left} {y(0)}h{side}M{left} {bottom}h{side}", class_="axis"))
    drawn.append(tag("text", "images", x=left - 6, y=bottom, class_="tick", text_anchor="end"))
    return tag("figure", _svg(left + side + 16, bottom + 4, "Reliability diagram", *drawn), class_="chart")


def confusion_matrix(confusion: np.ndarray, class_names) -> Markup:
    """True classes down, predicted ones across: right answers and errors in two colours.

    Names where there is room (up to 40 classes), counts up to 20.
    """
    classes = len(confusion)
    named = classes <= 40
    cell = 30 if classes <= 20 else 16 if named else max(4, 480 // classes)
    names = [_short(name) for name in class_names]
    margin = 8 + int(6.4 * max(map(len, names))) if named else 16
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    drawn = []
    for i, j in np.argwhere(confusion).tolist():
        # The root makes few errors visible.
        weight = shares[i, j] if i == j else math.sqrt(shares[i, j])
        words = f"{class_names[i]} → {class_names[j]}: {confusion[i, j]:,} ({shares[i, j]:.1%})"
        count = confusion[i, j] if classes <= 20 else None
        kind = "right" if i == j else "wrong"
        drawn += _cell(margin + cell * j, margin + cell * i, cell, kind, weight, words, count)
    for i, name in enumerate(names if named else ()):
        at = margin + cell * (i + 0.5)
        drawn.append(tag("text", name, x=margin - 6, y=at + 4, class_="tick", text_anchor="end"))
        drawn.append(tag("text", name, x=6 - margin, y=at + 4, class_="tick", text_anchor="start",
                         transform="rotate(-90)"))  # fmt: skip
    side = margin + cell * classes
    frame = tag(
        "rect", x=margin - 0.5, y=margin - 0.5, width=cell * classes, height=cell * classes, class_="frame"
    )
    picture = _svg(side + 4, side + 4, "Confusion matrix", frame, *drawn)
    return tag("figure", tag("div", picture, class_="scroll", style=f"--width:{side + 4}px", tabindex=0))


def _cell(x, y, side, kind, weight, words, count):
    """A square in the colour of `kind`, the stronger the nearer `weight` is to 1, and the count in it."""
    fill = f"{0.08 + 0.92 * weight:.2f}"
    square = {"x": x, "y": y, "width": side - 1, "height": side - 1}
    yield tag("rect", tag("title", words), **square, class_=kind, fill_opacity=fill)
    if count is not None:
        middle = {"x": x + side / 2, "y": y + side / 2 + 4, "text_anchor": "middle"}
        strength = "on" if weight > 0.85 else "middle" if weight > 0.45 else None
        yield tag("text", f"{count:,}", **middle, class_=strength)


def _short(name, limit=16):
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _svg(width, height, title, *content):
    return tag("svg", *content, viewBox=f"0 0 {width} {height}", role="img", aria_label=title)
