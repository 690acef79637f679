"""From a source to batches."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import tensorflow as tf

from keras_resnet import arguments
from keras_resnet.data.augment import POLICIES
from keras_resnet.data.decode import MAX_PIXELS
from keras_resnet.data.errors import DataError, with_clear_errors
from keras_resnet.data.order import draws, part_of, positions, stream
from keras_resnet.data.plan import Plan
from keras_resnet.data.sources import open_source
from keras_resnet.transform import INTERPOLATIONS, USUAL_SIZE

CROPS = (None, "pad", "resized")


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
    augment: str | None = None,
    augment_magnitude: float = 9.0,
    augment_ops: int = 2,
    color_jitter: float = 0.0,
    erase: float = 0.0,
    repeats: int = 1,
    crop_fraction: float | None = None,
    interpolation: str = "bilinear",
    antialias: bool = True,
    share: tuple[int, int] = (0, 1),
    layout: str | None = None,
    data_dir=None,
    download: bool = True,
    max_pixels: int = MAX_PIXELS,
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
            of class folders, a folder of `prepare_tfrecords`, an ``.npz`` file with x_train,
            y_train, x_test and y_test, or arrays ``(images, labels)``, uint8 and integer.
        split: ``"train"``; ``"held_out"``: the validation split, else the test split, else about a
            fifth of the images; or any split that the data have.
        image_size: Side of the images in pixels; by default their own, or 224 where theirs differ.
        batch_size: Images in a batch; in training, a last smaller batch is left out.
        training: Shuffle, augment and repeat; by default for the split "train".
        seed: Decides order and augmentation, from 0 to 2**31 - 1.
        start_step: Batches to leave out at the start, counted over all epochs.
        crop: In training: ``"pad"`` (pad by `crop_padding`, cut out the size again) or
            ``"resized"`` (a random part, resized: for photographs).
        crop_padding: Pixels, for ``crop="pad"``.
        flip: In training, mirror half of the images.
        augment: In training: ``"randaugment"``, timm's with ``mstd0.5-inc1``, or
            ``"trivialaugment"``, torchvision's TrivialAugmentWide.
        augment_magnitude: Of RandAugment, from 0 to 10.
        augment_ops: Operations of RandAugment, each applied to half of the images.
        color_jitter: In training, how far brightness, contrast and saturation vary about 1.
        erase: In training, the part of the images in which a rectangle is made grey.
        repeats: In training, how often an image comes in succession, each time augmented anew;
            an epoch keeps its length, and so sees fewer images (arXiv:1901.09335).
        crop_fraction: How much of the short side is kept where nothing is random. By default all of it
            if the images have one size; if their sizes differ, 0.875, but all of an image that has exactly
            the wanted size.
        interpolation: ``"bilinear"`` or ``"bicubic"``, where nothing is random.
        antialias: Resize with a filter as wide as the scale, as Pillow does; OpenCV and older
            TensorFlow pipelines do not. Where nothing is random.
        share: ``(part, parts)``: only this part of the data, decoded by one of several workers. In
            training an equal part of every batch, `batch_size` being that of all; otherwise every
            `parts`-th image, in batches of `batch_size`.
        layout: For a folder: ``"splits"`` if the folders in it are splits such as ``train`` and
            ``val``, which hold class folders, or ``"classes"``. By default decided by their names
            and what they hold; folders that could be both are an error.
        data_dir: Folder of the prepared datasets of tensorflow-datasets.
        download: Prepare a dataset of tensorflow-datasets that is not there yet.
        max_pixels: Images of more pixels are refused, and smaller ones that would take much more memory
            than so small a file should; by default 2**26 (64 Mpixel). See `docs/security.md`.

    Returns:
        A `tf.data.Dataset` with the attributes `class_names`, `named` (whether these are more than
        numbers), `num_examples`, `steps_per_epoch`, `crop_fraction` and `prepared` (whether images
        were resized or cropped).

    Raises:
        DataError: the data cannot be used. A bad image is found when its batch is made.
    """
    (image_size, batch_size, seed, start_step, crop, crop_padding, flip, augment, augment_magnitude,
     augment_ops, color_jitter, erase, repeats, crop_fraction, interpolation,
     antialias) = _checked(
        image_size=image_size, batch_size=batch_size, seed=seed, start_step=start_step, crop=crop,
        crop_padding=crop_padding, flip=flip, augment=augment, augment_magnitude=augment_magnitude,
        augment_ops=augment_ops, color_jitter=color_jitter, erase=erase, repeats=repeats,
        crop_fraction=crop_fraction, interpolation=interpolation, antialias=antialias,
    )  # fmt: skip
    share = _checked(part=share[0], parts=share[1])
    max_pixels, download = _checked(max_pixels=max_pixels, download=download)
    where = {"layout": layout, "data_dir": data_dir, "download": download}
    source = open_source(data, split, max_pixels=max_pixels, **where)
    (training,) = _checked(training=split == "train" if training is None else training)
    _check_share(share, training, batch_size)
    steps = source.size // batch_size if training else -(-source.size // batch_size)
    if steps == 0:
        raise DataError(f"batch_size={batch_size} is above the {source.size} images of split {split!r}.")
    size = image_size or max(source.image_shape[0] or 0, source.image_shape[1] or 0) or USUAL_SIZE
    if crop_fraction is None and (training or None not in source.image_shape):
        crop_fraction = 1.0
    if training:
        plan = Plan(
            size, crop, crop_padding, flip, augment, augment_magnitude, augment_ops, color_jitter, erase,
            crop_fraction=crop_fraction, interpolation=interpolation, antialias=antialias,
        )  # fmt: skip
    else:
        plan = Plan(size, crop_fraction=crop_fraction, interpolation=interpolation, antialias=antialias)
    if plan.needs_colour and source.image_shape[-1] not in (1, 3):
        raise DataError(f"augment and color_jitter need 1 or 3 channels, not {source.image_shape[-1]}.")
    if training and source.mapped and plan.shrinks(source.image_shape):
        # Once instead of in every epoch: one by one it takes a millisecond an image.
        source, plan = source.mapped(plan.shrink), replace(plan, crop_fraction=1.0)
    dataset = _batches(source, plan, training, seed, batch_size, steps, start_step, repeats, share)
    if not training:
        left = max(0, source.size - start_step * batch_size)
        own = len(range(share[0], left, share[1]))
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(-(-own // batch_size)))
    dataset = dataset.prefetch(2).with_options(fixed_parallelism())
    prepared = training or (size, size) != source.image_shape[:2] or crop_fraction != 1
    return _with_facts(dataset, source, steps, crop_fraction, prepared)


def raw_dataset(
    data,
    split: str = "held_out",
    *,
    batch_size: int = 128,
    layout: str | None = None,
    data_dir=None,
    download: bool = True,
):
    """One pass over the images as they are, for a model that prepares them itself.

    Args:
        data: See `make_dataset`.
        split: See `make_dataset`.
        batch_size: Images in a batch, if all have one size; else there is one image in each.
        layout: See `make_dataset`.
        data_dir: See `make_dataset`.
        download: See `make_dataset`.

    Returns:
        A dataset as `make_dataset` makes it.

    Raises:
        DataError: the data cannot be used.
    """
    source = open_source(data, split, layout=layout, data_dir=data_dir, download=download)
    batch_size = batch_size if None not in source.image_shape else 1
    steps = -(-source.size // batch_size)
    dataset = _batches(source, Plan(None), False, 0, batch_size, steps, 0, 1, (0, 1))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    dataset = dataset.prefetch(2).with_options(fixed_parallelism())
    return _with_facts(dataset, source, steps, 1.0, False)


def _with_facts(dataset, source, steps, crop_fraction, prepared):
    dataset.class_names, dataset.named = source.class_names, source.named
    dataset.num_examples, dataset.steps_per_epoch = source.size, steps
    dataset.crop_fraction, dataset.prepared = crop_fraction, prepared
    dataset.identity = source.identity
    return with_clear_errors(dataset)


def _batches(source, plan, training, seed, batch_size, steps, start_step, repeats, share):
    numbers = draws(plan.numbers, training, seed, batch_size, steps, start_step)
    if training:  # otherwise all are zero
        numbers = part_of(numbers, training, batch_size, share)
    if source.records is None:
        elements = positions(source.size, training, seed, batch_size, steps, start_step, repeats)
        elements = part_of(elements, training, batch_size, share)
        if source.read is None and not plan.alters_single_images(source.image_shape):
            batches = tf.data.Dataset.zip(elements, numbers)
            return batches.map(
                lambda at, u: plan.of_a_batch(*source.lookup(at), u), tf.data.AUTOTUNE, deterministic=True
            )
        elements = elements.unbatch()
    else:
        per_epoch, start = steps * batch_size, start_step * batch_size
        elements = stream(source.records, source.size, training, seed, per_epoch, start, repeats)
        if share[1] > 1:
            elements = part_of(elements.batch(batch_size), training, batch_size, share).unbatch()
    prepare = plan.of_one_image(source)
    prepared = tf.data.Dataset.zip(elements, numbers.unbatch()).map(
        lambda element, u: prepare(source.lookup(element), u), tf.data.AUTOTUNE, deterministic=True
    )
    own = batch_size // share[1] if training else batch_size
    return prepared.batch(own, drop_remainder=training).map(plan.finish)


def fixed_parallelism() -> tf.data.Options:
    """As many images at a time as there are cores.

    TensorFlow's autotuning finds no better number, and closing an iterator then waits for the
    thread that tunes: half a second as a rule, up to four.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    # Images are parallel already: threads inside of one's operations cost 5 % of the time.
    options.threading.max_intra_op_parallelism = 1
    return options


def _check_share(share, training, batch_size):
    part, parts = share
    if not 0 <= part < parts or (training and batch_size % parts):
        raise DataError(
            f"share={tuple(share)}: the part must be below the number of parts, which must divide "
            f"batch_size={batch_size} in training."
        )


def _checked(**given):
    """The arguments, in their order, as plain numbers."""
    try:
        return [_KINDS[name](name, value) for name, value in given.items()]
    except ValueError as error:
        raise DataError(str(error)) from None


def _or_none(check):
    return lambda name, value: None if value is None else check(name, value)


_KINDS = {
    "image_size": _or_none(arguments.side),
    "batch_size": arguments.whole,
    "max_pixels": arguments.whole,
    "seed": arguments.seed,
    "start_step": partial(arguments.whole, least=0),
    "crop": partial(arguments.choice, allowed=CROPS),
    "crop_padding": partial(arguments.whole, least=0, most=arguments.LARGEST_SIDE),
    "flip": arguments.flag,
    "training": arguments.flag,
    "download": arguments.flag,
    "augment": partial(arguments.choice, allowed=POLICIES),
    "augment_magnitude": partial(arguments.real, least=0, most=10),
    "augment_ops": partial(arguments.whole, most=100),
    "color_jitter": partial(arguments.real, least=0),
    "erase": arguments.probability,
    "repeats": arguments.whole,
    # Its range depends on the number of parts: `_check_share` names both.
    "part": partial(arguments.whole, least=-arguments.LARGEST),
    "parts": arguments.whole,
    "crop_fraction": _or_none(arguments.fraction),
    "interpolation": partial(arguments.choice, allowed=INTERPOLATIONS),
    "antialias": arguments.flag,
}
