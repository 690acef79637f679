"""What a training is fed: all of every batch, or on one of several workers its part."""

from __future__ import annotations

import functools

import tensorflow as tf

from keras_resnet.data.identity import digest
from keras_resnet.training.datasets import HELD_OUT_BATCH, held_out_dataset, phases, training_dataset
from keras_resnet.training.recipe import Recipe
from keras_resnet.training.strategies import place, scale_recipe
from keras_resnet.training.workers import distributed


class Feed:
    """The datasets of a training on the devices of a strategy.

    Args:
        data: Anything that `make_dataset` takes.
        recipe: For one device.
        held_out: Its `held_out_dataset`.
        devices: The strategy.
        seed: See `training_dataset`.
        **where: Likewise.

    Attributes:
        recipe: For all devices.
        phases: ``(first epoch, end, side of the images)``, see `phases`.
        steps: Of an epoch.
        image_size: Side of the held-out images, which is the network's.
        channels: Of all images.
        any_size: Some images of the training have another side.
        class_names: In the order of the labels.
        digests: What tells the training and the held-out images from others; see
            `keras_resnet.data.identity`.
        held_out: One pass over the held-out images.
    """

    def __init__(self, data, recipe: Recipe, held_out: tf.data.Dataset, devices, seed: int, **where):
        self._begun, self._devices = recipe, devices
        self.recipe, self.held_out = scale_recipe(recipe, devices.num_replicas_in_sync), held_out
        self.phases = phases(self.recipe)
        self._data, self._seed, self._where = data, seed, where
        self._first = training_dataset(data, self.recipe, self.phases[0][2], seed, **where)
        self.steps = self.recipe.steps_per_epoch or self._first.steps_per_epoch
        self.image_size, self.channels = held_out.element_spec[0].shape[2:]
        sides = {side or self._first.element_spec[0].shape[2] for _, _, side in self.phases}
        self.any_size = sides != {self.image_size}
        self.class_names = self._first.class_names
        self.digests = {"train": digest(self._first), "held_out": digest(held_out)}

    def batches(self, side: int | None, done: int):
        """Those of a phase, after the first `done` batches of the training, without end."""
        make = functools.partial(
            training_dataset, self._data, self.recipe, side, self._seed, done, **self._where
        )
        if place(self._devices)[1] > 1:
            return distributed(self._devices, make, True)
        return make() if done else self._first

    def tests(self):
        """The held-out images for `fit`, and how many steps they take: ``None`` for all there are."""
        if place(self._devices)[1] == 1:
            return self.held_out, None
        # As many on every worker, whatever its part; what is not there counts nothing.
        steps = -(-self.held_out.num_examples // (HELD_OUT_BATCH * self._devices.num_replicas_in_sync))
        make = functools.partial(held_out_dataset, self._data, self._begun, **self._where)
        return distributed(self._devices, make, False), steps
