"""Small files that ask for much, and what decoding each costs.

As a script: it reads files from stdin, each after its length, and prints for each a line of JSON: its
bytes, seconds of processor, peak memory in MB, and the shape or the error.
"""

import io
import json
import os
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
from PIL import Image

MEGAPIXELS_64 = (8192, 8192)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, color=0, before=b"", between=b"", pixels=None):
    """A black PNG, with other chunks before its pixels and after each part of them."""
    bits = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color] * depth
    row = bytes(1 + (width * bits + 7) // 8)
    if pixels is None:
        packer = zlib.compressobj(9)
        pixels = b"".join(packer.compress(row * 64) for _ in range(0, height, 64)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [pixels] if not between else [pixels[i : i + 1] for i in range(len(pixels))]
    body = between.join(chunk(b"IDAT", part) for part in parts)
    palette = chunk(b"PLTE", bytes(768)) if color == 3 else b""
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + palette + before + body + between + chunk(b"IEND", b"")


def encoded(kind, mode="RGB", size=(64, 64), **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def jpeg_with(segments, **options):
    data = encoded("JPEG", **options)
    return data[:2] + segments + data[2:]


def segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def scans(size, count, first=1, last=5, entropy=b"", bits=0, components=(1,)):
    """A progressive JPEG with `count` more scans of one component."""
    data = encoded("JPEG", size=size, progressive=True, subsampling=0)
    names = b"".join(bytes((component, 0)) for component in components)
    scan = segment(0xDA, bytes((len(components),)) + names + bytes((first, last, bits)))
    return data[:-2] + (scan + entropy) * count + data[-2:]


def webp(width, height):
    """A lossless WebP of one color, as small as they get."""
    bits = (width - 1) | (height - 1) << 14
    # No transform, no cache, no groups; five codes of one symbol each, which take no bits.
    codes = sum(1 << 3 + 4 * i for i in range(5))
    body = b"\x2f" + struct.pack("<II", bits, codes) + bytes(5)
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def many_frames(kind, count, size=(64, 64)):
    frames = [Image.new("L", size, i % 256) for i in range(count)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=1)
    return file.getvalue()


def gif(width, height, extensions=b""):
    data = encoded("GIF", "L", (width, height))
    return data[:781] + extensions + data[781:]


def exif(entries, size):
    """EXIF whose entries all take the same bytes: the whole of them."""
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", entries)
    body = b"".join(struct.pack("<HHII", 0x9000 + i % 4096, 7, size, 8) for i in range(entries))
    return b"Exif\0\0" + head + body + bytes(4)


def bmp(width, height, packed=0, bits=8, body=b""):
    palette = bytes(1024) if bits == 8 else b""
    at = 54 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packed, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", at + len(body), 0, 0, at) + info + palette + body


LINE = zlib.compress(bytes(1_000_000), 9)
ROTATED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
CORRECTIONS = {"entropy": bytes(9), "bits": 0x10, "components": (1, 2, 3)}
PROFILE = segment(0xE2, b"ICC_PROFILE\0\1\xc8" + bytes(65000))
BOMBS = {
    "tiny": lambda: encoded("PNG"),
    "JPEG of 3,500 empty scans": lambda: scans((2000, 2000), 3500),
    "JPEG of 90 scans of 24 Mpixel": lambda: scans((6000, 4000), 80),
    "JPEG of 90 scans of all coefficients": lambda: scans((4000, 4000), 80, 1, 63, bytes(2000)),
    "JPEG of 100 empty scans of 10 Mpixel": lambda: scans((3300, 3200), 90),
    "JPEG of 100 scans of 10 Mpixel": lambda: scans((3300, 3200), 90, 1, 63, bytes(2000)),
    "JPEG of 100 corrections of 10 Mpixel": lambda: scans((3300, 3200), 90, 1, 63, bytes(2000), 0x10),
    "JPEG of 100 corrections of all components": lambda: scans((3300, 3200), 90, 0, 0, **CORRECTIONS),
    "progressive JPEG of 64 Mpixel": lambda: encoded("JPEG", size=MEGAPIXELS_64, progressive=True),
    "JPEG of 64 Mpixel": lambda: encoded("JPEG", size=MEGAPIXELS_64),
    "rotated JPEG of 64 Mpixel": lambda: encoded("JPEG", size=MEGAPIXELS_64, exif=ROTATED),
    "CMYK JPEG of 64 Mpixel": lambda: encoded("JPEG", "CMYK", MEGAPIXELS_64),
    "CMYK JPEG of 30 Mpixel": lambda: encoded("JPEG", "CMYK", (6000, 5000)),
    "JPEG of 1,000,000 segments": lambda: jpeg_with(segment(0xFE, b"") * 1_000_000),
    "JPEG of 10 MB of 0xFF": lambda: jpeg_with(b"\xff" * 10_000_000),
    "JPEG of 160,000 EXIF segments": lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(20)) * 160_000),
    "JPEG of 150 full EXIF segments": lambda: jpeg_with(segment(0xE1, exif(5400, 60_000)) * 150),
    "JPEG of 200 full ICC segments": lambda: jpeg_with(PROFILE * 200),
    "WebP of one color, 178 Mpixel": lambda: webp(16383, 10920),
    "WebP of one color, 64 Mpixel": lambda: webp(8192, 8192),
    "WebP of one color, 24 Mpixel": lambda: webp(6000, 4000),
    "WebP of 2,000 frames": lambda: many_frames("WEBP", 2000),
    "16-bit RGBA PNG of 178 Mpixel": lambda: png(13377, 13377, 16, 6, pixels=LINE),
    "16-bit RGBA PNG of 64 Mpixel": lambda: png(*MEGAPIXELS_64, 16, 6),
    "16-bit RGBA PNG of 30 Mpixel": lambda: png(6000, 5000, 16, 6),
    "grey PNG of 64 Mpixel": lambda: png(*MEGAPIXELS_64),
    "grey PNG of 54 Mpixel": lambda: png(9000, 6000),
    "palette PNG of 54 Mpixel": lambda: png(9000, 6000, 8, 3),
    "1-bit PNG of 54 Mpixel": lambda: png(9000, 6000, 1),
    "PNG of one column of 178 Mpixel": lambda: png(1, 178_956_970, pixels=b"x\x9c"),
    "PNG of one column of 64 Mpixel": lambda: png(1, 2**26, pixels=LINE),
    "PNG of one column": lambda: png(1, 65_535),
    "PNG of 20,000 bombs in iCCP": lambda: png(8, 8, before=chunk(b"iCCP", b"p\0\0" + LINE) * 20_000),
    "PNG of 20,000 bombs in zTXt": lambda: png(8, 8, before=chunk(b"zTXt", b"p\0\0" + LINE) * 20_000),
    "PNG of 20,000 bombs in iTXt": lambda: png(8, 8, before=chunk(b"iTXt", b"p\0\1\0\0\0" + LINE) * 20_000),
    "PNG of 1,000,000 chunks": lambda: png(8, 8, before=chunk(b"abCd", b"") * 1_000_000),
    "PNG of 1,000,000 pixels in chunks of one byte": lambda: png(1000, 1000, between=chunk(b"abCd", b"")),
    "APNG of 3,000 frames": lambda: many_frames("PNG", 3000),
    "GIF of 5,000 frames": lambda: many_frames("GIF", 5000, (16, 16)),
    "GIF of 54 Mpixel": lambda: gif(9000, 6000),
    "GIF of 64 Mpixel": lambda: gif(*MEGAPIXELS_64),
    "GIF of 500,000 comments": lambda: gif(8, 8, b"!\xfe\1a\0" * 500_000),
    "BMP of run lengths": lambda: bmp(65_000, 800, 1, body=b"\1\0\0\0" * 800),
    "small BMP of run lengths": lambda: bmp(4000, 3500, 1, body=b"\1\0\0\0" * 3500),
    "BMP of jumps": lambda: bmp(4000, 3500, 1, body=b"\0\2\xff\xff" * 3500),
    "BMP of 64 Mpixel without them": lambda: bmp(*MEGAPIXELS_64, bits=24),
}  # fmt: skip


def peak():
    """The highest memory of this process so far, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


def measure(names):
    """Decode each in a process of its own, forked from one that has TensorFlow imported."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as decoder:
        # What makes the bombs must not be counted with what decodes them.
        for name in names:
            data = BOMBS[name]()
            decoder.stdin.write(struct.pack("<I", len(data)) + data)
            decoder.stdin.flush()
            yield name, *json.loads(decoder.stdout.readline())
        decoder.stdin.close()


def decode(data):
    from keras_resnet.data.decode import decode_image
    from keras_resnet.data.errors import DataError

    start = time.process_time()
    try:
        result = "x".join(map(str, np.shape(decode_image(data, "bomb"))))
    except DataError as error:
        result = str(error)
    print(json.dumps([len(data), time.process_time() - start, peak(), result]), flush=True)


if __name__ == "__main__":
    import keras_resnet.data.decode  # noqa: F401  # once, before the forks

    while head := sys.stdin.buffer.read(4):
        bomb = sys.stdin.buffer.read(*struct.unpack("<I", head))
        if (child := os.fork()) == 0:
            decode(bomb)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            print(json.dumps([len(bomb), 0, 0, "crashed"]), flush=True)
