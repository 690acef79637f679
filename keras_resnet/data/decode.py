"""Image files to uint8 RGB arrays; every failure names the file.

`keras_resnet.data.headers` looks at a file first, and what asks for too much goes no further.
TensorFlow decodes JPEGs that are grey or RGB, of which it computes only the wanted part and, where
that is much larger than needed, at a fraction of the size, and still WebPs; Pillow all else. The
pixels are the same.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_resnet.data.errors import DataError
from keras_resnet.data.headers import HeaderError, read_header
from keras_resnet.data.images import cut, reduction
from keras_resnet.files import open_regular
from keras_resnet.printing import show

# 64 Mpixel: the largest sensors of phones, and 200 MB in RGB.
MAX_PIXELS = 2**26
MAX_SIDE = 65_535  # what JPEG and GIF allow
_OVERHEAD = 2**24  # bytes for texts and profiles
MAX_SCANS = 100
# Real photographs have up to a pixel a byte, scans of white paper a hundred.
_BYTES_PER_PIXEL, _EXPANSION = 3.5, 100
# Scans of the largest image; a scan takes up to 5 ns a pixel.
_PASSES = 16
_STRIP = 2**20  # pixels
_MIRRORED, _FLIPPED = (2, 3, 6, 7), (3, 4, 7, 8)


def read_image(path: str | bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read and decode one image file; see `decode_image`."""
    return decode_image(read_file(path, max_pixels), show(path), max_pixels=max_pixels)


