"""Threads that an error or Ctrl-C ends at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor


@contextlib.contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """A pool which at its end drops what has not begun; Python's own works off a million images first."""
    pool = ThreadPoolExecutor()
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
