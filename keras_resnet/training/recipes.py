"""How to train, as data. A recipe is changed by `dataclasses.replace` or by `override`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace
from typing import get_type_hints


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Stochastic gradient descent with Nesterov momentum, linear warmup and cosine decay.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images in a step.
        learning_rate: At the end of the warmup; it falls to zero along a half cosine.
        warmup_epochs: Over which it rises linearly from zero.
        momentum: Of the gradients.
        weight_decay: In Keras's sense: each step takes ``learning_rate * weight_decay`` off
            every kernel, outside of the momentum (at momentum 0.9 about ten times what torch
            calls by that name). Not applied to biases and normalisation.
        crop, crop_padding, flip: Augmentation; see `keras_resnet.make_dataset`.
        dropout, drop_path: See `keras_resnet.build_resnet`.
        precision: Keras's dtype policy, such as "float32" or "mixed_bfloat16".
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_epochs: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 5e-3
    crop: str | None = None
    crop_padding: int = 4
    flip: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
    precision: str = "float32"

    def __post_init__(self):
        for name in ("epochs", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)!r} must be above 0.")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} must be at least 0 and below epochs={self.epochs}."
            )


RECIPES: dict[str, Recipe] = {
    # Digits of 8x8: moved by a pixel, never mirrored.
    "digits": Recipe(
        epochs=30, batch_size=64, learning_rate=0.1, warmup_epochs=3, crop="pad", crop_padding=1
    ),
    # Small images, as CIFAR: arXiv:1512.03385, section 4.2, for its augmentation.
    "small": Recipe(epochs=60, batch_size=128, learning_rate=0.1, warmup_epochs=2, crop="pad", flip=True),
    # Photographs: arXiv:1706.02677, section 5.1, for a learning rate of 0.1 in 256 images.
    "photographs": Recipe(
        epochs=90,
        batch_size=256,
        learning_rate=0.1,
        warmup_epochs=5,
        weight_decay=1e-3,
        crop="resized",
        flip=True,
    ),
}


def choose_recipe(data, image_size: int) -> str:
    """The name of the recipe for data that come without one."""
    if data == "digits":
        return "digits"
    return "small" if image_size <= 64 else "photographs"


def override(recipe: Recipe, settings: dict) -> Recipe:
    """The recipe with some fields replaced.

    Raises:
        ValueError: a field is unknown (the nearest is suggested) or its value of another type.
    """
    types = get_type_hints(Recipe)
    changes = {}
    for key, value in settings.items():
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(types)}."
            raise ValueError(f"a recipe has no field {key!r}; {hint}")
        value = float(value) if types[key] is float and type(value) is int else value
        if not isinstance(value, types[key]) or (isinstance(value, bool) and types[key] is not bool):
            wanted = getattr(types[key], "__name__", types[key])
            raise ValueError(f"{key}={value!r} is {type(value).__name__}; the field takes {wanted}.")
        changes[key] = value
    return replace(recipe, **changes)


def describe(recipe: Recipe) -> dict:
    """The fields as a plain dictionary, in order."""
    return {field.name: getattr(recipe, field.name) for field in fields(recipe)}
