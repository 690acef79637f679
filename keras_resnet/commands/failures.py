"""What a person reads when a command fails: one line, and the exit status."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys

from keras_resnet.printing import show

REMEDIES = {
    errno.ENOSPC: "make room, or choose another folder",
    errno.EDQUOT: "make room, or choose another folder",
    errno.EACCES: "choose another place, or get the permission",
    errno.EPERM: "choose another place, or get the permission",
    errno.EROFS: "choose another place",
    errno.EEXIST: "choose another name",
    errno.ENOENT: "check the name",
    errno.EISDIR: "give a file",
    errno.ENOTDIR: "give a folder",
    errno.EMFILE: "allow more open files (ulimit -n)",
}
MEMORY = "not enough memory; give a smaller --batch-size or --image-size, or end other processes"


def explain(error: BaseException) -> tuple[str, int]:
    """The line for an error that ends a command, empty for none, and the exit status.

    The status is 130 after Ctrl-C, 141 when who reads the output went away, 3 for a loss that is
    NaN or infinite, and 2 for all else: the command did not do what was asked.
    """
    if isinstance(error, KeyboardInterrupt):
        return "", 128 + signal.SIGINT
    if isinstance(error, BrokenPipeError):
        return "", 128 + 13  # SIGPIPE, which Windows does not have
    return show(" ".join(_describe(error).split())), 3 if isinstance(error, FloatingPointError) else 2


def _describe(error):
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, (ValueError, ImportError, FloatingPointError)):
        return str(error)
    kind = type(error).__name__
    if isinstance(error, MemoryError) or kind == "ResourceExhaustedError":
        return f"{MEMORY} ({_first_line(error)})" if _first_line(error) else f"{MEMORY}."
    if _is_of_tensorflow(error):
        return f"TensorFlow cannot do this: {kind}: {_first_line(error)}; --debug shows where."
    return f"unexpected {kind}: {_first_line(error)}. This is a defect: report it with what --debug shows."


def _of_the_system(error):
    if error.errno is None or (isinstance(error, FileExistsError) and error.filename is None):
        return str(error)
    what = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    remedy = REMEDIES.get(error.errno)
    return f"{what}{error.strerror}{f'; {remedy}' if remedy else ''}."


def _is_of_tensorflow(error):
    errors = sys.modules.get("tensorflow.python.framework.errors_impl")
    return errors is not None and isinstance(error, errors.OpError)


def _first_line(error):
    # Without the names of nodes, which TensorFlow puts in front.
    text = re.sub(r"\{\{.*?\}\} ?", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else ""
