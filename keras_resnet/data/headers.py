"""What an image file declares, read before a decoder sees it.

Decoders believe a file: they make room for the pixels that it declares, unpack its texts and follow
its chains of segments. So the structure is walked here first, at the cost of a glance: the size in
pixels, what decoding will cost, the EXIF orientation, the checksums of a PNG. Decoders are then given
only what makes the pixels: no texts, colour profiles, previews or later frames of an animation.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

# Real files have tens of these: a colour profile of 16 MB fills 255.
_MAX_SEGMENTS = 10_000
_MAX_CHUNKS = 200_000
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_COMMENTS = {*range(0xE1, 0xEE), 0xEF, 0xFE}  # APP0 and APP14 tell how the colours are stored


class HeaderError(ValueError):
    """The structure of the file is damaged, or lies."""


@dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded.

    Attributes:
        format: "JPEG", "PNG", "GIF", "BMP" or "WEBP".
        data: The file without what a decoder does not need.
        width: Columns as they are stored, before `orientation` is applied.
        height: Rows, likewise.
        cost: Bytes that decoding takes for each pixel.
        orientation: Of EXIF, 1 to 8; 1 where there is none, or a damaged one.
        passes: How often the decoder goes through all pixels: the scans of a JPEG.
        alpha: Whether an image for TensorFlow's decoder may have transparency.
        direct: Whether TensorFlow's decoder takes it, which needs no second copy of the pixels.
    """

    format: str
    data: bytes
    width: int
    height: int
    cost: float
    orientation: int = 1
    passes: int = 1
    alpha: bool = False
    direct: bool = False


def read_header(data: bytes) -> Header | None:
    """The header of a JPEG, PNG, GIF, BMP or WebP file, told apart by content; None of anything else.

    Raises:
        HeaderError: the file is damaged.
    """
    try:
        return _read_header(data)
    except (struct.error, IndexError) as error:
        raise HeaderError("the file ends too early") from error


def _read_header(data):
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    return None


