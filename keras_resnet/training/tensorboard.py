"""Curves for TensorBoard, by Keras's own callback."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import keras


def check_tensorboard() -> None:
    """Raise ``ImportError`` where the package is missing, which TensorFlow 2.21 no longer brings.

    Keras's callback would find that out only when training has begun.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError("TensorBoard is not installed: pip install 'keras-resnet-zoo[tensorboard]'")


def curves_writer(folder) -> keras.callbacks.TensorBoard:
    """A callback that writes loss, accuracy and learning rate of each epoch into `folder`/tensorboard.

    A run that goes on adds files, and counts epochs on.
    """
    # No graph: that of a network of 1000 layers is larger than its weights.
    writer = keras.callbacks.TensorBoard(Path(folder, "tensorboard"), write_graph=False)
    # It does nothing in a batch, but Keras would wait for each one.
    writer.async_safe = True
    return writer
