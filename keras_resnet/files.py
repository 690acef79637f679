"""Files that are there whole or not at all, and that one process writes at a time. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from keras_resnet.printing import show

try:
    import fcntl
except ImportError:  # Windows: two processes that write one file are not told apart there
    fcntl = None

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class BusyError(ValueError):
    """What another process is writing; the message names it, and the process."""


@contextlib.contextmanager
def written_aside(path) -> Iterator[Path]:
    """Yield a path beside `path`, which is renamed to it at the end; an error removes it instead.

    It ends as `path` does, for writers that choose their format by that; it may become a file or a
    folder. What was at `path` before stays until the end. What a process left that was killed here is
    removed.

    Raises:
        BusyError: another process is writing `path`.
        OSError: with the name of `path`, whatever the writer called it.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    part, lock = (path.with_name(f".{kind}-{path.name}") for kind in ("part", "lock"))
    with _named(path, part, lock), locked(lock, path):
        remove(part)
        try:
            yield part
            os.replace(part, path)
        finally:
            remove(part)


@contextlib.contextmanager
def _named(path, *hidden):
    """Let errors of the system name `path` where they name no file, or a hidden one."""
    try:
        yield
    except OSError as error:
        name = error.filename
        if error.errno is not None and (name is None or Path(os.fsdecode(name)) in hidden):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def written_by_others(path) -> Iterator[None]:
    """Let what a writer of another library raises be an ``OSError`` that names `path`.

    They raise whatever they like: a full disk is an error of their own, with the number in its text.
    """
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split())
        number = re.search(r"(?:errno = |os error |Errno )(\d+)", text)
        if number is None:
            raise OSError(f"{show(path)} cannot be written: {type(error).__name__}: {text[:300]}") from error
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from error


def remove(path) -> None:
    """Remove a file or a folder, if it is there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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


@contextlib.contextmanager
def locked(path, what):
    """Keep other processes away from `what` by the file `path`, which names process and host.

    The lock is the system's and ends with the process, however it ends. On a file system that
    has no locks the file decides: the lock of a process of this host that is gone is taken over.

    Raises:
        BusyError: another process has the lock.
    """
    file = _taken(Path(path), what)
    with file:
        try:
            # On a full disk nobody learns who has the lock; it holds all the same.
            with contextlib.suppress(OSError):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            yield
        finally:
            file.truncate(0)
            # While it is locked: whoever has opened it meanwhile sees that it is another file.
            with contextlib.suppress(OSError):
                os.unlink(path)


def _taken(path, what):
    """The lock file, open and locked."""
    while True:
        file = open(path, "a+b", buffering=0)  # noqa: SIM115  `locked` closes it
        try:
            file.seek(0)
            holder = file.read(1000).decode("utf-8", "replace")
            if not _take(file, holder):
                by = show(holder.strip()) or "another process"
                raise BusyError(
                    f"{show(what)} is in use by {by}; wait for its end or choose another name. "
                    f"If that process is gone, remove {show(path)}."
                )
            if _is_at(file, path):
                return file
        # Ctrl-C too.
        except BaseException:
            file.close()
            raise
        file.close()


def _take(file, holder) -> bool:
    if (taken := flocked(file)) is not None:
        return taken
    named = re.fullmatch(r"process (\d+) on (.*)\n", holder)
    gone = named and named[2] == socket.gethostname() and not _alive(int(named[1]))
    return not holder or bool(gone)


def flocked(file) -> bool | None:
    """Lock an open file: whether that was possible; ``None`` where the file system has no locks.

    The lock ends when the file is closed, or with the process.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def _is_at(file, path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
