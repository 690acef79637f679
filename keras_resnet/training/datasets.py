"""From a recipe to its datasets."""

from __future__ import annotations

from keras_resnet.data.mixing import mix_dataset
from keras_resnet.data.pipeline import make_dataset
from keras_resnet.training.recipe import Recipe

AUGMENTATION = (
    "crop", "crop_padding", "flip", "augment", "augment_magnitude", "augment_ops", "color_jitter", "erase",
    "repeats",
)  # fmt: skip
HELD_OUT_BATCH = 256
SOFTENING = ("mixup", "cutmix", "label_smoothing")


def training_dataset(data, recipe: Recipe, image_size: int | None, seed: int, start_step: int = 0, **where):
    """The batches of a training, without end: a pure function of the seed and of the step.

    Labels are soft where the recipe mixes images or smooths labels.

    Args:
        data: Anything that `make_dataset` takes.
        recipe: Its batch size and augmentation are used.
        image_size: Side in pixels, or ``None``; see `make_dataset`.
        seed: Decides order, augmentation and mixing.
        start_step: Batches to leave out at the start, counted over all epochs.
        **where: `data_dir`, `download`, `layout` and `share` of `make_dataset`.

    Raises:
        ValueError: images of different workers would have to be mixed.
    """
    workers = where.get("share", (0, 1))[1]
    own = recipe.batch_size // workers
    if workers > 1 and own % 2 and (recipe.mixup or recipe.cutmix):
        raise ValueError(f"{own} images on each worker: mixing needs an even number; change batch_size.")
    options = {name: getattr(recipe, name) for name in AUGMENTATION}
    options = {name: value for name, value in options.items() if value != getattr(Recipe, name)}
    dataset = make_dataset(
        data, "train", image_size=image_size, batch_size=recipe.batch_size, seed=seed, start_step=start_step,
        **options, **where,
    )  # fmt: skip
    soft = {name: getattr(recipe, name) for name in SOFTENING}
    return mix_dataset(dataset, seed=seed, start_step=start_step, **soft) if any(soft.values()) else dataset


def held_out_dataset(data, recipe: Recipe, **where):
    """One pass over the held-out images, as the recipe has them evaluated."""
    last = recipe.image_sizes[-1][1] if recipe.image_sizes else recipe.image_size
    return make_dataset(
        data, "held_out", training=False, batch_size=HELD_OUT_BATCH,
        image_size=recipe.test_image_size or last, crop_fraction=held_out_crop(recipe),
        interpolation=recipe.interpolation, **where,
    )  # fmt: skip


def held_out_crop(recipe: Recipe) -> float | None:
    """How much of a held-out image is seen: all of it, if training sees whole images.

    Random resized crops enlarge what they show; a center crop makes up for that (arXiv:1906.06423).
    """
    if recipe.test_crop_fraction is not None:
        return recipe.test_crop_fraction
    return None if recipe.crop == "resized" else 1.0


def phases(recipe: Recipe) -> list[tuple[int, int, int | None]]:
    """``(first epoch, end, side of the images)`` of each size that the training goes through."""
    starts = recipe.image_sizes or ((0, recipe.image_size),)
    ends = [first for first, _ in starts[1:]] + [recipe.epochs]
    return [(first, end, side) for (first, side), end in zip(starts, ends, strict=True)]
