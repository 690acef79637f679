"""The files of a run: their names, and for each of them one reader that checks what it reads."""

from __future__ import annotations

import csv
import io
import json
import math
import reprlib
from collections.abc import Callable
from pathlib import Path

import yaml

from keras_resnet.arguments import LARGEST_SIDE
from keras_resnet.data.layout import LAYOUTS
from keras_resnet.data.names import canonical
from keras_resnet.files import write_text
from keras_resnet.transform import INTERPOLATIONS

CONFIG, CLASSES, HISTORY, ENVIRONMENT = "config.yaml", "classes.txt", "history.csv", "env.json"
# A configuration has 2 kB, 22,000 names of ImageNet 400 kB, a million epochs 100 MB.
_LIMITS = {CONFIG: 2**17, CLASSES: 2**24, HISTORY: 2**27, ENVIRONMENT: 2**17}
# Of nested values: aliases of YAML make a billion of them out of a few lines.
_MOST_VALUES, _DEEPEST = 10_000, 20
_LARGEST = 3.5e38  # of float32


def _whole(low, high):
    return lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high:,}"


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


_TEXT = (lambda value: isinstance(value, str) and bool(value.strip()), "text")
_MAPPING = (lambda value: isinstance(value, dict), "'key: value' lines")
# What config.yaml may say, where it says it; further keys may hold any plain value.
FIELDS: dict[str, tuple[Callable, str]] = {
    "model": _TEXT,
    "data": _TEXT,
    "train_split": _TEXT,
    "validation_split": _TEXT,
    "image_size": _whole(1, LARGEST_SIDE),
    "channels": _whole(1, 1024),
    "crop_fraction": (
        lambda value: value is None or (_is_number(value) and 0 < value <= 1),
        "above 0 and at most 1",
    ),
    "interpolation": (lambda value: value in INTERPOLATIONS, f"one of {INTERPOLATIONS}"),
    "batch_size": _whole(1, 2**24),
    "seed": _whole(0, 2**31 - 1),
    "replicas": _whole(1, 2**16),
    "layout": (lambda value: value in LAYOUTS, f"one of {LAYOUTS}"),
    "recipe": _MAPPING,
    "finetune": _MAPPING,
}

_NOT_NEGATIVE = (lambda value: 0 <= value <= _LARGEST, "a finite number of at least 0")
_SHARE = (lambda value: math.isnan(value) or 0 <= value <= 1, "from 0 to 1")
# A loss may be infinite or NaN: that is what the epoch had.
_LOSS = (lambda value: not math.isfinite(value) or abs(value) <= _LARGEST, "a number of float32")
COLUMNS: dict[str, tuple[Callable, str]] = {
    "epoch": (lambda value: 1 <= value <= 2**31 and value % 1 == 0, "a whole number of at least 1"),
    "train_accuracy": _SHARE,
    "test_accuracy": _SHARE,
    "learning_rate": _NOT_NEGATIVE,
    "seconds": _NOT_NEGATIVE,
    "images_per_second": _NOT_NEGATIVE,
}


def read_config(folder, *, keys=None, needed=()) -> dict:
    """Read config.yaml of a run.

    Args:
        folder: The run.
        keys: The only keys to check; by default all of `FIELDS`. Others may be another program's.
        needed: Keys that must be there.

    Returns:
        Its values: text, numbers, booleans, None, and lists and dictionaries of them.

    Raises:
        ValueError: there is no such run, or the file is not what `train` writes; the message names
            the file and the key.
    """
    path = Path(folder, CONFIG)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; give the folder of a run.")
    config = parse_yaml(read_text(path), path)
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not the configuration of a run: expected 'key: value' lines.")
    for key in FIELDS if keys is None else keys:
        holds, words = FIELDS[key]
        if key in config and not holds(config[key]):
            raise ValueError(f"{path}: {key} is {reprlib.repr(config[key])}; it must be {words}.")
    if missing := [key for key in needed if key not in config]:
        raise ValueError(f"{path}: {', '.join(missing)} must be there, and is not.")
    return config


def read_classes(path, count: int | None = None) -> tuple[str, ...]:
    """Read the names of classes, one a line, in the order of the model's outputs.

    A byte order mark, the line ends of other systems and empty lines at the end do not count.

    Args:
        path: A classes.txt.
        count: How many outputs the model has, where that is known.

    Raises:
        ValueError: there are more or fewer names than outputs, a name is empty, or two are the same
            text; the message names the file and the lines.
    """
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not canonical(lines[-1]):
        lines.pop()
    if count is not None and len(lines) != count:
        raise ValueError(
            f"{path} names {len(lines)} classes, and the model has {count} outputs; "
            "write one name a line, in the order of the outputs."
        )
    _check_names(lines, lambda i: f"{path}: line {i + 1}")
    return tuple(lines)


