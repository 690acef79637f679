"""Files that are there whole or not at all. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def written_aside(path) -> Iterator[Path]:
    """Yield a path beside `path`, which is renamed to it at the end; an error removes it instead.

    It ends as `path` does, for writers that choose their format by that. What was at `path`
    before stays until the end. An ``OSError`` names `path`.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        if error.filename in (part, str(part)):
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def open_regular(path) -> BinaryIO:
    """Open a regular file to read its bytes.

    Opening a FIFO waits for a writer, a device may never end: ``OSError`` names `path` and what it is.
    """
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind):
        what = next((name for name, test in _KINDS.items() if test(kind)), "a special file")
        raise OSError(errno.EINVAL, f"it is {what}, not a regular file", path)
    # It may have been exchanged since: without blocking, even a FIFO opens at once.
    return open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")


_KINDS = {
    "a folder": stat.S_ISDIR,
    "a FIFO": stat.S_ISFIFO,
    "a socket": stat.S_ISSOCK,
    "a device": lambda kind: stat.S_ISCHR(kind) or stat.S_ISBLK(kind),
}


def write_text(path, text: str) -> None:
    """Write `text` as UTF-8, aside first."""
    with written_aside(path) as part:
        part.write_text(text, encoding="utf-8")