def read_file(path: str | bytes, max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of an image file, or a `DataError` that names it; only a regular file is opened.

    An image of `max_pixels` pixels takes up to four bytes for each.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > 4 * max_pixels + _OVERHEAD:
                raise DataError(f"{show(path)}: {size:,} bytes are too many for {max_pixels:,} pixels.")
            return file.read()
    except OSError as error:
        raise DataError(f"{show(path)}: cannot be read: {error.strerror or error}") from error


def decode_image(
    data: bytes, name: str, choose: Callable | None = None, least: int = 0, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode the bytes of a JPEG, PNG, BMP, GIF or WebP image, told apart by their content.

    Grey, palette and CMYK images become RGB; transparency is laid over white; of 16-bit
    images the upper eight bits are kept; of animations the first frame; the EXIF
    orientation is applied. The checksums of a PNG are compared.

    Args:
        data: The encoded image.
        name: What to call it in errors.
        choose: From (width, height) to the wanted part ``(left, top, width, height)``; by
            default the whole image.
        least: If not 0, the wanted part of a JPEG may come at a half, a quarter or an eighth of its
            size, but no smaller than this many pixels on its shorter side.
        max_pixels: Larger images are refused, and smaller ones whose decoding would take
            more than 3.5 bytes for each of so many pixels, unless the file itself is large: a
            hundredth of what it takes.

    Returns:
        Array of shape ``(height, width, 3)``, uint8.

    Raises:
        DataError: the bytes are no such image, are damaged, or hold too many pixels.
    """
    if not data:
        raise DataError(f"{name}: the file is empty.")
    try:
        header = read_header(data)
    except HeaderError as error:
        raise DataError(f"{name}: damaged image: {error}") from error
    if header is None:
        raise DataError(f"{name}: {_not_an_image(data)}; convert it to JPEG or PNG.")
    _check_cost(header, len(data), name, max_pixels)
    size = (header.height, header.width) if header.orientation > 4 else (header.width, header.height)
    box = choose(*size) if choose else (0, 0, *size)
    try:
        pixels = _decode(header, _stored_box(box, size, header.orientation), least)
    # What a decoder may raise on a bad file is anything: struct.error, TypeError, zlib.error...
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DataError(f"{name}: damaged image: {reason}") from error
    return _upright(pixels, header.orientation)


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


def _check_cost(header, size, name, max_pixels):
    """Raise `DataError` for an image whose decoding takes much more than such a file should."""
    pixels = header.width * header.height
    shape = f"{name}: {header.width} x {header.height} pixels"
    if pixels < 1:
        raise DataError(f"{name}: damaged image: it declares no pixels.")
    if pixels > max_pixels or max(header.width, header.height) > MAX_SIDE:
        raise DataError(f"{shape}; max_pixels allows {max_pixels:,}, and a side has at most {MAX_SIDE:,}.")
    if pixels * header.cost > max(_BYTES_PER_PIXEL * max_pixels, _EXPANSION * size):
        need = pixels * header.cost / 1e6
        raise DataError(
            f"{shape} in {size:,} bytes would take {need:,.0f} MB to decode; shrink it, or raise max_pixels."
        )
    if header.passes > min(MAX_SCANS, max(_PASSES * max_pixels // pixels, 1)):
        raise DataError(f"{shape} in {header.passes} scans; real JPEGs have about ten.")


def _decode(header, box, least):
    """The box of the stored image, as RGB."""
    if header.direct and header.format == "JPEG":
        if (pixels := _decode_jpeg(header.data, box, least)) is not None:
            return pixels
    elif header.direct:
        return _decode_directly(header, box)
    with Image.open(io.BytesIO(header.data), formats=(header.format,)) as image:
        if image.size != (header.width, header.height):
            raise HeaderError(f"{image.size} pixels where the header says {header.width, header.height}")
        image.load()
        return _to_rgb(image, box)


def _decode_jpeg(data, box, least):
    """The box of a JPEG by TensorFlow, which computes no other pixels; None where it refuses the file."""
    ratio = reduction(box, least)
    left, top = (edge // ratio for edge in box[:2])
    width, height = (-(-side // ratio) for side in box[2:])
    try:
        # With the accurate method the pixels are those of Pillow; the fast one gains nothing.
        pixels = tf.raw_ops.DecodeAndCropJpeg(
            contents=data, crop_window=[top, left, height, width], channels=3, ratio=ratio,
            dct_method="INTEGER_ACCURATE",
        )  # fmt: skip
    except tf.errors.InvalidArgumentError:
        return None
    return np.asarray(memoryview(pixels))


def _decode_directly(header, box):
    """The box of a still WebP, whose pixels are those of Pillow in a fifth of the memory, or of a PNG."""
    decode = tf.io.decode_webp if header.format == "WEBP" else tf.io.decode_png
    pixels = np.asarray(memoryview(decode(header.data, channels=4 if header.alpha else 3)))
    pixels = cut(pixels[0] if header.format == "WEBP" else pixels, box)
    return _to_rgb(Image.fromarray(pixels), (0, 0, *box[2:])) if header.alpha else pixels


def _stored_box(box, size, orientation):
    """Where the box of an upright image of (width, height) lies in the image as it is stored."""
    left, top, width, height = box
    if orientation in _MIRRORED:
        left = size[0] - left - width
    if orientation in _FLIPPED:
        top = size[1] - top - height
    return (top, left, height, width) if orientation > 4 else (left, top, width, height)


def _upright(pixels, orientation):
    """A stored image turned as its EXIF orientation says, without a copy."""
    pixels = pixels.transpose(1, 0, 2) if orientation > 4 else pixels
    pixels = pixels[::-1] if orientation in _FLIPPED else pixels
    return pixels[:, ::-1] if orientation in _MIRRORED else pixels


def _to_rgb(image, box):
    """The box of a Pillow image as an RGB array, filled strip by strip: Pillow's images are large."""
    left, top, width, height = box
    pixels = np.empty((height, width, 3), np.uint8)
    step = max(1, _STRIP // width)
    for row in range(0, height, step):
        rows = min(step, height - row)
        strip = image.crop((left, top + row, left + width, top + row + rows))
        pixels[row : row + rows] = np.asarray(_strip_to_rgb(strip))
    return pixels


def _strip_to_rgb(image):
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
