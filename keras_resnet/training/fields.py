"""Values of text files and of people as the types that the fields of a record have."""

from __future__ import annotations

import types
from typing import get_args, get_origin, get_type_hints

from keras_resnet.arguments import plain, side
from keras_resnet.nearest import suggest

SIDES = ("image_size", "test_image_size")


def cast_fields(settings: dict, record: type, called: str) -> dict:
    """The settings, each as the type that the field of `record` with its name has.

    Args:
        settings: Values as YAML and people give them.
        record: A dataclass.
        called: What errors call it, such as "a recipe".

    Raises:
        ValueError: there is no such field (the nearest is suggested), or it takes another type.
    """
    kinds = get_type_hints(record)
    changes = {}
    for key, value in settings.items():
        _check_name(key, kinds, called)
        try:
            value = side(key, value) if key in SIDES and value is not None else value
            changes[key] = _cast(value, kinds[key])
        except TypeError:
            wanted = getattr(kinds[key], "__name__", None) if isinstance(kinds[key], type) else None
            raise ValueError(
                f"{key}={value!r} is {type(value).__name__}; the field takes {wanted or kinds[key]}."
            ) from None
    return changes


def _cast(value, kind):
    """`value` as a `kind`; a ``TypeError`` where it is something else."""
    value = plain(value)
    if isinstance(kind, types.UnionType):
        for option in get_args(kind):
            try:
                return _cast(value, option)
            except TypeError:
                continue
        raise TypeError
    if kind is tuple and isinstance(value, list):
        return _frozen(value)
    if get_origin(kind) is tuple:
        return _cast_tuple(value, get_args(kind))
    if kind is dict and isinstance(value, dict):
        return {key: _frozen(inner) for key, inner in value.items()}
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            raise TypeError from None
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError
    return value


def _cast_tuple(value, kinds):
    if not isinstance(value, (list, tuple)):
        raise TypeError
    kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
    if len(kinds) != len(value):
        raise TypeError
    return tuple(_cast(inner, kind) for inner, kind in zip(value, kinds, strict=True))


def _frozen(value):
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _check_name(name, known, owner):
    if name not in known:
        hint = suggest(name, known, f"the fields are {', '.join(known)}.", n=1)
        raise ValueError(f"{owner} has no field {name!r}; {hint}")
