"""The record that says how to train: its fields, how they are changed, and how a file gives them."""

from __future__ import annotations

import itertools
import math
from dataclasses import MISSING, dataclass, field, fields, replace

from keras_resnet.arguments import side
from keras_resnet.nearest import suggest
from keras_resnet.run_files import parse_yaml, read_text
from keras_resnet.training.fields import cast_fields
from keras_resnet.variant import Variant

CHOICES = {
    "optimizer": ("sgd", "lamb"),
    "schedule": ("cosine", "step", "constant", "polynomial", "one_cycle"),
    "loss": ("softmax", "sigmoid"),
    "jit_compile": ("auto", True, False),
}
ABOVE_ZERO = ("epochs", "batch_size", "steps_per_epoch", "learning_rate", "accumulate", "clip_norm",
              "ema_every", "factor", "power")  # fmt: skip
NOT_NEGATIVE = ("weight_decay", "mixup", "cutmix")
BELOW_ONE = ("momentum", "label_smoothing", "ema", "dropout", "drop_path")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained; raises ``ValueError`` for what cannot be.

    Attributes:
        model: The variant that `keras_resnet.train` takes where it is told nothing else.
        data: Likewise, the data.
        architecture: Fields of the variant to replace; see `keras_resnet.Variant`.
        image_size: Side of the training images in pixels; by default what the data have.
        image_sizes: ``((first epoch, side), ...)``, for training on images that grow.
        test_image_size: Side of the held-out images, where it is another.
        test_crop_fraction: How these are cut out; see `keras_resnet.make_dataset`.
        interpolation: How these are resized; likewise.
        epochs: Passes over the training images.
        steps_per_epoch: Steps of an epoch, for an epoch that is not one pass.
        batch_size: Images in a step.
        accumulate: Steps whose mean gradient makes one update. Schedules count steps.
        optimizer: ``"sgd"`` (as torch's) or ``"lamb"`` (as timm's); see
            `keras_resnet.training.optimizers`.
        learning_rate: The highest.
        momentum: Of SGD.
        nesterov: Likewise.
        weight_decay: Coefficient of the L2 term: SGD adds ``weight_decay * weight`` to the
            gradient, LAMB to the update before it is scaled.
        decay_all: Decay biases and normalisation too, not only kernels.
        clip_norm: The gradients are scaled down to this norm, taken over all of them.
        schedule: How the rate changes from step to step: ``"cosine"`` and ``"polynomial"``
            (of degree `power`) fall to zero, ``"step"`` multiplies by `factor` at each epoch
            of `boundaries`, ``"one_cycle"`` rises from a 25th and falls along half cosines
            (arXiv:1708.07120), or ``"constant"``.
        warmup_epochs: Over which the rate first rises, linearly from zero.
        boundaries: In epochs from the start of the training.
        loss: ``"softmax"`` cross-entropy, or ``"sigmoid"``: a binary one for each class
            (arXiv:2110.00476), their mean.
        label_smoothing: Share of the label that is spread over all classes.
        mixup: Parameter of the Beta distribution (arXiv:1710.09412), or 0.
        cutmix: Likewise (arXiv:1905.04899); with both, each batch gets one or the other.
        crop: Augmentation; see `keras_resnet.make_dataset`, for the next eight fields too.
        crop_padding: Likewise.
        flip: Likewise.
        augment: Likewise.
        augment_magnitude: Likewise.
        augment_ops: Likewise.
        color_jitter: Likewise.
        erase: Likewise.
        repeats: Likewise.
        dropout: See `keras_resnet.build_resnet`.
        drop_path: Likewise.
        ema: Decay, in a step, of the moving average of weights and statistics that is
            evaluated and saved; 0 for none.
        ema_every: Steps between its updates.
        precision: Keras's dtype policy, such as "float32" or "mixed_bfloat16".
        jit_compile: Whether XLA compiles the step; ``"auto"`` leaves it to Keras.
    """

    model: str | None = None
    data: str | None = None
    architecture: dict = field(default_factory=dict)
    image_size: int | None = None
    image_sizes: tuple[tuple[int, int], ...] = ()
    test_image_size: int | None = None
    test_crop_fraction: float | None = None
    interpolation: str = "bilinear"
    epochs: int
    steps_per_epoch: int | None = None
    batch_size: int
    accumulate: int = 1
    optimizer: str = "sgd"
    learning_rate: float
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_all: bool = False
    clip_norm: float | None = None
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    boundaries: tuple[float, ...] = ()
    factor: float = 0.1
    power: float = 1.0
    loss: str = "softmax"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    crop: str | None = None
    crop_padding: int = 4
    flip: bool = False
    augment: str | None = None
    augment_magnitude: float = 9.0
    augment_ops: int = 2
    color_jitter: float = 0.0
    erase: float = 0.0
    repeats: int = 1
    dropout: float = 0.0
    drop_path: float = 0.0
    ema: float = 0.0
    ema_every: int = 1
    precision: str = "float32"
    jit_compile: bool | str = "auto"

    def __post_init__(self):
        for name, value in cast_fields(vars(self), Recipe, "a recipe").items():
            object.__setattr__(self, name, value)
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                hint = suggest(value, map(str, allowed), f"choose one of {allowed}.", n=1)
                raise ValueError(f"{name}={value!r} is unknown; {hint}")
        values = {name: value for name, value in describe(self).items() if value is not None}
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name}={value} must be a finite number.")
        _check_range(values, ABOVE_ZERO, lambda value: value > 0, "above 0")
        _check_range(values, NOT_NEGATIVE, lambda value: value >= 0, "at least 0")
        _check_range(values, BELOW_ONE, lambda value: 0 <= value < 1, "in [0, 1)")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} must be at least 0 and below epochs={self.epochs}."
            )
        _check_rising("boundaries", self.boundaries)
        if self.schedule == "step" and not (
            self.boundaries and self.boundaries[0] > 0 and self.boundaries[-1] < self.epochs
        ):
            thirds = (self.epochs / 3, self.epochs * 2 / 3)
            raise ValueError(
                f"boundaries={self.boundaries} must be above 0 and below epochs={self.epochs} for "
                f"schedule='step', such as ({thirds[0]:g}, {thirds[1]:g}); the learning rate falls there."
            )
        _check_rising("image_sizes", [first for first, _ in self.image_sizes])
        for _, pixels in self.image_sizes:
            side("image_sizes", pixels)
        if self.image_sizes and (self.image_sizes[0][0] != 0 or self.image_sizes[-1][0] >= self.epochs):
            raise ValueError(
                f"image_sizes={self.image_sizes} must begin with epoch 0 and stay below epochs={self.epochs}."
            )
        architecture = cast_fields(self.architecture, Variant, "a variant")
        object.__setattr__(self, "architecture", architecture)


def override(recipe: Recipe, settings: dict) -> Recipe:
    """The recipe with some fields replaced.

    Whole numbers become floats and lists tuples where the field takes them, and so does the
    text of a number: YAML takes ``1e-4``, which has no point, for text. What counts in epochs follows
    other `epochs` in proportion, unless it is set too: the boundaries of a step schedule, the first
    epochs of growing images, and the warmup if it has no room.

    Raises:
        ValueError: a field is unknown (the nearest is suggested) or its value of another type.
    """
    changes = cast_fields(settings, Recipe, "a recipe")
    return replace(recipe, **_in_proportion(recipe, changes.get("epochs", recipe.epochs)) | changes)


def _in_proportion(recipe, epochs):
    """The fields that count in epochs, for another number of them."""
    if epochs == recipe.epochs or epochs <= 0:
        return {}
    found = {}
    if recipe.schedule == "step":
        found["boundaries"] = tuple(b * epochs / recipe.epochs for b in recipe.boundaries)
    if recipe.image_sizes:
        sizes = [(round(first * epochs / recipe.epochs), side) for first, side in recipe.image_sizes]
        found["image_sizes"] = tuple(sizes)
    if epochs <= recipe.warmup_epochs:
        found["warmup_epochs"] = recipe.warmup_epochs * epochs / recipe.epochs
    return found


def read_recipe(path) -> Recipe:
    """A recipe from a YAML file, whose keys are the fields.

    Raises:
        ValueError: the file cannot be read, holds anything but plain values, or is no recipe.
    """
    return recipe_of(parse_yaml(read_text(path), path), path)


def recipe_of(settings, where) -> Recipe:
    """The recipe of these fields, which come from the file `where`.

    Raises:
        ValueError: they are not those of a recipe; the message begins with `where`.
    """
    if not isinstance(settings, dict):
        raise ValueError(f"{where}: expected fields of a recipe, such as 'epochs: 90'.")
    needed = [f.name for f in fields(Recipe) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in settings]
    if missing:
        raise ValueError(f"{where}: a recipe needs {', '.join(missing)} too.")
    try:
        return Recipe(**cast_fields(settings, Recipe, "a recipe"))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def describe(recipe: Recipe) -> dict:
    """The fields as a plain dictionary, in order, with lists for tuples."""
    return {item.name: _plain(getattr(recipe, item.name)) for item in fields(recipe)}


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


def _check_range(values, names, holds, words):
    for name in names:
        if name in values and not holds(values[name]):
            raise ValueError(f"{name}={values[name]!r} must be {words}.")


def _check_rising(name, values):
    if any(later <= earlier for earlier, later in itertools.pairwise(values)):
        raise ValueError(f"{name}={values} must rise.")
