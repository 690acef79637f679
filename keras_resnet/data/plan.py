"""What happens to an image on its way into a batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf

from keras_resnet.data import augment, images, transforms
from keras_resnet.data.sources import Source
from keras_resnet.data.transforms import AREA, ASPECT, AUGMENT, FLIP, JITTER, LEFT, TOP
from keras_resnet.data.workers import python_function
from keras_resnet.transform import crop_fraction_for


@dataclass(frozen=True)
class Plan:
    """The transforms of a pipeline, in their order; the fields are arguments of `make_dataset`.

    They are done to single images, or, where the images are in memory and need no more than
    padded crop and flip, to whole batches, which costs a tenth. Erasing is done to batches.
    Without a `size` images stay as they are.
    """

    size: int | None
    crop: str | None = None
    crop_padding: int = 0
    flip: bool = False
    augment: str | None = None
    augment_magnitude: float = 0.0
    augment_ops: int = 1
    color_jitter: float = 0.0
    erase: float = 0.0
    crop_fraction: float | None = 1.0
    interpolation: str = "bilinear"
    antialias: bool = True

    @property
    def needs_colour(self) -> bool:
        """Whether Pillow has to know what the channels mean."""
        return self.augment is not None or self.color_jitter > 0

    @property
    def numbers(self) -> int:
        """Random numbers that an image needs; see `uniforms`."""
        return -(-(AUGMENT + self.augment_ops * augment.NUMBERS) // 4) * 4

    def alters_single_images(self, shape) -> bool:
        """Whether images of this shape need more than `of_a_batch`."""
        resized = self.size and (shape[:2] != (self.size, self.size) or self.crop_fraction != 1)
        return bool(self.needs_colour or self.crop == "resized" or resized)

    def shrinks(self, shape) -> bool:
        """Whether images of this shape are all resized alike, to what needs no more memory."""
        smaller = None not in shape and self.size <= min(shape[:2])
        return smaller and self.crop != "resized" and shape[:2] != (self.size, self.size)

    def shrink(self, pixels):
        """An image as it is resized before all else."""
        how = self.interpolation, self.antialias
        return images.resize_and_crop(pixels, self.size, self.crop_fraction, *how)

    def of_a_batch(self, batch, labels, u):
        """All that is done to images that `alters_single_images` leaves alone: ``(images, labels)``."""
        if self.crop == "pad":
            batch = transforms.pad_crop(batch, u, self.crop_padding)
        if self.flip:
            batch = transforms.flip(batch, u)
        return self.finish(batch, labels, u)

    def finish(self, batch, labels, u):
        """What is done to batches of images from `of_one_image`: ``(images, labels)``."""
        return transforms.erase(batch, u, self.erase) if self.erase else batch, labels

    def of_one_image(self, source: Source):
        """From the tensors of a source's `lookup` and random numbers to ``(image, label, numbers)``."""
        read = source.read or _read_array
        shape = (self.size, self.size, source.image_shape[-1])

        def part(u, *element):
            pixels, label = self._part(partial(read, *element), u)
            return np.ascontiguousarray(pixels), np.int64(label)

        def prepare(element, u):
            image, label = python_function(part, [u, *element], [tf.uint8, tf.int64])
            if self.needs_colour or self.crop == "pad":
                image = python_function(self._augmented, [image, u], tf.uint8)
            elif self.flip:
                image = tf.cond(u[FLIP] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
            return tf.ensure_shape(image, shape), tf.ensure_shape(label, ()), u

        return prepare

    def _part(self, read, u):
        """The part of the image that is seen, resized."""
        if self.crop != "resized":
            return self._middle(read)
        areas, aspects, (top, left) = u[AREA].tolist(), u[ASPECT].tolist(), u[[TOP, LEFT]].tolist()
        least, box, part = int(images.REDUCING_GAP * self.size), None, None

        def choose(width, height):
            nonlocal box, part
            box = images.random_box(width, height, areas, aspects, top, left)
            part = images.aligned(box, width, height, images.reduction((0, 0, *box[2:]), least))
            return part

        pixels, label = read(choose, least)
        return images.resize_part(pixels, self.size, box, part), label

    def _augmented(self, pixels, u):
        u = u.tolist()
        if self.crop == "pad":
            pixels = images.pad_crop(pixels, u[TOP], u[LEFT], self.crop_padding)
        if self.flip and u[FLIP] < 0.5:
            pixels = pixels[:, ::-1]
        pixels = np.ascontiguousarray(pixels)
        return augment.augment(pixels, self._augmentations(u)) if self.needs_colour else pixels

    def _middle(self, read):
        if self.size is None:
            return read(lambda width, height: (0, 0, width, height), 0)
        if self.interpolation != "bilinear" or not self.antialias:  # which needs the whole image
            pixels, label = read(lambda width, height: (0, 0, width, height), 0)
            return self.shrink(pixels), label
        box = None

        def choose(width, height):
            nonlocal box
            fraction = crop_fraction_for(width, height, self.size, self.crop_fraction)
            if (width, height) == (self.size, self.size) and fraction == 1:
                return 0, 0, width, height
            box = images.middle(width, height, self.size, fraction)
            part = images.window(box, width, height, self.size)
            box = images.within(box, part)
            return part

        pixels, label = read(choose, 0)
        return (images.resize_box(pixels, self.size, box, self.interpolation) if box else pixels), label

    def _augmentations(self, u):
        functions = []
        if self.augment == "randaugment":
            for start in range(AUGMENT, AUGMENT + self.augment_ops * augment.NUMBERS, augment.NUMBERS):
                some = u[start : start + augment.NUMBERS]
                functions.append(partial(augment.rand_augment, u=some, magnitude=self.augment_magnitude))
        elif self.augment == "trivialaugment":
            functions.append(partial(augment.trivial_augment, u=u[AUGMENT:]))
        if self.color_jitter:
            functions.append(partial(augment.color_jitter, u=u[JITTER], strength=self.color_jitter))
        return functions


def _read_array(pixels, label, choose, _):
    return images.cut(pixels, choose(pixels.shape[1], pixels.shape[0])), label
