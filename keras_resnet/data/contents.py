"""What the entries of a folder are: images, images of other formats, or files that are not used."""

from __future__ import annotations

import os
from collections import Counter

from keras_resnet.data.decode import show
from keras_resnet.data.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp")
REFUSED = (".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".jp2", ".psd")
# What systems and programs leave behind: nobody misses these, so that nothing is said of them.
_CLUTTER = {
    ".ds_store", "thumbs.db", "desktop.ini", "@eadir", "__macosx", "__pycache__", ".git",
    ".ipynb_checkpoints", "lost+found", "$recycle.bin", "system volume information",
}  # fmt: skip
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
HIDDEN, OTHER, IRREGULAR, LOST = "hidden", "not an image", "not a regular file", "a link to nothing"
HIDDEN_FOLDER, UNSUPPORTED = "hidden folder", "unsupported"
OUTSIDE, LEFT_OUT = "outside the class folders", 'left out by layout="splits"'
NOTES = "next to the class folders"
# Lists and notes next to the class folders belong there, hidden folders hide, and a layout was asked for.
_EXPECTED = (NOTES, HIDDEN_FOLDER, LEFT_OUT)


class Unused:
    """How many files of which folders are not used, and why.

    Attributes:
        counts: For each folder the number of files for each reason.
    """

    def __init__(self):
        self.counts: dict[str, Counter[str]] = {}

    def add(self, path: str, reason: str) -> None:
        """Count one file."""
        self.counts.setdefault(os.path.dirname(path), Counter())[reason] += 1

    def lines(self, *, expected: bool = True) -> list[str]:
        """One line a folder; without `expected`, nothing about files that nobody expects to be used."""
        found = {}
        for folder, reasons in self.counts.items():
            told = {reason: n for reason, n in reasons.items() if expected or reason not in _EXPECTED}
            if told:
                why = ", ".join(f"{n} {reason}" for reason, n in told.items())
                found[folder] = f"{show(folder)}: {_files(sum(told.values()))} not used ({why})"
        return [found[folder] for folder in sorted(found)]

    def summary(self) -> str:
        """One line about all folders that a user should know of; empty if there are none."""
        lines = self.lines(expected=False)
        more = f"; and in {len(lines) - 5} more folders: `keras-resnet check-data` lists all" * (
            len(lines) > 5
        )
        return "; ".join(lines[:5]) + more + "." * bool(lines)


def _files(count):
    return "1 file is" if count == 1 else f"{count} files are"


def entries(folder: str) -> list[os.DirEntry]:
    """What is in a folder, by name, without what systems and programs leave behind."""
    try:
        with os.scandir(folder) as found:
            kept = [entry for entry in found if not _is_clutter(entry.name)]
    except OSError as error:
        raise DataError(f"{show(folder)}: cannot be listed: {error.strerror}") from error
    return sorted(kept, key=lambda entry: entry.name)


def _is_clutter(name):
    return name.lower() in _CLUTTER or name.startswith("._")


def is_hidden(entry: os.DirEntry) -> bool:
    """Whether the name begins with a dot."""
    return entry.name.startswith(".")


def is_folder(entry: os.DirEntry) -> bool:
    """Whether this is a folder or a link to one; raises `DataError` for a link that leads to itself."""
    try:
        return entry.is_dir()
    except OSError as error:
        raise DataError(f"{show(entry.path)}: {error.strerror}") from error


def why_not(entry: os.DirEntry) -> str | None:
    """Why a file is not one of the images, or None if it is one.

    A known ending decides, so that a damaged image is an error and not passed over; without one, the
    content does.

    Returns:
        `HIDDEN`, `IRREGULAR`, `LOST`, `OTHER`, `UNSUPPORTED` for images of other formats, or None.
    """
    name = entry.name.lower()
    if is_hidden(entry):
        return HIDDEN
    if entry.is_symlink() and not os.path.exists(entry.path):
        return None if name.endswith(SUFFIXES) else LOST
    if not entry.is_file():
        return IRREGULAR
    if name.endswith(SUFFIXES):
        return None
    return UNSUPPORTED if name.endswith(REFUSED) else _sniff(entry.path)


def _sniff(path):
    try:
        with open(path, "rb") as file:
            head = file.read(32)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")):
        return None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return None
    # Two letters are not enough: a text may begin with BM.
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return None
    if head[:4] in (b"II*\0", b"MM\0*") or head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif"):
        return UNSUPPORTED
    return OTHER
