"""One error for data that cannot be used."""

from __future__ import annotations

import contextlib
import functools
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


def with_clear_errors(dataset):
    """The dataset itself, whose iterators raise a `DataError` as it is, not wrapped by TensorFlow.

    They stay iterators of TensorFlow, which `fit` hands to its compiled functions: a class of our own
    about them would not do.
    """
    dataset.__class__ = _with_clear_iterators(type(dataset))
    return dataset


@functools.cache
def _with_clear_iterators(kind):
    def __iter__(self):
        iterator = kind.__iter__(self)
        iterator.__class__ = _with_clear_next(type(iterator))
        return iterator

    return type(kind.__name__, (kind,), {"__iter__": __iter__, "__module__": kind.__module__})


@functools.cache
def _with_clear_next(kind):
    def __next__(self):
        with clear_errors():
            return kind.__next__(self)

    return type(kind.__name__, (kind,), {"__next__": __next__, "__module__": kind.__module__})
