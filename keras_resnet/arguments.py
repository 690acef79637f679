"""Checks of arguments, one function for each kind, used wherever people pass one.

Each returns the value as a plain Python number or tuple, so that numpy's scalars and arrays can
be passed, and raises ``ValueError`` with the argument's name, its value, and what would be right.
Standard library only.
"""

from __future__ import annotations

import math
import numbers

# Larger counts overflow somewhere below; nobody means them.
LARGEST = 2**31 - 1
# A batch of one such image takes 50 MB, and 4 GB behind the first convolution of a ResNet-50.
LARGEST_SIDE = 4096
# Of an input, which takes no memory before it is given an image.
LARGEST_INPUT = 65_536
MANY_CHANNELS = 4096


def plain(value):
    """A scalar of numpy or of a tensor as a Python number; anything else as it is."""
    if getattr(value, "shape", None) == () and hasattr(value, "dtype"):
        convert = getattr(value, "item", None) or getattr(value, "numpy", None)
        return plain(convert()) if convert else value
    return value


def whole(name: str, value, least: int = 1, most: int = LARGEST) -> int:
    """A whole number in [`least`, `most`]: an int, an integer of numpy, or a float such as 32.0."""
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number) or not least <= number <= most:
        near = most == LARGEST and not (number or 0) > most
        limit = f"of at least {least}" if near else f"from {least} to {most}"
        raise ValueError(f"{name}={_shown(value)} must be a whole number {limit}{_hint(value)}.")
    return int(number)


def real(name: str, value, *, least=-math.inf, above=-math.inf, below=math.inf, most=math.inf) -> float:
    """A finite number within the limits that are given."""
    number = _number(value)
    if (
        number is None
        or not math.isfinite(number)
        or not (above < number < below and least <= number <= most)
    ):
        wanted = f"a finite number{_interval(least, above, below, most)}"
        raise ValueError(f"{name}={_shown(value)} must be {wanted}{_hint(value)}.")
    return float(number)


def rate(name: str, value) -> float:
    """How often something is dropped, in [0, 1): at 1 nothing would be left."""
    return real(name, value, least=0, below=1)


def probability(name: str, value) -> float:
    """A number in [0, 1]."""
    return real(name, value, least=0, most=1)


def fraction(name: str, value) -> float:
    """How much is kept, in (0, 1]."""
    return real(name, value, above=0, most=1)


def flag(name: str, value) -> bool:
    """True or false; a text, such as "no", would count as true."""
    value = plain(value)
    if not isinstance(value, bool):
        raise ValueError(f"{name}={_shown(value)} must be True or False.")
    return value


def choice(name: str, value, allowed):
    """One of `allowed`."""
    if not any(value is known or (type(value) is type(known) and value == known) for known in allowed):
        raise ValueError(f"{name}={_shown(value)} is unknown; choose one of {tuple(allowed)}.")
    return value


def known(name: str, value, names) -> str:
    """A name that a table may have; text, so that a list or a model is not looked up in it."""
    if not isinstance(value, str):
        raise ValueError(f"{name}={_shown(value)} must be a name, such as {next(iter(names))!r}.")
    return value


def model(name: str, value):
    """A Keras model, by what it can do; a path is not one."""
    if not (hasattr(value, "layers") and hasattr(value, "get_layer")):
        raise ValueError(
            f"{name}={_shown(value)} must be a Keras model; open_model(path).model opens a run or a file."
        )
    return value


def seed(name: str, value) -> int:
    """A seed, in [0, 2**31)."""
    return whole(name, value, least=0)


def side(name: str, value, least: int = 1) -> int:
    """The side of square images in pixels: a number, or a pair ``(height, width)`` of equal ones."""
    sides = _items(value)
    if sides is None:
        return whole(name, value, least, LARGEST_SIDE)
    if len(sides) != 2 or _number(sides[0]) is None or _number(sides[0]) != _number(sides[1]):
        raise ValueError(
            f"{name}={_shown(value)} must be one side in pixels, such as 224: images are square."
        )
    return whole(name, sides[0], least, LARGEST_SIDE)


def image_shape(name: str, value) -> tuple[int | None, int | None, int]:
    """``(height, width, channels)`` of an input; height and width may be ``None``."""
    shape = _items(value)
    if shape is None or len(shape) != 3:
        wanted = f"(height, width, channels), such as (224, 224, 3){_missing(shape)}"
        raise ValueError(f"{name}={_shown(value)} must be {wanted}.")
    height, width, channels = (None if n is None else _number(n) for n in shape)
    if height in (1, 3, 4) and channels is not None and channels == width > 4:
        raise ValueError(
            f"{name}={_shown(value)} has its channels first; the models are channels last: "
            f"give ({int(width)}, {int(channels)}, {int(height)})."
        )
    if channels is None:
        raise ValueError(f"{name}={_shown(value)} must be (height, width, channels) with channels known.")
    sides = [n if n is None else whole(f"{name}={_shown(value)}: {of}", n, 1, LARGEST_INPUT)
             for of, n in (("height", shape[0]), ("width", shape[1]))]  # fmt: skip
    return *sides, whole(f"{name}={_shown(value)}: channels", shape[2], 1, MANY_CHANNELS)


def mean_and_std(name: str, value, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """``(mean, std)`` on the scale of 0 to 1, each one number or one for each channel."""
    pair = _items(value)
    if pair is None or len(pair) != 2:
        raise ValueError(
            f"{name}={_shown(value)} must be (mean, std) on the scale of 0 to 1, such as "
            "((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))."
        )
    mean, std = (
        _per_channel(f"{of} of {name}", some, channels)
        for of, some in zip(("mean", "std"), pair, strict=True)
    )
    return (
        tuple(_on_unit_scale(f"mean of {name}", n, least=0) for n in mean),
        tuple(_on_unit_scale(f"std of {name}", n, above=0) for n in std),
    )


def _on_unit_scale(name, value, **limits):
    number = _number(value)
    if number is not None and 1 < number <= 255:
        raise ValueError(
            f"{name} is {_shown(value)}, which is on the scale of 0 to 255; it must be on that of "
            f"0 to 1: {number / 255:.4g}."
        )
    return real(name, value, most=1, **limits)


def _per_channel(name, value, channels):
    values = _items(value)
    values = [value] * channels if values is None else values
    if len(values) != channels:
        raise ValueError(
            f"{name} has {len(values)} values for an input of {channels} channels: {_shown(value)}."
        )
    return values


def _number(value):
    """`value` as an int or a float, or ``None`` where it is no number; True and False are none."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _items(value):
    """What a sequence or array holds, as a list; ``None`` for anything else."""
    if hasattr(value, "tolist") and getattr(value, "shape", ()) != ():
        value = value.tolist()
    elif hasattr(value, "as_list"):  # a shape of TensorFlow
        value = value.as_list()
    return list(value) if isinstance(value, (tuple, list)) else None


def _interval(least, above, below, most):
    low, high = max(least, above), min(most, below)
    if math.isfinite(low) and math.isfinite(high):
        return f" in {'(' if low == above else '['}{low}, {high}{')' if high == below else ']'}"
    if math.isfinite(low):
        return f" above {low}" if low == above else f" of at least {low}"
    return f" of at most {high}" if math.isfinite(high) else ""


def _missing(shape):
    if shape is not None and len(shape) == 2:
        return ": the channels are missing"
    if shape is not None and len(shape) == 4:
        return ": leave out the batch"
    return ""


def _hint(value):
    return ", not text" if isinstance(value, str | bytes) else ""


def _shown(value):
    text = " ".join(repr(plain(value)).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
