"""The command `keras-resnet`. What each command takes and calls is in `keras_resnet.commands`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings

from keras_resnet import printing
from keras_resnet.commands.failures import explain


def main(arguments=None) -> int:
    """Run one command; returns the exit status.

    0; 1: the command found something bad, such as files that cannot be read; 2: it did not do what was
    asked; 3: the loss of a training became NaN or infinite; 130: Ctrl-C; 141: nobody reads the
    output. SIGTERM ends with 143, by `SystemExit`, so that what is half-written is removed.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = _parser().parse_args(arguments)
        with _terminated_in_order():
            return _run(options)
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in arguments:
            raise
        line, status = explain(error)
        if line:
            print(f"keras-resnet: {line}", file=sys.stderr)
        if isinstance(error, BrokenPipeError):
            # Python flushes stdout once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return status


def _run(options):
    if options.needs_tensorflow:
        from keras_resnet.commands.start import start_tensorflow

        start_tensorflow(quiet=not options.debug)
    options.stdout = sys.stdout
    # With --json stdout is for the document alone.
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext(), _warnings():
        return options.run(options) or 0


@contextlib.contextmanager
def _warnings():
    """Within, a warning is one line, once, without the line of code that it comes from."""
    seen = set()

    def show(message, category, *where, **more):
        if str(message) not in seen:
            seen.add(str(message))
            print(printing.show(f"keras-resnet: warning: {message}"), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _terminated_in_order():
    """Within, SIGTERM raises `SystemExit`; training changes that to a snapshot first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _parser():
    # Imported here, where Ctrl-C is met by `main`.
    from keras_resnet.commands import (
        benchmark,
        completion,
        data,
        doctor,
        inference,
        report,
        training,
        weights,
        zoo,
    )
    from keras_resnet.commands.parser import make_parser

    # In the order of --help.
    return make_parser((zoo, training, report, inference, weights, data, benchmark, doctor, completion))
