"""What several workers of one training do differently: the chief alone writes."""

from __future__ import annotations

import contextlib

import tensorflow as tf

from keras_resnet.training import runs
from keras_resnet.training.checkpoint import Checkpoint, Position
from keras_resnet.training.strategies import agree, place


class WorkerCheckpoint(Checkpoint):
    """The `Checkpoint` of one of several workers: the chief writes the snapshots, and all read them.

    Metrics are summed over all workers for a snapshot, so that all have to come to it at the same
    step: none is made by the clock or after a signal, which acts at once.

    Args:
        strategy: Of the workers.
        folder, callbacks: See `Checkpoint`.
        **options: `every`, `keep` and `config` of `Checkpoint`.
    """

    def __init__(self, strategy: tf.distribute.Strategy, folder, callbacks=(), **options):
        super().__init__(folder, callbacks, **options)
        self._strategy = strategy
        self._chief = place(strategy)[0] == 0

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            if self._chief:
                stack.enter_context(runs.locked(self.folder))
            self._stack = stack.pop_all()
        return self

    def restore(self, model) -> Position:
        """Take the newest whole snapshot, as `Checkpoint` does, and the same one on all workers.

        Raises:
            ValueError: the workers do not see the same snapshots.
        """
        if not model.optimizer.built:  # by all at once, as the chief sends its values to the others
            with self._strategy.scope():
                model.optimizer.build(model.trainable_variables)
        if self._chief:  # who may have to put damaged ones aside
            start = super().restore(model)
        agree(self._strategy, 0)
        if not self._chief:
            start = super().restore(model)
        agree(self._strategy, start.step)
        return start

    def _save(self, epoch, batch, step, metrics):
        if self._chief:
            super()._save(epoch, batch, step, metrics)
        self._saved = step


@contextlib.contextmanager
def lost_workers():
    """Say what to do where TensorFlow says that a worker no longer answers.

    Raises:
        ConnectionError: instead of TensorFlow's own errors.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
        raise ConnectionError(
            f"another worker has ended or cannot be reached ({type(error).__name__}); start all of them "
            "again, with --resume and the folder of the run."
        ) from error


def distributed(strategy: tf.distribute.Strategy, make, training: bool):
    """The batches of this worker, for `fit`: ``make(share=(part, parts))`` gives its datasets.

    In training, an equal part of every batch, of which each of its devices gets an equal part.
    Otherwise empty batches follow without end: all workers must run as many steps, and Keras
    leaves the loop where the images of a worker end.
    """

    def batches(context):
        share = context.input_pipeline_id, context.num_input_pipelines
        dataset, devices = make(share=share), context.num_replicas_in_sync // share[1]
        if training and devices > 1:
            dataset = dataset.map(lambda *batch: tuple(_divided(x, devices) for x in batch)).unbatch()
        if not training:
            empty = tuple(tf.zeros([0, *spec.shape[1:]], spec.dtype) for spec in dataset.element_spec)
            dataset = dataset.concatenate(tf.data.Dataset.from_tensors(empty).repeat())
        return dataset.prefetch(2)

    return strategy.distribute_datasets_from_function(batches)


def _divided(values, parts):
    shape = values.shape.as_list()
    return tf.reshape(values, [parts, shape[0] // parts, *shape[1:]])
