"""Threads that end in time: at an error, at Ctrl-C, and with the interpreter."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf


@contextlib.contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """A pool which at its end drops what has not begun; Python's own works off a million images first."""
    pool = ThreadPoolExecutor()
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def python_function(function, inputs, output_types, **options):
    """`tf.numpy_function` that does not keep the interpreter from ending.

    An iterator that is alive at the end (an uncaught exception keeps it) is destroyed when Python
    runs no more functions, and waits forever for those that its threads have begun. So the threads
    are stopped before.
    """
    return tf.numpy_function(_CALLS.guarded(function), inputs, output_types, **options)


class _Calls:
    """The Python functions that pipelines call, until the interpreter ends."""

    def __init__(self):
        self.process = None
        self.ending = False
        self.running = set()
        self.latest = 0.0

    def guarded(self, function):
        """The function, refused from the end of the interpreter on."""
        if self.process is None:
            self.process = os.getpid()
            atexit.register(self.end)

        def call(*arguments):
            token = object()
            self.running.add(token)
            try:
                if self.ending:
                    raise RuntimeError("the interpreter is ending")
                return function(*arguments)
            finally:
                self.latest = time.monotonic()
                self.running.discard(token)

        return call

    def end(self) -> None:
        """Refuse all calls, destroy the iterators that make them, and wait until none runs."""
        if os.getpid() != self.process:
            return  # a fork has no threads that could end
        self.ending = True
        _drop_iterators()
        deadline, self.latest = time.monotonic() + 4, time.monotonic()
        while (self.running or time.monotonic() < self.latest + 0.05) and time.monotonic() < deadline:
            time.sleep(0.005)


_CALLS = _Calls()


def _drop_iterators():
    """Take its resource from every iterator of TensorFlow, whoever holds it: then it is destroyed."""
    for thing in gc.get_objects():
        kind = type(thing)
        if "Iterator" in kind.__name__ and kind.__module__.startswith(("tensorflow.", "keras_resnet.")):
            for name, value in list(getattr(thing, "__dict__", {}).items()):
                if isinstance(value, tf.Tensor) and value.dtype == tf.resource:
                    thing.__dict__[name] = None
