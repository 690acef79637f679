"""The datasets that `finetune` is given: those of `make_dataset`, and people's own."""

from __future__ import annotations

from keras_resnet.data.errors import DataError
from keras_resnet.data.names import listed
from keras_resnet.inference.evaluate import check_batched, check_finite
from keras_resnet.inference.pixels import check_range


def endless(train):
    """A training dataset that repeats, and the steps of an epoch; those of `make_dataset` know them."""
    if hasattr(train, "steps_per_epoch"):
        return train, train.steps_per_epoch
    check_finite(train, "train")
    if (steps := int(train.cardinality())) < 1:
        raise DataError("train is empty, or does not know its length: set train.steps_per_epoch.")
    return train.repeat(), steps


def check_pixels(model, *datasets):
    """The first images of each dataset: pixels on another scale would train a network that sees nothing."""
    for dataset in filter(None, datasets):
        images = next(iter(dataset.take(1)), (None,))[0]
        check_batched(dataset, "a dataset")
        if images is not None:
            check_range(images, True, model.name)


def common_names(train, validation):
    """The classes of both."""
    names, others = (tuple(getattr(data, "class_names", None) or ()) for data in (train, validation or train))
    if not names or names != others:
        raise DataError(
            "train and validation must be datasets with the same class_names, such as those of make_dataset "
            f"or keras.utils.image_dataset_from_directory; got {listed(names)} and {listed(others)}."
        )
    if validation is not None and train.element_spec[0].shape[1:] != validation.element_spec[0].shape[1:]:
        raise DataError(
            f"train has images of {tuple(train.element_spec[0].shape[1:])}, "
            f"validation of {tuple(validation.element_spec[0].shape[1:])}."
        )
    return names
