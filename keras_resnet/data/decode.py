"""Image files to uint8 RGB arrays; every failure names the file.

Pillow opens every file, and decodes all but plain JPEGs: those TensorFlow decodes to the same
pixels, only the wanted part of them and, where that is much larger than needed, at a fraction of
the size.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from keras_resnet.data.errors import DataError
from keras_resnet.data.images import cut

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
# Pillow refuses images of more pixels than this by itself (a bomb of 500 MB in RGB).
MAX_PIXELS = 178_956_970


def read_image(path: str | bytes) -> np.ndarray:
    """Read and decode one image file; see `decode_image`."""
    return decode_image(read_file(path), show(path))


def read_file(path: str | bytes) -> bytes:
    """The bytes of a file, or a `DataError` that names it."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{show(path)}: cannot be read: {error.strerror or error}") from error


def decode_image(data: bytes, name: str, choose: Callable | None = None, least: int = 0) -> np.ndarray:
    """Decode the bytes of a JPEG, PNG, BMP, GIF or WebP image, told apart by their content.

    Grey, palette and CMYK images become RGB; transparency is laid over white; of 16-bit
    images the upper eight bits are kept; of animations the first frame; the EXIF
    orientation is applied.

    Args:
        data: The encoded image.
        name: What to call it in errors.
        choose: From (width, height) to the wanted part ``(left, top, width, height)``; by
            default the whole image.
        least: If not 0, the wanted part may come at a half, a quarter or an eighth of its size,
            but no smaller than this many pixels on its shorter side.

    Returns:
        Array of shape ``(height, width, 3)``, uint8.

    Raises:
        DataError: the bytes are no such image, are damaged, or hold too many pixels.
    """
    if not data:
        raise DataError(f"{name}: the file is empty.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{name}: {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read."
                )
            if _is_plain_jpeg(image, data):
                box = choose(*image.size) if choose else (0, 0, *image.size)
                if (pixels := _decode_jpeg(data, box, least)) is not None:
                    return pixels
            image.load()
            pixels = np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: {_not_an_image(data)}; convert it to JPEG or PNG.") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: declares more than the {MAX_PIXELS:,} pixels that are read.") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name}: damaged image: {error}") from error
    return cut(pixels, choose(pixels.shape[1], pixels.shape[0])) if choose else pixels


def check_strictly(data: bytes, name: str) -> None:
    """Raise `DataError` for a JPEG with damage that decoders pass over in silence."""
    try:
        import simplejpeg
    except ImportError as error:
        raise ImportError("strict checks need simplejpeg: pip install 'keras-resnet-zoo[strict]'") from error
    if not simplejpeg.is_jpeg(data):
        return
    try:
        simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        # Colour spaces that this decoder lacks are no damage: Pillow reads them.
        if "colorspace" not in str(error).lower() and "convers" not in str(error).lower():
            raise DataError(f"{name}: damaged JPEG: {error}") from error


def show(path: str | bytes) -> str:
    """A path as printable text, whatever bytes its name holds."""
    text = os.fsdecode(path)
    return text.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n")


def _is_plain_jpeg(image, data):
    """Whether a JPEG is grey or RGB, upright, and has its end: one that was cut off never gets this far."""
    return (
        image.format == "JPEG"
        and image.mode in ("L", "RGB")
        and b"\xff\xd9" in data[-64:]
        and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    )


def _decode_jpeg(data, box, least):
    """The box of a JPEG by TensorFlow, which computes no other pixels; None where it refuses the file."""
    ratio = max((r for r in (1, 2, 4, 8) if r * least <= min(box[2:])), default=1) if least else 1
    left, top, width, height = (side // ratio for side in box)
    try:
        # With the accurate method the pixels are those of Pillow; the fast one gains nothing.
        pixels = tf.raw_ops.DecodeAndCropJpeg(
            contents=data, crop_window=[top, left, height, width], channels=3, ratio=ratio,
            dct_method="INTEGER_ACCURATE",
        )  # fmt: skip
    except tf.errors.InvalidArgumentError:
        return None
    return np.asarray(memoryview(pixels))


def _to_rgb(image):
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(canvas, image).convert("RGB")
    return image.convert("RGB")


def _not_an_image(data):
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF is not supported"
    if data[4:8] == b"ftyp":
        return "HEIC and AVIF are not supported"
    if b"<svg" in data[:1024]:
        return "SVG is not supported"
    return "neither JPEG, PNG, BMP, GIF nor WebP"
