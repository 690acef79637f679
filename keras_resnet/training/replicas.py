"""Training steps that do not depend on how a batch is divided among devices, for `keras.Model.fit`.

Three things of Keras 3.15 under `tf.distribute` are put right, by other methods on the model's and
the optimizer's instances:

- All devices weigh alike in the gradient, whatever their share of the batch. With 21 images in
  batches of 8 on two devices the weights are 1e-2 off after two epochs.
- Gradients are clipped before they are summed over the devices, each by itself.
- `fit` on several workers raises at once: the first batch goes to `Strategy.reduce` as a tuple, and
  scalars are averaged over an axis that they do not have.
"""

from __future__ import annotations

import types

import keras
import tensorflow as tf

from keras_resnet.training.strategies import place


def share_batches(model: keras.Model) -> None:
    """Let a compiled model train on several devices as it would on one, within rounding.

    The loss must be a mean over the images, as Keras's are by default. Call it after `compile`, and
    take batch statistics over all devices (`synchronize`).
    """
    model.train_step = types.MethodType(_train_step, model)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
    if place(model.distribute_strategy)[1] > 1:
        model.test_step = types.MethodType(_test_step, model)
        model._maybe_symbolic_build = types.MethodType(_build_from_own_batch, model)


def _train_step(model, batch):
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    own = tf.shape(tf.nest.flatten(images)[0])[0]
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        # A mean over the images of this device, divided by the number of devices.
        loss = model.compute_loss(images, labels, outputs, weights, training=True)
        tracker = next(metric for metric in model.metrics if metric.name == "loss")
        tracker.update_state(loss * replicas, sample_weight=own)
        # What does not come from images, such as L2, counts whole.
        rest = tf.add_n(model.losses) / replicas if model.losses else 0.0
        share = tf.cast(own * replicas, loss.dtype) / tf.cast(context.all_reduce("SUM", own), loss.dtype)
        loss = model.optimizer.scale_loss((loss - rest) * share + rest)
    gradients = tape.gradient(loss, model.trainable_weights)
    gradients = context.all_reduce("SUM", gradients)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
    return _logs(model, model.compute_metrics(images, labels, outputs, weights))


def _test_step(model, batch):
    return _logs(model, type(model).test_step(model, batch))


def _logs(model, logs):
    """With several workers, Keras reduces along an axis."""
    if place(model.distribute_strategy)[1] == 1:
        return logs
    return {name: tf.reshape(value, [1]) for name, value in logs.items()}


def _build_from_own_batch(model, iterator=None, data_batch=None):
    """Make the variables of the metrics, as Keras does before `fit`."""
    strategy = model.distribute_strategy
    for _, _, batches in iterator or ():
        own = [strategy.experimental_local_results(value)[0] for value in next(batches)]
        data_batch = tuple(own)
        break
    with strategy.scope():
        model._symbolic_build(data_batch=data_batch)
