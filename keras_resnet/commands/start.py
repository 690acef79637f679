"""TensorFlow starts without its notes on its own start-up."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# What TensorFlow 2.21 writes where all is well, whatever TF_CPP_MIN_LOG_LEVEL says, because it
# writes before it reads that: information (I), the preamble of its logger, and on a machine
# without an NVIDIA driver (303) or with all GPUs hidden from it (NO_DEVICE) that there is no GPU.
NOISE = re.compile(
    r"I\d{4} |WARNING: All log messages before absl::InitializeLog|To enable the following instructions"
    r"|E\d{4} .*failed call to cuInit: .*(\(303\)|NO_DEVICE)"
)


def start_tensorflow(*, quiet: bool = True) -> None:
    """Import TensorFlow and let it look for devices; if `quiet`, its errors are shown and its notes are not.

    Sets TF_CPP_MIN_LOG_LEVEL to 2 (errors only; 0, everything, if not `quiet`) and
    TF_ENABLE_ONEDNN_OPTS to 1, where they are not set.

    Raises:
        ImportError: TensorFlow cannot be imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if quiet else "0")
    # TensorFlow leaves oneDNN off on AMD's CPUs, where its kernels are the faster ones.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "tensorflow" in sys.modules:
        return
    with without_noise() if quiet else contextlib.nullcontext():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, by C++ too, and then show all but `NOISE`."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        standard_error = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(standard_error, 2)
            os.close(standard_error)
            held.seek(0)
            for line in held.read().splitlines(keepends=True):
                if not NOISE.match(line.decode(errors="replace")):
                    os.write(2, line)
