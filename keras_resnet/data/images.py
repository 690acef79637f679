"""Transforms of one image: pure functions of pixels and of uniform random numbers in [0, 1).

Images are uint8 arrays of shape ``(height, width, channels)``.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from keras_resnet.transform import crop_fraction_for

# Pixels of a resized image beyond which only its middle is computed.
_MAX_RESIZED = 2**24
# Pixels of an image that Pillow, which takes four bytes for each, resizes at a time.
_STRIP = 2**22
# An image is reduced by whole factors to no less than this many times the size that is wanted: to
# once the size, photographs differ by up to 2 grey levels from those resized at once (mean of
# 672 x 672 to 3,000 x 3,000 pixels, to 224), to twice by up to 0.8, to three times by 0.4.
REDUCING_GAP = 2.0


def random_box(width: int, height: int, areas, aspects, top: float, left: float):
    """A random part of an image, as ``(left, top, width, height)`` in pixels.

    It has 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3, drawn until it fits, as often
    as there are `areas` and `aspects` (arXiv:1409.4842, section 6; torchvision's
    RandomResizedCrop). All four random arguments are uniform in [0, 1).
    """
    for area, aspect in zip(areas, aspects, strict=True):
        extent = height * width * (0.08 + area * 0.92)
        ratio = math.exp(math.log(3 / 4) + aspect * math.log(16 / 9))
        w, h = round(math.sqrt(extent * ratio)), round(math.sqrt(extent / ratio))
        if 0 < w <= width and 0 < h <= height:
            break
    else:
        # What the image itself allows.
        w = max(1, round(min(width, height * 4 / 3)))
        h = max(1, round(min(height, width * 4 / 3)))
    return int(left * (width - w + 1)), int(top * (height - h + 1)), w, h


def reduction(box, least: int) -> int:
    """By how much a decoder may reduce the ``(left, top, width, height)`` of a JPEG: 1, 2, 4 or 8.

    What is left has no fewer pixels than `least` on its shorter side, and begins where a reduced
    pixel does. With a `least` of 0 nothing is reduced.
    """
    left, top, width, height = box
    allowed = (r for r in (2, 4, 8) if r * least <= min(width, height) and left % r == top % r == 0)
    return max(allowed, default=1) if least else 1


def cut(pixels: np.ndarray, box=None) -> np.ndarray:
    """The part of an image in the box ``(left, top, width, height)``."""
    if box is None:
        return pixels
    left, top, width, height = box
    return pixels[top : top + height, left : left + width]


def pad_crop(pixels: np.ndarray, top: float, left: float, padding: int) -> np.ndarray:
    """Pad with zeros on every side, and cut out the former size at a random place."""
    padded = np.pad(pixels, ((padding, padding), (padding, padding), (0, 0)))
    corner = (int(u * (2 * padding + 1)) for u in (left, top))
    return cut(padded, (*corner, pixels.shape[1], pixels.shape[0]))


def middle(width: int, height: int, size: int, crop_fraction: float) -> tuple[float, float, float, float]:
    """The part of an image that an evaluation sees, as ``(left, top, right, bottom)`` in its pixels.

    It is what remains when the short side is resized to ``floor(size / crop_fraction)``, the other
    in proportion, and ``(size, size)`` is cut out of the middle, rounded as torchvision rounds.
    """
    extents, resized = (width, height), _resized(width, height, size, crop_fraction).tolist()
    corner = [round((extent - size) / 2) for extent in resized]
    start, end = (
        [(at + more) * extent / to for at, extent, to in zip(corner, extents, resized, strict=True)]
        for more in (0, size)
    )
    return *start, *end


def window(box, width: int, height: int, size: int) -> tuple[int, int, int, int]:
    """The pixels that decide a resized `box`, with a margin, as ``(left, top, width, height)``."""
    # Two pixels of the kernel (bicubic) to each side, and those whose colour a decoder of
    # subsampled JPEGs interpolates from outside of the window.
    margins = [2 * max(1, (box[axis + 2] - box[axis]) / size) + 4 for axis in (0, 1)]
    left, top = (max(0, math.floor(box[axis] - margins[axis])) for axis in (0, 1))
    right, bottom = (
        min(extent, math.ceil(box[axis + 2] + margins[axis])) for axis, extent in enumerate((width, height))
    )
    return left, top, right - left, bottom - top


def aligned(box, width: int, height: int, step: int) -> tuple[int, int, int, int]:
    """The ``(left, top, width, height)`` box grown to multiples of `step`, inside of the image."""
    start = [edge // step * step for edge in box[:2]]
    end = [
        min(extent, -(-(edge + side) // step) * step)
        for edge, side, extent in zip(box[:2], box[2:], (width, height), strict=True)
    ]
    return (*start, *(last - first for first, last in zip(start, end, strict=True)))


def resize_part(pixels: np.ndarray, size: int, box, part) -> np.ndarray:
    """A `box` as ``(size, size, channels)``, bilinear and antialiased.

    What is more than twice as large is reduced by whole factors first, as decoders reduce JPEGs.

    Args:
        pixels: The `part` of the image, by the decoder reduced or not.
        size: Side of the result.
        box: ``(left, top, width, height)`` in pixels of the image.
        part: The same, `aligned` around the box.
    """
    left, top, width, height = box
    ratio = next(r for r in (1, 2, 4, 8) if -(-part[2] // r) == pixels.shape[1])
    edges = (edge / ratio for edge in within((left, top, left + width, top + height), part))
    if ratio == 1:
        pixels, edges = cut(pixels, (left - part[0], top - part[1], width, height)), (0, 0, width, height)
    method, edges = Image.Resampling.BILINEAR, tuple(edges)
    return _by_bands(pixels, lambda image: image.resize((size, size), method, edges, REDUCING_GAP))


def resize_box(pixels: np.ndarray, size: int, box, interpolation: str) -> np.ndarray:
    """The box ``(left, top, right, bottom)`` as ``(size, size, channels)``, by Pillow, antialiased."""
    return _across_then_down(pixels, (size, size), box, interpolation)


def _across_then_down(pixels, extents, box, interpolation):
    # Pillow resizes across first, but from version 13 on sometimes down, which makes up to 10
    # grey levels of difference (bicubic): two calls keep the order of all versions. Rows are
    # independent in the first: of a large image, Pillow has a strip of them at a time.
    method = Image.Resampling[interpolation.upper()]
    left, top, right, bottom = box
    step = max(1, _STRIP // pixels.shape[1])

    def across(image):
        return image.resize((extents[0], image.height), method, (left, 0, right, image.height))

    strips = [_by_bands(pixels[row : row + step], across) for row in range(0, len(pixels), step)]
    narrow = strips[0] if len(strips) == 1 else np.concatenate(strips)
    return _by_bands(narrow, lambda image: image.resize(extents, method, (0, top, extents[0], bottom)))


def resize_and_crop(
    pixels: np.ndarray,
    size: int,
    crop_fraction: float | None = 1.0,
    interpolation: str = "bilinear",
    antialias: bool = True,
):
    """Resize the short side to ``floor(size / crop_fraction)`` and cut ``(size, size)`` out of the middle.

    Antialiased by Pillow, with whose resizing torchvision and timm evaluate. Bilinear, only the
    pixels that are kept are computed, which leaves few of a thousand one grey level off: Pillow
    rounds boxes to single precision. Bicubic filters make two levels of that, so that there the
    whole image is resized. `interpolation` is "bilinear" or "bicubic". A `crop_fraction` of ``None``
    is that of a `keras_resnet.transform.Geometry`. Without `antialias` it is as
    ``tf.image.resize(antialias=False)`` does it.
    """
    crop_fraction = crop_fraction_for(*pixels.shape[1::-1], size, crop_fraction)
    if pixels.shape[:2] == (size, size) and crop_fraction == 1.0:
        return pixels
    height, width = pixels.shape[:2]
    if not antialias:
        return _resize_box_sharply(pixels, size, middle(width, height, size, crop_fraction), interpolation)
    if interpolation == "bilinear" or _resized(width, height, size, crop_fraction).prod() > _MAX_RESIZED:
        box = middle(width, height, size, crop_fraction)
        part = window(box, width, height, size)
        return resize_box(cut(pixels, part), size, within(box, part), interpolation)
    extents = _resized(width, height, size, crop_fraction)
    corner = np.round((extents - size) / 2).astype(int)
    resized = _across_then_down(pixels, tuple(extents.tolist()), (0, 0, width, height), interpolation)
    return cut(resized, (*corner.tolist(), size, size))


def _resize_box_sharply(pixels, size, box, interpolation):
    """The box ``(left, top, right, bottom)`` by the two or four nearest pixels along each axis."""
    left, top, right, bottom = box
    down, across = (
        _nearest_pixels(*edges, size, extent, interpolation)
        for edges, extent in zip(((top, bottom), (left, right)), pixels.shape[:2], strict=True)
    )
    resized = np.einsum("yh,hwc->ywc", down, pixels.astype(np.float32), optimize=True)
    resized = np.einsum("xw,ywc->yxc", across, resized, optimize=True)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def _nearest_pixels(start, end, size, extent, interpolation):
    """Weights ``(size, extent)`` of the pixels of an axis for `size` places between `start` and `end`."""
    centers = start + (np.arange(size) + 0.5) * (end - start) / size - 0.5
    distance = np.abs(centers[:, None] - np.arange(extent))
    if interpolation == "bilinear":
        weights = np.maximum(1 - distance, 0)
    else:  # Keys's cubic with a = -1/2
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _resized(width, height, size, crop_fraction):
    """The extents ``[width, height]`` of the whole resized image."""
    return math.floor(size / crop_fraction) * np.array([width, height]) // min(width, height)


def within(box, part):
    """A box in the coordinates of a part ``(left, top, width, height)`` of the image."""
    return tuple(edge - start for edge, start in zip(box, part[:2] * 2, strict=True))


def _by_bands(pixels, function):
    """Apply a function of a Pillow image, band by band where Pillow has no such images."""
    if pixels.shape[-1] == 3:
        return np.asarray(function(Image.fromarray(pixels)))
    bands = (np.ascontiguousarray(pixels[..., i]) for i in range(pixels.shape[-1]))
    return np.stack([np.asarray(function(Image.fromarray(band))) for band in bands], axis=-1)
