"""Loss and accuracy for labels of both kinds.

Labels are classes ``(batch,)``, or after mixing or smoothing the shares of all classes
``(batch, classes)``. Outputs are logits ``(batch, classes)``; results are ``(batch,)``.
"""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_resnet")
def softmax_cross_entropy(labels, logits):
    """Cross-entropy of the softmax."""
    if _is_soft(labels, logits):
        return ops.categorical_crossentropy(labels, logits, from_logits=True)
    return ops.sparse_categorical_crossentropy(ops.cast(labels, "int32"), logits, from_logits=True)


@keras.saving.register_keras_serializable("keras_resnet")
def sigmoid_cross_entropy(labels, logits):
    """Mean over the classes of the binary cross-entropy of each one's sigmoid (arXiv:2110.00476)."""
    if not _is_soft(labels, logits):
        labels = ops.one_hot(ops.cast(labels, "int32"), logits.shape[-1])
    return ops.mean(
        ops.binary_crossentropy(ops.cast(labels, logits.dtype), logits, from_logits=True), axis=-1
    )


def accuracy(labels, logits):
    """Whether the likeliest class is right: of a mixed image, that with the larger share."""
    if _is_soft(labels, logits):
        labels = ops.argmax(labels, axis=-1)
    return ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.cast(labels, "int32")), "float32")


@keras.saving.register_keras_serializable("keras_resnet")
class Accuracy(keras.metrics.MeanMetricWrapper):
    """`accuracy`, of which Keras's callbacks know that more is better."""

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(accuracy, name=name, dtype=dtype)
        self._direction = "up"

    def get_config(self):
        """Return what `from_config` needs."""
        return {"name": self.name, "dtype": self.dtype}


LOSSES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}


def _is_soft(labels, logits):
    return len(labels.shape) == len(logits.shape)
