"""From pixels of 0 to 255 to what a network takes, as stock layers in front of it."""

from __future__ import annotations

from keras import layers

from keras_resnet.arguments import mean_and_std
from keras_resnet.weights.records import Transform


def normalize(x, mean, std):
    """``(x / 255 - mean) / std``; `mean` and `std` are one number or one for each channel."""
    mean, std = mean_and_std("normalization", (mean, std), x.shape[-1])
    scale = [1 / (255 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    return layers.Rescaling(scale, offset, name="normalize")(x)


def evaluation_transform(x, transform: Transform):
    """Resize, cut out the middle and normalise: RGB of any size to ``(size, size, 3)``.

    The middle square is cut out before it is resized. Compared with Pillow's, values are not
    rounded to whole grey levels in between, and the crop of an image that is not square may lie
    a fraction of a pixel aside.
    """
    resize = transform.resize
    top = round((resize - transform.size) / 2)
    bottom = resize - transform.size - top
    # Without training=False, calling the model would let Keras 3.15 train its batch
    # normalisation: the default of this layer's `training` is True and spreads from here.
    x = layers.Resizing(
        resize, resize, transform.interpolation, crop_to_aspect_ratio=True,
        antialias=transform.antialias, name="resize",
    )(x, training=False)  # fmt: skip
    x = layers.Cropping2D(((top, bottom), (top, bottom)), name="crop")(x)
    return normalize(x, transform.mean, transform.std)


def visible_part(model, height: int, width: int) -> tuple[int, int, int, int]:
    """What a model with an `evaluation_transform` sees of an image, to the pixel.

    Returns:
        ``(top, left, height, width)``; the whole image where the model has no such transform.
    """
    found = {layer.name: layer for layer in model.layers if layer.name in ("resize", "crop")}
    if set(found) != {"resize", "crop"}:
        return 0, 0, height, width
    resized = found["resize"].height
    (before, after), _ = found["crop"].cropping
    square = min(height, width)
    start, side = (round(square * n / resized) for n in (before, resized - before - after))
    return (height - square) // 2 + start, (width - square) // 2 + start, side, side
