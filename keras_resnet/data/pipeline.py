"""From a source to batches."""

from __future__ import annotations

import tensorflow as tf

from keras_resnet.data import transforms
from keras_resnet.data.errors import DataError
from keras_resnet.data.sources import Source, open_source

CROPS = (None, "pad", "resized")
INTERPOLATIONS = ("bilinear", "bicubic")
# Undecoded records that a stream shuffles at a time: 0.5 GB of ImageNet, whose records
# tensorflow-datasets has already stored in random order.
SHUFFLE_WINDOW = 4096


def make_dataset(
    data,
    split: str = "train",
    *,
    image_size: int | None = None,
    batch_size: int = 128,
    training: bool | None = None,
    seed: int = 0,
    start_step: int = 0,
    crop: str | None = None,
    crop_padding: int = 4,
    flip: bool = False,
    crop_fraction: float | None = None,
    interpolation: str = "bilinear",
    data_dir=None,
    download: bool = True,
) -> tf.data.Dataset:
    """Batches of ``(images, labels)`` for `fit`, `evaluate` and `predict`.

    Images are uint8 ``(batch, image_size, image_size, channels)``, labels int64 ``(batch,)``;
    normalise in the model, by its ``normalization``. In training the dataset has no end, so
    `fit` needs ``steps_per_epoch=dataset.steps_per_epoch`` (and, to keep Keras from warning,
    ``shuffle=False``); each epoch has another order and
    other crops, all pure functions of `seed`, epoch and position. Otherwise it is one pass in
    the stored order.

    Args:
        data: ``"digits"`` (embedded), the name of a dataset of tensorflow-datasets, a folder
            of class folders, an ``.npz`` file with x_train, y_train, x_test and y_test, or
            arrays ``(images, labels)``, uint8 and integer.
        split: ``"train"``; ``"held_out"``: the validation or test split, or a fifth of the
            images where there is none; or any split that the data has.
        image_size: Side of the images in pixels; by default their own, or 224 where theirs differ.
        batch_size: Images in a batch; in training, a last smaller batch is left out.
        training: Shuffle, augment and repeat; by default for the split "train".
        seed: Decides order and augmentation, from 0 to 2**31 - 1.
        start_step: Batches to leave out at the start, counted over all epochs.
        crop: In training: ``"pad"`` (pad by `crop_padding`, cut out the size again) or
            ``"resized"`` (a random part, resized: for photographs).
        crop_padding: Pixels, for ``crop="pad"``.
        flip: In training, mirror half of the images.
        crop_fraction: How much of the short side is kept where nothing is random; by default
            0.875 where the sizes of the images differ and 1 where they do not.
        interpolation: ``"bilinear"`` or ``"bicubic"``, where nothing is random.
        data_dir: Folder of the prepared datasets of tensorflow-datasets.
        download: Prepare a dataset of tensorflow-datasets that is not there yet.

    Returns:
        A `tf.data.Dataset` with the attributes `class_names`, `num_examples`,
        `steps_per_epoch` and `crop_fraction`.

    Raises:
        DataError: the data cannot be used. A bad image is found when its batch is made.
    """
    _check(image_size, batch_size, seed, start_step, crop, crop_fraction, interpolation)
    source = open_source(data, split, data_dir=data_dir, download=download)
    training = split == "train" if training is None else training
    steps = source.size // batch_size if training else -(-source.size // batch_size)
    if steps == 0:
        raise DataError(f"batch_size={batch_size} is above the {source.size} images of split {split!r}.")
    size = image_size or max(source.image_shape[0] or 0, source.image_shape[1] or 0) or 224
    if crop_fraction is None:
        crop_fraction = 0.875 if None in source.image_shape and not training else 1.0

    def prepare(epoch, index, element):
        image, label = source.lookup(element)
        u = transforms.uniforms(seed, epoch, index)
        if training and crop == "resized":
            image = transforms.random_resized_crop(image, u, size)
        else:
            image = transforms.resize_and_crop(image, size, crop_fraction, interpolation)
        if training and crop == "pad":
            image = transforms.pad_crop(image, u, crop_padding)
        if training and flip:
            image = transforms.flip(image, u)
        return image, label

    make_order = _order if source.records is None else _stream
    dataset = make_order(source, training, seed, steps * batch_size, start_step * batch_size)
    dataset = dataset.map(prepare, tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size, drop_remainder=training).prefetch(tf.data.AUTOTUNE)
    dataset.class_names = source.class_names
    dataset.num_examples = source.size
    dataset.steps_per_epoch = steps
    dataset.crop_fraction = crop_fraction
    return dataset


def _check(image_size, batch_size, seed, start_step, crop, crop_fraction, interpolation):
    if crop not in CROPS:
        raise DataError(f"crop={crop!r} is unknown; choose one of {CROPS}.")
    if interpolation not in INTERPOLATIONS:
        raise DataError(f"interpolation={interpolation!r} is unknown; choose one of {INTERPOLATIONS}.")
    if batch_size < 1 or (image_size is not None and image_size < 1):
        raise DataError(f"batch_size={batch_size} and image_size={image_size} must be at least 1.")
    if not 0 <= seed < 2**31 or start_step < 0:
        raise DataError(f"seed={seed} must be in [0, 2**31), start_step={start_step} at least 0.")
    if crop_fraction is not None and not 0 < crop_fraction <= 1:
        raise DataError(f"crop_fraction={crop_fraction} must be above 0 and at most 1.")


def _order(source: Source, training, seed, per_epoch, start):
    """Elements ``(epoch, index, index)``, by position: a permutation of each epoch's own."""
    if not training:
        return tf.data.Dataset.range(start, source.size).map(lambda i: (tf.zeros((), tf.int64), i, i))

    def at(position):
        epoch = position // per_epoch
        index = tf.random.experimental.index_shuffle(position % per_epoch, [seed, epoch], source.size - 1)
        return epoch, index, index

    return tf.data.Dataset.range(start, tf.int64.max).map(at)


def _stream(source: Source, training, seed, per_epoch, start):
    """Elements ``(epoch, index, record)``, one after another, shuffled in windows."""
    numbered = source.records.enumerate()
    if not training:
        return numbered.skip(start).map(lambda i, record: (tf.zeros((), tf.int64), i, record))

    def shuffled(window, epoch):
        # Not `Dataset.shuffle`, whose order depends on TensorFlow's global seed too.
        index, records = window
        count = tf.size(index)
        order = tf.random.experimental.index_shuffle(
            tf.range(count), [(seed << 32) + epoch, index[0]], count - 1
        )
        return tf.nest.map_structure(lambda x: tf.gather(x, order), (tf.fill([count], epoch), index, records))

    def epoch_from(epoch):
        # A shorter first window moves the borders of the others from epoch to epoch.
        first = tf.random.stateless_uniform((), [seed, epoch], 1, SHUFFLE_WINDOW + 1, tf.int64)
        windows = numbered.take(first).batch(SHUFFLE_WINDOW)
        windows = windows.concatenate(numbered.skip(first).batch(SHUFFLE_WINDOW))
        order = windows.map(lambda *window: shuffled(window, epoch)).unbatch()
        return order.take(per_epoch).skip(tf.maximum(start - epoch * per_epoch, 0))

    return tf.data.Dataset.range(start // per_epoch, tf.int64.max).flat_map(epoch_from)
