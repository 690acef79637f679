"""From pixels of 0 to 255 to what a network takes, as stock layers in front of it."""

from __future__ import annotations

from dataclasses import dataclass

from keras import KerasTensor, layers

from keras_resnet.arguments import mean_and_std
from keras_resnet.transform import INTERPOLATIONS
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


@dataclass(frozen=True)
class Front:
    """The resize and crop at the beginning of a model, as `evaluation_transform` makes them.

    Attributes:
        output: What comes out of them, a Keras tensor ``(batch, size, size, channels)``.
        size: Side of that, in pixels.
        resize: The short side before the crop, in pixels.
        interpolation: "bilinear" or "bicubic".
        antialias: See `keras_resnet.transform.Geometry`.
    """

    output: KerasTensor
    size: int
    resize: int
    interpolation: str
    antialias: bool


def find_front(model) -> Front | None:
    """The resize and center crop with which a model for images of any size begins, if it does.

    Layers that do anything else to an image, such as stretching it to a square, are none.
    """
    image = model.inputs[0]
    resizing = _only_reader(model, image)
    if None not in image.shape[1:3] or not _resizes_short_side(resizing):
        return None
    resize, crop = resizing.height, _only_reader(model, resizing.output)
    output, size = resizing.output, resize
    if isinstance(crop, layers.Cropping2D):
        output, size = crop.output, crop.output.shape[1]
        before = round((resize - size) / 2)
        if crop.cropping != ((before, resize - size - before),) * 2:
            return None
    return Front(output, size, resize, resizing.interpolation, resizing.antialias)


def _resizes_short_side(layer):
    return (
        isinstance(layer, layers.Resizing)
        and layer.height == layer.width
        and layer.crop_to_aspect_ratio
        and layer.interpolation in INTERPOLATIONS
    )


def _only_reader(model, tensor):
    """The layer that reads a tensor of a model, if it is the only one."""
    nodes = [
        (operation, node)
        # A Sequential has layers only.
        for operation in getattr(model, "operations", model.layers)
        for node in operation._inbound_nodes
        if any(read is tensor for read in node.input_tensors)
    ]
    return nodes[0][0] if len(nodes) == 1 else None


def visible_part(model, height: int, width: int) -> tuple[int, int, int, int]:
    """What a model with an `evaluation_transform` sees of an image, to the pixel.

    Returns:
        ``(top, left, height, width)``; the whole image where the model has no such transform.
    """
    front = find_front(model)
    if front is None:
        return 0, 0, height, width
    before = round((front.resize - front.size) / 2)
    square = min(height, width)
    start, side = (round(square * n / front.resize) for n in (before, front.size))
    return (height - square) // 2 + start, (width - square) // 2 + start, side, side
