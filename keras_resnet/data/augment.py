"""RandAugment, TrivialAugment and colour jitter of one image, by Pillow, whose operations those of timm
and torchvision are: pure functions of an image and of uniform random numbers in [0, 1).

Images are Pillow's, of mode RGB or L, and keep mode and size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

POLICIES = (None, "randaugment", "trivialaugment")
# Random numbers that one operation takes.
NUMBERS = 6
_BILINEAR, _BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
# The mean colour of ImageNet: what timm fills in.
_FILL = {"RGB": (124, 116, 104), "L": 114}


def augment(pixels: np.ndarray, functions: Sequence[Callable]) -> np.ndarray:
    """Apply functions of a Pillow image to a uint8 array of shape ``(height, width, 1 or 3)``."""
    image = Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])
    for function in functions:
        image = function(image)
    return np.asarray(image).reshape(pixels.shape)


def color_jitter(image, u, strength: float):
    """Brightness, contrast and saturation, each times 1 - strength to 1 + strength, in random order.

    `u`: four numbers. It is torchvision's ColorJitter with the same strength for the three.
    """
    enhancers = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color]
    place = int(u[3] * 6)
    order = [enhancers.pop(place % 3), enhancers.pop(place // 3), *enhancers]
    for enhancer, number in zip(order, u, strict=False):
        image = enhancer(image).enhance(max(0.0, 1 + strength * (2 * number - 1)))
    return image


def rand_augment(image, u, magnitude: float):
    """One operation of timm's RandAugment (arXiv:1909.13719), in half of the cases.

    Fifteen operations, all of which do more with a greater magnitude ("inc1"); the magnitude,
    on a scale of 0 to 10, varies with a standard deviation of 0.5 ("mstd0.5").

    Args:
        image: The image.
        u: Six numbers: operation, whether to apply it, two for the magnitude, sign, resampling.
        magnitude: Its mean, from 0 to 10.
    """
    if u[1] >= 0.5:
        return image
    normal = math.sqrt(-2 * math.log(1 - u[2])) * math.cos(2 * math.pi * u[3])
    level = min(max(magnitude + 0.5 * normal, 0.0), 10.0) / 10
    operation = RAND_AUGMENT[int(u[0] * len(RAND_AUGMENT))]
    return operation(image, level, 1 if u[4] < 0.5 else -1, _BILINEAR if u[5] < 0.5 else _BICUBIC)


def trivial_augment(image, u):
    """One operation of TrivialAugment's wide space (arXiv:2103.10158), as in torchvision.

    Args:
        image: The image.
        u: Six numbers, of which the first three are used: operation, magnitude (one of 31), sign.
    """
    operation = TRIVIAL_AUGMENT[int(u[0] * len(TRIVIAL_AUGMENT))]
    return operation(image, int(u[1] * 31) / 30, 1 if u[2] < 0.5 else -1)


def _affine(image, matrix, resample=Image.Resampling.NEAREST, fill=None):
    fill = _FILL[image.mode] if fill is None else fill
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=fill)


def _enhance(enhancer, image, amount):
    return enhancer(image).enhance(1 + amount)


def _solarize_add(image, level):
    table = [min(255, i + int(level * 110)) if i < 128 else i for i in range(256)]
    return image.point(table * len(image.getbands()))


def _posterize(image, bits):
    # Pillow's own refuses 0 bits from version 13 on, which a magnitude of 10 comes to.
    table = [i >> (8 - bits) << (8 - bits) for i in range(256)]
    return image.point(table * len(image.getbands()))


# Functions of (image, level in [0, 1], sign, resampling filter).
RAND_AUGMENT = (
    lambda image, *_: ImageOps.autocontrast(image),
    lambda image, *_: ImageOps.equalize(image),
    lambda image, *_: ImageOps.invert(image),
    lambda image, level, sign, how: image.rotate(sign * level * 30, how, fillcolor=_FILL[image.mode]),
    lambda image, level, *_: _posterize(image, 4 - int(level * 4)),
    lambda image, level, *_: ImageOps.solarize(image, 256 - min(256, int(level * 256))),
    lambda image, level, *_: _solarize_add(image, level),
    lambda image, level, sign, _: _enhance(ImageEnhance.Color, image, max(-0.9, sign * level * 0.9)),
    lambda image, level, sign, _: _enhance(ImageEnhance.Contrast, image, max(-0.9, sign * level * 0.9)),
    lambda image, level, sign, _: _enhance(ImageEnhance.Brightness, image, max(-0.9, sign * level * 0.9)),
    lambda image, level, sign, _: _enhance(ImageEnhance.Sharpness, image, max(-0.9, sign * level * 0.9)),
    lambda image, level, sign, how: _affine(image, (1, sign * level * 0.3, 0, 0, 1, 0), how),
    lambda image, level, sign, how: _affine(image, (1, 0, 0, sign * level * 0.3, 1, 0), how),
    lambda image, level, sign, how: _affine(image, (1, 0, sign * level * 0.45 * image.width, 0, 1, 0), how),
    lambda image, level, sign, how: _affine(image, (1, 0, 0, 0, 1, sign * level * 0.45 * image.height), how),
)

# Functions of (image, level in [0, 1], sign). What is outside of the image is black.
TRIVIAL_AUGMENT = (
    lambda image, *_: image,
    lambda image, level, sign: _affine(image, (1, sign * level * 0.99, 0, 0, 1, 0), fill=0),
    lambda image, level, sign: _affine(image, (1, 0, 0, sign * level * 0.99, 1, 0), fill=0),
    lambda image, level, sign: _affine(image, (1, 0, -int(sign * level * 32), 0, 1, 0), fill=0),
    lambda image, level, sign: _affine(image, (1, 0, 0, 0, 1, -int(sign * level * 32)), fill=0),
    lambda image, level, sign: image.rotate(sign * level * 135),
    lambda image, level, sign: _enhance(ImageEnhance.Brightness, image, sign * level * 0.99),
    lambda image, level, sign: _enhance(ImageEnhance.Color, image, sign * level * 0.99),
    lambda image, level, sign: _enhance(ImageEnhance.Contrast, image, sign * level * 0.99),
    lambda image, level, sign: _enhance(ImageEnhance.Sharpness, image, sign * level * 0.99),
    lambda image, level, _: _posterize(image, 8 - round(level * 6)),
    lambda image, level, _: ImageOps.solarize(image, 255 * (1 - level)),
    lambda image, *_: ImageOps.autocontrast(image),
    lambda image, *_: ImageOps.equalize(image),
)
