"""How an image is brought to the size of a network's input. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from keras_resnet.arguments import choice, flag, fraction, side

INTERPOLATIONS = ("bilinear", "bicubic")
# What is kept of the short side if nothing is known: torchvision's 224 of 256.
USUAL_CROP = 0.875
# Side of the input, if neither the model nor the images tell it.
USUAL_SIZE = 224


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Resize and center crop; raises ``ValueError`` for a value that cannot be meant.

    Attributes:
        size: Side of the input in pixels, for a model that takes any size; else ``None``.
        crop_fraction: Side of the input over the short side before the crop. ``None`` if nobody
            stated it: then an image that has exactly the input's size is used whole, and others
            are cropped to `USUAL_CROP` of their short side.
        interpolation: ``"bilinear"`` or ``"bicubic"``.
        antialias: Widen the filter by the scale, as Pillow does; OpenCV does not.
    """

    size: int | None = None
    crop_fraction: float | None = None
    interpolation: str = "bilinear"
    antialias: bool = True

    def __post_init__(self):
        choice("interpolation", self.interpolation, INTERPOLATIONS)
        flag("antialias", self.antialias)
        if self.crop_fraction is not None:
            object.__setattr__(self, "crop_fraction", fraction("crop_fraction", self.crop_fraction))
        if self.size is not None:
            object.__setattr__(self, "size", side("size", self.size))


def crop_fraction_for(width: int, height: int, size: int, crop_fraction: float | None) -> float:
    """The crop fraction of one image; see `Geometry` for what ``None`` means."""
    if crop_fraction is None:
        return 1.0 if (width, height) == (size, size) else USUAL_CROP
    return crop_fraction
