"""Functional models deeper than Python's recursion limit."""

from __future__ import annotations

import contextlib
import sys

import keras


def functional_model(inputs, outputs, name: str | None = None) -> keras.Model:
    """`keras.Model`, for graphs of any depth."""
    with deep_graphs():
        return keras.Model(inputs, outputs, name=name)


@contextlib.contextmanager
def deep_graphs():
    """Let Keras walk thousands of layers: it goes from the output back by recursion.

    ResNet-1202 has 5,400 layers in a row; Python stops at 1,000 calls by default.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 50_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def leaves(model: keras.Model) -> list:
    """The layers of a model, and of the models in it, in the order of their graphs; each one once."""
    found = {}
    pending = [model]
    while pending:
        layer = pending.pop()
        if isinstance(layer, keras.Model):
            pending += reversed(layer.layers)
        else:
            found.setdefault(id(layer), layer)
    return list(found.values())
