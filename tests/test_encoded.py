"""Image files in a graph: each flavor is the picture that Python decodes, or is refused by its name."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms

from keras_resnet.data.decode import decode_image
from keras_resnet.data.transforms import resize_and_crop
from keras_resnet.inference.encoded import decode_encoded
from keras_resnet.inference.preparation import Preparation, prepare_encoded

WIDTH, HEIGHT = 37, 26
in_graph = tf.function(decode_encoded, input_signature=[tf.TensorSpec([], tf.string)])


def smooth(width=WIDTH, height=HEIGHT):
    rows, columns = np.mgrid[:height, :width]
    bands = [rows * 255 // height, columns * 255 // width, (3 * rows + columns * 5) % 200]
    return Image.fromarray(np.stack(bands, -1).astype(np.uint8))


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


ALPHA = (np.mgrid[:HEIGHT, :WIDTH][1] * 9 % 256).astype(np.uint8)
ALPHA[3:9, 5:20], ALPHA[12:15] = 0, 255
RGBA = Image.fromarray(np.dstack([np.asarray(smooth()), ALPHA]))
GREY_ALPHA = Image.merge("LA", [smooth().convert("L"), Image.fromarray(ALPHA)])
IMAGES = {mode: smooth().convert(mode) for mode in ("RGB", "L", "1", "P", "CMYK", "YCbCr")}
IMAGES |= {"RGBA": RGBA, "LA": GREY_ALPHA}
IMAGES["I;16"] = Image.fromarray(np.asarray(IMAGES["L"]).astype(np.uint16) * 251)


def exif(orientation):
    tags = Image.Exif()
    tags[0x010F], tags[0x0112], tags[0x0131] = "camera", orientation, "program"
    return tags


def palette(colors):
    return smooth().convert("P", palette=Image.Palette.ADAPTIVE, colors=colors)


def jpegs():
    options = {
        "": {}, "progressive": dict(progressive=True), "optimized": dict(optimize=True),
        "poor": dict(quality=20),
        "4:4:4": dict(subsampling=0), "4:2:2": dict(subsampling=1), "4:2:0": dict(subsampling=2),
        "restart blocks": dict(restart_marker_blocks=1), "restart rows": dict(restart_marker_rows=1),
        "as RGB": dict(keep_rgb=True), "comment": dict(comment=b"\xff\xda\xff\xe1" * 20),
        "profile": dict(icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
    }  # fmt: skip
    for mode in ("RGB", "L", "1", "CMYK", "YCbCr"):
        yield from ((f"JPEG {mode} {name}", saved(IMAGES[mode], "JPEG", **o)) for name, o in options.items())
    for orientation in range(10):
        yield f"JPEG turned {orientation}", saved(smooth(), "JPEG", exif=exif(orientation))
    for name, block in exif_blocks().items():
        yield f"JPEG EXIF {name}", with_segment(saved(smooth(), "JPEG"), 0xE1, b"Exif\0\0" + block)
    turned = saved(smooth(), "JPEG", exif=exif(6))
    yield "JPEG two EXIF", with_segment(turned, 0xE1, b"Exif\0\0" + exif_blocks()["MM short"])
    yield "JPEG other APP1", with_segment(turned, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(500))
    yield "JPEG filled", turned[:2] + b"\xff\xff\xff" + turned[2:]
    yield "JPEG with a tail", turned + b"appended"
    cmyk = saved(IMAGES["CMYK"], "JPEG")
    at = cmyk.index(b"\xff\xee")
    yield "JPEG CMYK not inverted", cmyk[:at] + cmyk[at + 16 :]
    yield "JPEG YCCK", cmyk[: at + 15] + b"\2" + cmyk[at + 16 :]


def with_segment(jpeg, marker, content):
    return jpeg[:2] + bytes([255, marker]) + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def exif_blocks():
    """EXIF data of either byte order and several types, damaged ones among them."""
    blocks = {}
    for order, start in ("II", "<"), ("MM", ">"):
        head = order.encode() + struct.pack(f"{start}HI", 42, 8)
        entries = {
            "short": struct.pack(f"{start}HHIH2x", 0x0112, 3, 1, 6),
            "long": struct.pack(f"{start}HHII", 0x0112, 4, 1, 8),
            "byte": struct.pack(f"{start}HHIB3x", 0x0112, 1, 1, 3),
            "odd type": struct.pack(f"{start}HHIH2x", 0x0112, 7, 1, 5),
            "nine": struct.pack(f"{start}HHIH2x", 0x0112, 3, 1, 9),
        }
        other = struct.pack(f"{start}HHII", 0x0110, 4, 1, 6)
        for name, entry in entries.items():
            blocks[f"{order} {name}"] = head + struct.pack(f"{start}H", 2) + other + entry + bytes(4)
        whole = blocks[f"{order} short"]
        blocks |= {f"{order} cut at {n}": whole[:n] for n in (0, 1, 3, 7, 9, 12, 22, 30)}
        blocks[f"{order} far"] = order.encode() + struct.pack(f"{start}HI", 42, 2**32 - 1) + bytes(40)
        blocks[f"{order} later"] = order.encode() + struct.pack(f"{start}HI", 42, 20) + bytes(12) + whole[8:]
        blocks[f"{order} many"] = head + struct.pack(f"{start}H", 65_535) + whole[10:]
    return blocks | {"no order": b"XX" + whole[2:]}


def png(width, height, depth, color, rows, *chunks, late=(), interlaced=False):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", body), *late, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def adam7(pixels):
    """The rows of the seven passes over ``(height, width, channels)``."""
    for top, left, down, across in (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1),
    ):  # fmt: skip
        yield from (row.tobytes() for row in pixels[top::down, left::across])


def pngs():
    for mode in ("RGB", "L", "1", "P", "RGBA", "LA", "I;16"):
        yield f"PNG {mode}", saved(IMAGES[mode], "PNG")
    for bits in (1, 2, 4, 8):
        some = palette(2**bits)
        alphas = bytes(i * 250 // 2**bits for i in range(2**bits))
        yield f"PNG palette {bits}", saved(some, "PNG", bits=bits)
        yield f"PNG palette {bits} transparent", saved(some, "PNG", bits=bits, transparency=1)
        yield f"PNG palette {bits} translucent", saved(some, "PNG", bits=bits, transparency=alphas)
        row = bytes(range(0, 250, 31))
        for name, chunks in ("grey", ()), ("transparent grey", [(b"tRNS", b"\0\1")]):
            yield f"PNG {name} {bits}", png(len(row) * 8 // bits, 2, bits, 0, [row, row[::-1]], *chunks)
    yield "PNG RGB transparent", saved(smooth(), "PNG", transparency=smooth().getpixel((4, 5)))
    yield "PNG L transparent", saved(IMAGES["L"], "PNG", transparency=IMAGES["L"].getpixel((4, 5)))
    rng = np.random.default_rng(0)
    for color, channels in (0, 1), (2, 3), (4, 2), (6, 4):
        deep = rng.integers(0, 2**16, (9, 11, channels)).astype(">u2")
        yield f"PNG 16 bits, {channels} channels", png(11, 9, 16, color, [row.tobytes() for row in deep])
        flat = rng.integers(0, 256, (19, 21, channels)).astype(np.uint8)
        yield f"PNG interlaced, {channels} channels", png(21, 19, 8, color, adam7(flat), interlaced=True)
        yield (
            f"PNG interlaced, 16 bits, {channels} channels",
            png(11, 9, 16, color, adam7(deep), interlaced=True),
        )
        if color in (0, 2):
            key = (b"tRNS", deep[0, 0].tobytes())
            yield (
                f"PNG 16 bits transparent {channels}",
                png(11, 9, 16, color, [r.tobytes() for r in deep], key),
            )
    for orientation in range(1, 9):
        yield f"PNG turned {orientation}", saved(smooth(), "PNG", exif=exif(orientation))
    grey = [bytes(range(10)), bytes(range(10, 20))]
    for name, block in exif_blocks().items():
        yield f"PNG EXIF {name}", png(10, 2, 8, 0, grey, (b"eXIf", block))
    yield "PNG EXIF with a prefix", png(10, 2, 8, 0, grey, (b"eXIf", b"Exif\0\0" + exif_blocks()["II short"]))
    yield "PNG EXIF at the end", png(10, 2, 8, 0, grey, late=[(b"eXIf", exif_blocks()["MM long"])])
    yield "PNG text", png(10, 2, 8, 0, grey, (b"tEXt", b"tRNS\0eXIf"))


def gif_frame(data, canvas=None, at=(0, 0), control=b"", background=0):
    """A GIF of Pillow with another canvas, place of its frame, and graphic control."""
    start = 13 + (3 << (data[10] & 7) + 1)
    image = data.index(b",", start)
    width, height = canvas or struct.unpack_from("<HH", data, 6)
    head = data[:6] + struct.pack("<HHBBB", width, height, data[10], background, 0)
    return head + data[13:start] + control + b"," + struct.pack("<HH", *at) + data[image + 5 :]


def with_local_palette(data):
    """The global palette of a GIF moved into its frame."""
    start = 13 + (3 << (data[10] & 7) + 1)
    at = data.index(b",", start)
    colors = data[13:start]
    flags = bytes([data[at + 9] & 0x40 | 0x80 | data[10] & 7])
    return data[:10] + b"\0" + data[11:13] + data[start : at + 9] + flags + colors + data[at + 10 :]


def gifs():
    turned = [smooth().rotate(angle) for angle in (20, 90)]
    for mode in ("RGB", "L", "1", "P", "RGBA", "LA"):
        yield f"GIF {mode}", saved(IMAGES[mode], "GIF")
    for bits in (1, 2, 4, 8):
        yield f"GIF {bits} bits", saved(palette(2**bits), "GIF")
        yield f"GIF {bits} bits transparent", saved(palette(2**bits), "GIF", transparency=1)
    for disposal in range(4):
        options = dict(save_all=True, append_images=turned, disposal=disposal, duration=50)
        yield f"GIF of three frames, disposal {disposal}", saved(smooth(), "GIF", **options)
    few = saved(RGBA, "GIF", save_all=True, append_images=[RGBA.rotate(20)], disposal=2)
    yield "GIF transparent frames", few
    for interlace in (0, 1):
        yield f"GIF interlace {interlace}", saved(IMAGES["P"], "GIF", interlace=interlace)
    yield "GIF comment", saved(IMAGES["P"], "GIF", comment=b"x,!\xf9\4\1\0\0\0\0" * 99)
    yield "GIF background", saved(IMAGES["P"], "GIF", background=5)
    plain = saved(palette(16), "GIF")
    clear = b"!\xf9\4\1\0\0\3\0"
    yield "GIF local palette", with_local_palette(plain)
    yield "GIF local palette, transparent", with_local_palette(gif_frame(plain, control=clear))
    for name, control in ("", b""), (" transparent", clear), (" opaque", b"!\xf9\4\x08\0\0\3\0"):
        yield f"GIF frame{name} within a canvas", gif_frame(plain, (50, 41), (7, 9), control, background=4)
        yield f"GIF frame{name} beyond a canvas", gif_frame(plain, (20, 10), (3, 0), control)
    yield "GIF two controls", gif_frame(plain, control=clear + b"!\xf9\4\0\0\0\3\0")
    yield "GIF color beyond the palette", gif_frame(plain, control=b"!\xf9\4\1\0\0\xc8\0")


def bmp(width, height, bits, body, palette=b"", packed=0, masks=b"", header=40):
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, packed, len(body), 0, 0, 0, 0)
    rest = masks.ljust(header - len(info) if header > 40 else len(masks), b"\0")
    start = 14 + len(info) + len(rest) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + info + rest + palette + body


def bmps():
    for mode in ("RGB", "L", "1", "P", "RGBA"):
        yield f"BMP {mode}", saved(IMAGES[mode], "BMP")
    rng = np.random.default_rng(0)
    for bits in (1, 4, 8, 24, 32):
        body = rng.integers(0, 256, 9 * ((13 * bits + 31) // 32 * 4), np.uint8).tobytes()
        colors = rng.integers(0, 256, (2**bits if bits <= 8 else 0, 4), np.uint8)
        for height in (9, -9):
            yield f"BMP of {bits} bits, {height} rows", bmp(13, height, bits, body, colors.tobytes())
        if bits < 32:
            yield (
                f"BMP of {bits} bits, old header",
                bmp(13, 9, bits, body, colors[:, :3].tobytes(), header=12),
            )
    masks = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    yield "BMP with masks", bmp(13, 9, 32, body, packed=3, masks=masks)
    yield "BMP with masks, version 4", bmp(13, 9, 32, body, packed=3, masks=masks, header=108)
    alpha = masks + struct.pack("<I", 0xFF000000)
    yield "BMP with alpha, version 4", bmp(13, 9, 32, body, packed=3, masks=alpha, header=108)
    yield "BMP with alpha, version 5", bmp(13, -9, 32, body, packed=3, masks=alpha, header=124)
    for bits in (1, 4, 8):
        yield f"BMP palette {bits}", saved(palette(2**bits), "BMP")


FLAVORS = {name: data for kind in (jpegs, pngs, gifs, bmps) for name, data in kind()}


@pytest.mark.parametrize("name", FLAVORS)
def test_each_flavor_is_the_same_picture(name):
    expected = decode_image(FLAVORS[name], name)
    pixels = in_graph(FLAVORS[name]).numpy()
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    # TensorFlow rounds the sum of an ink and black otherwise than Pillow.
    levels = 1 if "CMYK" in name or "YCCK" in name else 0
    assert np.abs(pixels.astype(int) - expected).max() <= levels


REFUSED = {
    "WebP": (saved(smooth(), "WEBP"), "WebP is not supported here: send JPEG, PNG, GIF, BMP"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(100), "HEIC or AVIF is not supported"),
    "TIFF": (saved(smooth(), "TIFF"), "TIFF is not supported"),
    "text": (b"hello", "This file is not supported"),
    "empty": (b"", "This file is not supported"),
    "RLE": (bmp(4, 1, 8, b"\4\0\0\1", bytes(1024), packed=1), "BMP with run lengths is not supported"),
    "RLE of 4 bits": (bmp(4, 1, 4, b"\4\0\0\1", bytes(64), packed=2), "BMP with run lengths"),
    "16 bits": (bmp(4, 1, 16, bytes(8)), "BMP of this kind is not supported"),
    "odd masks": (bmp(1, 1, 32, bytes(4), packed=3, masks=bytes(12)), "BMP of this kind"),
    "cut BMP": (bmp(40, 40, 24, bytes(100)), "BMP: the file is truncated"),
    "bomb": (saved(smooth(), "JPEG")[:2] + b"\xff\xe2\0\2" * 10_001, "JPEG: more than 10,000 segments"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_the_same_is_refused_by_its_name(name):
    data, message = REFUSED[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        in_graph(data)


@pytest.mark.parametrize("name", ["JPEG RGB ", "PNG RGBA", "GIF P", "BMP RGB", "JPEG turned 6"])
def test_damage_ends_in_an_error_or_a_picture(name):
    rng, refused = np.random.default_rng(0), 0
    for i in range(60):
        data = bytearray(FLAVORS[name])
        for position in rng.integers(0, len(data) if i % 2 else 60, 3):
            data[position] = rng.integers(256)
        try:
            assert in_graph(bytes(data[: rng.integers(4, len(data))] if i % 5 == 0 else data)).shape[-1] == 3
        except tf.errors.OpError:
            refused += 1
    assert refused


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size, crop_fraction, channels", [(8, 0.8, 3), (24, 0.875, 1), (50, 1.0, 3), (32, None, 3)]
)
def test_prepared_images_are_those_of_predict(size, crop_fraction, channels, interpolation):
    options = {
        "crop_fraction": crop_fraction,
        "interpolation": interpolation,
        "antialias": True,
        "image_size": size,
    }
    resize = int(size / (crop_fraction or 0.875))
    preparation = Preparation(size, resize, interpolation, channels, options)
    prepare = tf.function(
        lambda data: prepare_encoded(data, preparation), input_signature=[tf.TensorSpec([], tf.string)]
    )
    square = saved(smooth(size, size), "PNG", exif=exif(7))
    for data in (square, *(FLAVORS[f"{kind} turned 6"] for kind in ("JPEG", "PNG")), FLAVORS["GIF RGBA"]):
        image = decode_image(data, "x")
        if channels == 1:
            image = np.round(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]
        expected = resize_and_crop(tf.constant(image), size, crop_fraction, interpolation).numpy()
        difference = np.abs(prepare(data).numpy() - expected)
        # Enlarged images have two: each of Pillow's two steps rounds to whole levels.
        assert difference.max() <= (1 if min(image.shape[:2]) >= resize else 2)
