"""HTML and SVG whose text is escaped unless it says that it is markup, and a page that may load nothing."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from keras_resnet.printing import show

DASH = "\N{EN DASH}"
_VOID = {"img", "meta"}


class Markup(str):
    """Text that is HTML already. Names of classes and settings are never that."""


def tag(name: str, /, *content, **attributes) -> Markup:
    """An element: ``tag("td", "a & b", class_="name", data_value=3)``.

    `content` is escaped unless it is `Markup`, attributes always are. ``None`` leaves out; a trailing
    underscore is dropped from an attribute's name, others are hyphens.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(show(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(escape(item) for item in content if item is not None)
    return Markup(f"<{name}{given}>" if name in _VOID else f"<{name}{given}>{inside}</{name}>")


def escape(item) -> Markup:
    """Markup as it is, all else escaped."""
    return item if isinstance(item, Markup) else Markup(html.escape(show(str(item))))


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it shows, what it is sorted by, and a bar of this share of its width."""

    content: object
    value: float | str | None = None
    bar: float | None = None


def number(value, show: Callable, *, bar: bool = False) -> Cell:
    """A number as `show` writes it, such as ``"{:.1%}".format``; a dash where there is none."""
    return Cell(DASH, -1) if value is None else Cell(show(value), value, value if bar else None)


def table(headers, rows, *, sortable: bool = False) -> Markup:
    """Rows of text and `Cell`; columns whose cells are sorted by a number are aligned right."""
    rows = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    numeric = [any(isinstance(row[i].value, float | int) for row in rows) for i in range(len(headers))]
    head = [
        tag("th", tag("button", header, type="button") if sortable else header,
            scope="col", class_="number" if right else None)
        for header, right in zip(headers, numeric, strict=True)
    ]  # fmt: skip
    body = [
        tag("tr", *(
            tag("td", cell.content, class_="number" if right else None, data_value=cell.value,
                style=None if cell.bar is None else f"--bar:{cell.bar:.4f}")
            for cell, right in zip(row, numeric, strict=True)
        ))
        for row in rows
    ]  # fmt: skip
    made = tag(
        "table", tag("thead", tag("tr", *head)), tag("tbody", *body), class_="sortable" if sortable else None
    )
    return tag("div", made, class_="scroll", tabindex=0)


def section(name: str, *content) -> Markup:
    """A part of the page under a heading."""
    anchor = name.lower().replace(" ", "-")
    return tag("section", tag("h2", name), *content, id=anchor)


def page(title: str, subtitle: str, parts: dict[str, list]) -> str:
    """A whole page: one file that needs nothing else, and forbids the browser to load anything.

    Args:
        title: The heading.
        subtitle: The line below it.
        parts: ``{heading: content}``; the first one has no place in the list of contents.
    """
    style, script = (resources.files("keras_resnet.report").joinpath(name).read_text("utf-8")
                     for name in ("page.css", "page.js"))  # fmt: skip
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    contents = [tag("a", name, href=f"#{name.lower().replace(' ', '-')}") for name in list(parts)[1:]]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(style)),
    ]
    body = [
        tag("header", tag("h1", title), tag("p", subtitle), tag("nav", *contents)),
        tag("main", *(section(name, *content) for name, content in parts.items())),
        tag("script", Markup(script)),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{"".join(head)}</head><body>{"".join(body)}</body></html>\n'
    )