def write_classes(path, names) -> None:
    """Write classes.txt, as `read_classes` reads it.

    Raises:
        ValueError: a name is empty or has a line break, or two are the same text.
    """
    names = tuple(names)
    _check_names(names, lambda i: f"class {i}")
    for name in names:
        if "\n" in name or "\r" in name:
            raise ValueError(f"class {name!r} has a line break in its name; {CLASSES} takes one name a line.")
    text = "".join(f"{name}\n" for name in names)
    try:
        write_text(path, text)
    except UnicodeEncodeError as error:
        raise ValueError(f"{path}: a name of a class is not Unicode: {error}") from None


def read_history(path) -> list[dict[str, float]]:
    """Read history.csv: a dictionary of numbers for each epoch; there may be none.

    Raises:
        ValueError: the file is damaged, or a number cannot be; the message names the file, the row
            and the column.
    """
    text = read_text(path)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row has not as many values as there are columns")
        history = [{key: float(value) for key, value in row.items()} for row in rows]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    before = 0.0
    for number, row in enumerate(history, start=1):
        for key, value in row.items():
            holds, words = COLUMNS.get(key, _LOSS)
            if not holds(value):
                raise ValueError(f"{path}: {key} in row {number} is {value}; it must be {words}.")
        if row.get("epoch", math.inf) <= before:
            raise ValueError(f"{path}: epoch in row {number} is {row['epoch']:g}, after {before:g}.")
        before = row.get("epoch", before)
    return history


def read_environment(path) -> dict:
    """Read env.json: what a run was made with.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    found = parse_json(read_text(path), path)
    if not isinstance(found, dict):
        raise ValueError(f'{path} is damaged: expected an object, such as {{"keras": "3.15.1"}}.')
    return found


def read_text(path) -> str:
    """Read a text file of a run, or a recipe, as UTF-8.

    Raises:
        ValueError: there is no such file, or it cannot be read, or has more bytes than any run writes.
    """
    path = Path(path)
    limit = _LIMITS.get(path.name, max(_LIMITS.values()))
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file.")
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}.") from error
    if len(data) > limit:
        raise ValueError(f"{path} has more than {limit:,} bytes, which no run writes.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is not UTF-8: {error}") from error


def parse_yaml(text: str, where):
    """The plain values of a YAML text; `where` is named in errors.

    Raises:
        ValueError: it is not YAML, or not of plain values.
    """
    try:
        value = yaml.safe_load(text)
    # PyYAML raises an IndexError for '!!int ""' and an AttributeError for '!!timestamp a'.
    except Exception as error:
        raise ValueError(f"{where} is not readable: {_reason(error)}") from error
    return _check_plain(value, where)


def parse_json(text: str, where):
    """The plain values of a JSON text; `where` is named in errors.

    Raises:
        ValueError: it is not JSON, or has too many values.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is damaged: {_reason(error)}") from error
    return _check_plain(value, where)


def _reason(error):
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())[:300] or type(error).__name__


def _check_names(names, where):
    seen = {}
    for i, name in enumerate(names):
        if not (same := canonical(name)):
            raise ValueError(f"{where(i)} is empty; every class needs a name.")
        if same in seen:
            raise ValueError(
                f"{where(i)} and {where(seen[same])} are both {name!r}; each needs its own name."
            )
        seen[same] = i


def _check_plain(value, where):
    """`value`, if it is text, a number, a boolean, None, or a list or dictionary of them."""
    left, waiting = _MOST_VALUES, [(value, 0)]
    while waiting:
        inner, depth = waiting.pop()
        left -= 1
        if left < 0 or depth > _DEEPEST:
            raise ValueError(f"{where} is not readable: it is nested too deeply, or has too many values.")
        if isinstance(inner, dict):
            if wrong := [key for key in inner if not isinstance(key, str)]:
                raise ValueError(f"{where}: the key {reprlib.repr(wrong[0])} must be text.")
            waiting += [(item, depth + 1) for item in inner.values()]
        elif isinstance(inner, list):
            waiting += [(item, depth + 1) for item in inner]
        elif not (inner is None or isinstance(inner, str | int | float)):
            raise ValueError(f"{where}: {reprlib.repr(inner)} must be text, a number or a list.")
    return value
