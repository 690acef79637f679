"""One error for data that cannot be used."""

from __future__ import annotations

import contextlib
import re


class DataError(ValueError):
    """Data that cannot be used; the message names the file or value, and what would be right."""


@contextlib.contextmanager
def clear_errors():
    """Turn the error that TensorFlow wraps around a `DataError` of a pipeline back into it."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"DataError: (.*?)\n(?:Traceback|\n|$)", error.message + "\n", re.DOTALL)
        if found is None:
            raise
        raise DataError(found.group(1).strip()) from None
