"""What someone may have meant by a name that there is not. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(name, known: Iterable[str], otherwise: str, n: int = 3) -> str:
    """The end of an error about `name`: ``did you mean 'resnet50' or 'resnet50d'?``

    Args:
        name: What was given; of any type, because YAML has keys that are no text.
        known: All names that there are. Capitals do not count.
        otherwise: What to say where none of them is near.
        n: At most so many are named, the nearest first.
    """
    by_lower = {key.lower(): key for key in known}
    near = [by_lower[key] for key in difflib.get_close_matches(str(name).lower(), by_lower, n)]
    if not near:
        return otherwise
    *others, last = map(repr, near)
    return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
