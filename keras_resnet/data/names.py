"""When two class names are the same text."""

from __future__ import annotations

import unicodedata

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
