"""The file of a record: from this package, from the cache, or from the web. Standard library only."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from pathlib import Path

from keras_resnet.weights.fetch import DownloadError, fetch, is_good, local_errors, published_digest
from keras_resnet.weights.records import PACKAGED, Record


def download(record: Record, cache_dir=None, *, offline: bool | None = None, progress: bool = True) -> Path:
    """The file of `record`, from this package, from the cache or else from the web.

    Args:
        record: What to get.
        cache_dir: Folder that keeps the files, in a folder for each source. By default
            ``weights`` in $KERAS_RESNET_HOME, which by default is ``~/.cache/keras_resnet``.
        offline: Never use the network. By default true if $KERAS_RESNET_OFFLINE is set, to
            anything but 0.
        progress: Draw a bar on stderr where that is a terminal.

    Returns:
        Path of the file; its checksum is verified once in a process.

    Raises:
        DownloadError: see `fetch`; or the file is not in the cache and `offline` is true.
    """
    if record.url.startswith(PACKAGED):
        return _packaged(record)
    path = cache_path(record, cache_dir)
    offline = os.environ.get("KERAS_RESNET_OFFLINE", "") not in ("", "0") if offline is None else offline
    if not offline:
        with _bar(path.name, progress) as report:
            return fetch(record.url, path, sha256=record.sha256, md5=record.md5, progress=report)
    if _is_whole(path, record):
        return path
    problem = "its checksum is wrong" if path.exists() else "there is no such file"
    raise DownloadError(
        f"{path}: {problem}, and offline=True or KERAS_RESNET_OFFLINE forbids to download it; "
        f"fetch {record.url} elsewhere and put it there under this name."
    )


def _packaged(record) -> Path:
    path = Path(__file__).with_name(record.file)
    if _is_whole(path, record):
        return path
    raise DownloadError(f"{path}: is missing or damaged; install keras-resnet-zoo again.")


def _is_whole(path, record) -> bool:
    with local_errors(path):
        return is_good(path, published_digest(record.sha256, record.md5))


def cache_path(record: Record, cache_dir=None) -> Path:
    """Where `download` keeps the file of `record`: ``<cache_dir>/<source>/<file>``."""
    for name in (record.source, record.file):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise DownloadError(f"{record.url}: {name!r} is no file name of letters, digits and '._-'.")
    return Path(cache_dir or weights_folder()).expanduser() / record.source / record.file


def weights_folder() -> Path:
    """Where weights are kept if nothing else is said."""
    return Path(os.environ.get("KERAS_RESNET_HOME") or "~/.cache/keras_resnet", "weights").expanduser()


@contextlib.contextmanager
def _bar(name, wanted):
    """Yield what draws a bar on stderr, or ``None`` where that is no terminal."""
    drawn = []  # (seconds, bytes)

    def report(done, total):
        now = time.monotonic()
        if drawn and now - drawn[-1][0] < 0.1 and done != total:
            return
        drawn.append((now, done))
        speed = (done - drawn[0][1]) / 1e6 / max(now - drawn[0][0], 1e-3)
        share = f"{100 * done / total:3.0f} % of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
        print(f"\r{name}: {share}, {speed:.1f} MB/s ", end="", file=sys.stderr, flush=True)

    try:
        yield report if wanted and sys.stderr.isatty() else None
    finally:
        if drawn:
            print(file=sys.stderr)
