"""Files that are there whole or not at all. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


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


def write_text(path, text: str) -> None:
    """Write `text` as UTF-8, aside first."""
    with written_aside(path) as part:
        part.write_text(text, encoding="utf-8")