def exif_orientation(exif: bytes) -> int:
    """The orientation that EXIF data tell, 1 (upright) where they tell none or are damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _ = struct.unpack_from(f"{order}HHI", exif, at)
            if tag == 0x0112:
                (value,) = struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}.get(kind, "H"), exif, at + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _jpeg(data):
    kept, at, frame, orientation = [data[:2]], 2, None, 1
    for _ in range(_MAX_SEGMENTS):
        marker, start, at = _segment(data, at)
        segment = data[start:at]
        if marker in _FRAMES:
            if frame is not None:
                raise HeaderError("two frames")
            frame = marker, *struct.unpack(">BHHB", segment[4:10])
        elif marker == 0xE1 and segment[4:10] == b"Exif\0\0" and orientation == 1:
            orientation = exif_orientation(segment[4:])
        elif marker == 0xDA:
            break
        if marker not in _COMMENTS:
            kept.append(segment)
    else:
        raise HeaderError(f"more than {_MAX_SEGMENTS:,} segments")
    if frame is None:
        raise HeaderError("no frame before the pixels")
    marker, precision, height, width, components = frame
    # Phones append films and second pictures: then the end is looked for.
    end = len(data) if b"\xff\xd9" in data[-64:] else _end(data, start)
    scans = data.count(b"\xff\xda", start, end)
    if scans > 1:
        scans = sum(marker == 0xDA for marker, _ in _walk(data, start))
    direct = components in (1, 3) and precision == 8 and b"\xff\xd9" in data[end - 64 : end]
    # With several scans, the coefficients of all pixels are kept: two bytes for each component.
    cost = (3.5 if direct else 7) + (2 * components if scans > 1 or marker not in (0xC0, 0xC1) else 0)
    kept.append(data[start:end])
    return Header("JPEG", b"".join(kept), width, height, cost, orientation, scans, direct=direct)


def _segment(data, at):
    """The marker of the next segment of a JPEG from `at` on, where it begins, and where it ends."""
    found = _MARKER.search(data, at)
    if found is None or found[1] == b"\xd9":
        raise HeaderError("the file ends before its pixels")
    start = found.start()
    (length,) = struct.unpack_from(">H", data, start + 2)
    if length < 2 or start + 2 + length > len(data):
        raise HeaderError("the file ends within a segment")
    return found[1][0], start, start + 2 + length


def _walk(data, at):
    """The markers of a JPEG from its first scan to its end, each with where it ends."""
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        yield marker, at
        if marker == 0xD9:
            return
        at += int.from_bytes(data[at : at + 2], "big")


def _end(data, start):
    return next((at for marker, at in _walk(data, start) if marker == 0xD9), len(data))


def _png(data):
    kept, pixels, orientation, at = [data[:8]], [], 1, 8
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise HeaderError("the file is truncated")
        content = memoryview(data)[at + 8 : end - 4]
        if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(data[end - 4 : end], "big"):
            raise HeaderError(f"the checksum of its chunk {kind.decode('latin-1')!a} is wrong")
        if kind == b"IDAT":
            pixels.append(content)
        elif kind == b"eXIf":
            orientation = exif_orientation(bytes(content[:65536]))
        elif kind in (b"IHDR", b"PLTE", b"tRNS") and not pixels:
            kept.append(data[at:end])
        elif kind == b"IEND":
            break
        at = end
    else:
        raise HeaderError(f"more than {_MAX_CHUNKS:,} chunks")
    if len(kept) < 2 or not pixels:
        raise HeaderError("no header or no pixels")
    width, height, depth, color = struct.unpack_from(">IIBB", kept[1], 8)
    body = b"".join(pixels)
    kept += [struct.pack(">I", len(body)), b"IDAT", body, struct.pack(">I", zlib.crc32(body, _IDAT)), _IEND]
    # Pillow keeps grey and palette images in one byte, 16-bit grey in two, all else in four.
    cost = 3 + (4 if color in (2, 4, 6) else 2 if depth == 16 else 1)
    # Pillow compares a transparent color of 2, 4 or 16 bits with pixels of eight.
    direct = color in (0, 2) and depth in (2, 4, 16) and any(chunk[4:8] == b"tRNS" for chunk in kept[1:])
    return Header("PNG", b"".join(kept), width, height, cost, orientation, alpha=direct, direct=direct)


_IDAT = zlib.crc32(b"IDAT")
_IEND = b"\0\0\0\0IEND\xaeB`\x82"


def _gif(data):
    """The first frame only: an animation of thousands costs no more."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    kept, control = [data[:at]], b""
    while (kind := data[at]) != 0x2C:
        if kind == 0x21:
            end = _blocks(data, at + 2)
            if data[at + 1] == 0xF9:
                control = data[at:end]
            at = end
        elif kind == 0x3B:
            raise HeaderError("no image before the end")
        else:
            at += 1
    left, top, w, h, flags = struct.unpack_from("<4HB", data, at + 1)
    end = _blocks(data, at + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    kept += [control, data[at:end], b";"]
    return Header("GIF", b"".join(kept), max(width, left + w), max(height, top + h), 4)


def _blocks(data, at):
    """Where a chain of blocks of a GIF ends; at the end of the file, if that comes first."""
    while at < len(data) and (length := data[at]):
        at += 1 + length
    return min(at + 1, len(data))


def _bmp(data):
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        (width, height, _, bits), packed = struct.unpack_from("<4H", data, 18), 0
    else:
        width, height, _, bits, packed = struct.unpack_from("<iiHHI", data, 18)
    # Pillow unpacks run lengths in Python: as slow as decoding sixteen times as many pixels.
    cost = 64 if packed in (1, 2) else 7 if bits > 8 else 4
    return Header("BMP", data, abs(width), abs(height), cost)


def _webp(data):
    width = height = 0
    alpha = animated = False
    orientation, cost, at, end = 1, 3.5, 12, min(len(data), 8 + struct.unpack_from("<I", data, 4)[0])
    for _ in range(_MAX_SEGMENTS):
        if at + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        at += 8
        if kind == b"VP8X":
            flags, *sides = struct.unpack_from("<B3x3s3s", data, at)
            alpha, animated = bool(flags & 16), bool(flags & 2)
            width, height = (int.from_bytes(side, "little") + 1 for side in sides)
        elif kind == b"VP8 " and not animated:
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, at + 6))
        elif kind == b"VP8L" and not animated:
            (bits,) = struct.unpack_from("<I", data, at + 1)
            width, height, cost = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 8
            alpha = alpha or bool(bits >> 28 & 1)
        elif kind == b"EXIF":
            orientation = exif_orientation(data[at : at + min(length, 65536)])
        at += length + (length & 1)
    if animated:
        cost = 20  # two canvases of its decoder, and Pillow's copies
    elif alpha:
        cost = max(cost, 4) + 3
    return Header("WEBP", data, width, height, cost, orientation, alpha=alpha, direct=not animated)
