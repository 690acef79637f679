"""When two class names are the same text."""

from __future__ import annotations

import unicodedata

from keras_resnet.data.errors import DataError

_BYTE_ORDER_MARK = "\ufeff"


def canonical(name: str) -> str:
    """Return the one form of a class name: equal for every way in which the same text is stored.

    macOS may store "café" as NFD, Linux keeps what it is given; editors add a byte order mark or a space
    at the end of a line. None of these makes another class. Case does: "Jaguar" and "jaguar" differ.

    Args:
        name: A class name from a folder, a file or a list.

    Returns:
        The name in Unicode's NFC, without white space or byte order marks around it; applying the
        function again changes nothing.

    Example:
        >>> canonical("cafe\u0301 ") == "caf\u00e9"
        True
    """
    # NFC first: whatever remains after stripping is still in NFC.
    name, stripped = "", unicodedata.normalize("NFC", name)
    while name != stripped:
        name, stripped = stripped, stripped.strip().strip(_BYTE_ORDER_MARK)
    return name


def listed(names, most: int = 20) -> str:
    """Return the names in one line, the first `most` of them."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def match_classes(model_names, data_names, model: str = "the model", *, data_named: bool = True):
    """Find for each class of some data which output of a model stands for it.

    Args:
        model_names: Names of the outputs, or their numbers if the model has no names.
        data_names: Names of the classes in the order of their labels, or their numbers.
        model: What to call the model in errors.
        data_named: Whether the data have names of their own; arrays have numbers only.

    Returns:
        The output for each label, and what a reader of the result must know, or ``None``.

    Raises:
        DataError: the data have classes that the model does not know; the message has both lists.

    Example:
        >>> match_classes(("cat", "dog"), ("dog", "cat"))
        ([1, 0], 'the classes of the data are in another order and were matched by name')
    """
    known, found = (tuple(map(canonical, names)) for names in (model_names, data_names))
    if known == found:
        return list(range(len(found))), None
    if are_numbers(known) or not data_named:
        return _by_count(known, found, model)
    at = {name: output for output, name in enumerate(known)}
    if unknown := [name for name in found if name not in at]:
        raise DataError(
            f"the data have {len(found)} classes ({listed(found)}), {model} has {len(known)} "
            f"({listed(known)}): it does not know {listed(unknown)}."
        )
    order = [at[name] for name in found]
    if len(found) == len(known):
        return order, "the classes of the data are in another order and were matched by name"
    return order, f"the data have {len(found)} of the {len(known)} classes of {model}, matched by name"


def _by_count(known, found, model):
    if len(found) != len(known):
        raise DataError(f"the data have {len(found)} classes; {model} has {len(known)}.")
    nameless = model if are_numbers(known) else "the data"
    return list(range(len(found))), f"{nameless} without class names: only the number of classes was compared"


def are_numbers(names) -> bool:
    """Whether names are only the numbers 0, 1, 2, ... of classes whose names nobody gave."""
    return tuple(names) == tuple(map(str, range(len(names))))
