"""Names from files and folders as text that a terminal shows and does not obey. Standard library only."""

from __future__ import annotations

import os
import unicodedata

# Control characters, such as ESC and CR; invisible ones, such as those that turn the direction of
# text; halves of pairs, which stand for bytes that are no UTF-8; line and paragraph separators.
_ESCAPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Persian and the languages of India spell with these two, and emoji are joined by the second.
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


def show(name) -> str:
    """A path, a name or a message in one line, with escapes as Python writes them: ``"a\\x1b[2J.png"``."""
    return "".join(map(_shown, os.fsdecode(name)))


def _shown(character):
    if unicodedata.category(character) not in _ESCAPED or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")
