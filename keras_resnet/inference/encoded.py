"""Image files to RGB arrays inside a TensorFlow graph, as `keras_resnet.data.decode` does it in Python.

TensorFlow's decoders know no EXIF orientation, give palettes of few bits and transparent GIFs wrong
colours, and read few BMPs. So the structure of a file is read here, by operations that every
TensorFlow has, and what would come out as another picture than in Python is refused by its name.
"""

from __future__ import annotations

import tensorflow as tf

# Of segments, chunks or blocks before the pixels; real files have tens.
_MAX_STEPS = 10_000
_MARGIN = 64  # zeros behind a file, so that what is read at its end is there
_EXIF = 0x457869660000  # "Exif" and two zeros
_NAMES = ("JPEG", "PNG", "GIF", "BMP")


@tf.autograph.experimental.do_not_convert
def decode_encoded(data):
    """Decode the bytes of a JPEG, PNG, GIF (its first frame) or BMP file in a graph.

    Args:
        data: A scalar string tensor.

    Returns:
        uint8 tensor ``(height, width, 3)``: RGB, transparency laid over white, upright.

    Raises:
        tf.errors.InvalidArgumentError: the file is of another kind, or damaged.
    """
    padded = tf.strings.join([data, bytes(_MARGIN)])
    starts = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "GIF": b"GIF8", "BMP": b"BM"}
    found = tf.stack([tf.strings.substr(padded, 0, len(start)) == start for start in starts.values()])
    kind = tf.where(tf.reduce_any(found), tf.argmax(found, output_type=tf.int32), len(_NAMES))
    raw = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.uint8)
    branches = [lambda f=f: f(data, raw) for f in (_jpeg, _png, _gif, _bmp)]
    image = tf.switch_case(kind, [*branches, lambda: _unknown(padded)])
    return tf.ensure_shape(image, (None, None, 3))


def _unknown(padded):
    name = tf.constant("This file")
    for at, start, known in (
        (8, b"WEBP", "WebP"), (4, b"ftyp", "HEIC or AVIF"), (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"),
    ):  # fmt: skip
        name = tf.where(tf.strings.substr(padded, at, 4) == start, known, name)
    message = tf.strings.join([name, f" is not supported here: send {', '.join(_NAMES)}."])
    return _require(False, message, tf.zeros((1, 1, 3), tf.uint8))


def _jpeg(data, raw):
    def step(at, orientation, inks):
        marker, length = _number(raw, at + 1, 1), _number(raw, at + 2, 2)
        starts = (raw[at] == 0xFF) & (marker > 1) & (marker != 0xFF) & ~((marker >= 0xD0) & (marker < 0xD8))
        exif = starts & (marker == 0xE1) & (_number(raw, at + 4, 6) == _EXIF) & (orientation == 1)
        orientation = tf.cond(exif, lambda: _orientation(raw[at + 4 : at + 2 + length]), lambda: orientation)
        frame = starts & (marker >= 0xC0) & (marker < 0xD0) & tf.reduce_all(marker != [0xC4, 0xC8, 0xCC])
        inks |= frame & (raw[at + 9] == 4)
        return starts & (marker == 0xDA), _either(starts, at + 2 + length, at + 1), orientation, inks

    _, orientation, inks = _walk("JPEG", raw, 2, step, tf.constant(1, tf.int64), tf.constant(False))
    # As Pillow does: four inks are stored as Adobe stores them, unless the file itself says so otherwise.
    adobe = b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
    data = tf.cond(
        inks, lambda: tf.strings.join([adobe, tf.strings.substr(data, 2, 2**31 - 1)]), lambda: data
    )
    return _upright(tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE"), orientation)


def _png(data, raw):
    colour = raw[25]

    def step(at, alpha, orientation, pixels):
        length, kind = _number(raw, at, 4), _number(raw, at + 4, 4)
        content = raw[at + 8 : at + 8 + tf.minimum(length, 65_536)]
        pixels |= kind == 0x49444154  # IDAT
        alpha |= (kind == 0x74524E53) & ~pixels  # tRNS
        exif = kind == 0x65584966  # eXIf
        orientation = tf.cond(exif, lambda: _orientation(content), lambda: orientation)
        return kind == 0x49454E44, at + 12 + length, alpha, orientation, pixels  # IEND

    alpha = (colour == 4) | (colour == 6)
    _, alpha, orientation, _ = _walk("PNG", raw, 8, step, alpha, tf.constant(1, tf.int64), tf.constant(False))
    # Four channels of an image without transparency are wrong: of 4-bit images TensorFlow fills in
    # 15 as opaque.
    image = tf.cond(
        alpha,
        lambda: _over_white(tf.io.decode_png(data, 4)),
        lambda: tf.io.decode_png(data, 3),
    )
    return _upright(image, orientation)


def _gif(data, raw):
    """The first frame alone, without transparency and offset, which TensorFlow does not respect."""
    size, flags = [_little(raw, 6, 2), _little(raw, 8, 2)], _number(raw, 10, 1)
    first = _either(flags >= 128, 13 + 3 * 2 ** (flags % 8 + 1), 13)

    def step(at, control, within):
        kind = _number(raw, at, 1)
        extension = ~within & (kind == 0x21)
        control = tf.where(extension & (raw[at + 1] == 0xF9), at, control)
        after = tf.where(within, at + 1 + kind, tf.where(extension, at + 2, at + 1))
        return ~within & (kind == 0x2C), after, control, (within & (kind > 0)) | extension

    at, control, _ = _walk("GIF", raw, first, step, tf.constant(0, tf.int64), tf.constant(False))
    left, top, width, height = (_little(raw, at + 1 + 2 * i, 2) for i in range(4))
    flags = _number(raw, at + 9, 1)
    palette = _either(flags >= 128, at + 10, 13)
    clear = (control > 0) & (_number(raw, control + 3, 1) % 2 == 1)
    # A white colour instead of the transparent one.
    white = _either(clear, palette + 3 * _number(raw, control + 6, 1), -1)
    data = tf.strings.join([
        _with_white(data, 0, first, white), b",\0\0\0\0",
        _with_white(data, at + 5, tf.strings.length(data), white),
    ])  # fmt: skip
    image = tf.io.decode_gif(data)[0]
    fill = tf.where(clear, tf.constant(255, tf.uint8), raw[palette : palette + 3])
    size = [tf.maximum(size[0], left + width), tf.maximum(size[1], top + height)]
    around = [[top, size[1] - top - height], [left, size[0] - left - width]]
    covered = tf.pad(tf.ones([height, width], tf.bool), around)
    return tf.where(covered[..., None], tf.pad(image, [*around, [0, 0]]), fill)


def _with_white(data, start, end, white):
    """The bytes from `start` to `end`, with three of 255 at `white` if it is among them."""
    start, end = tf.cast(start, tf.int64), tf.cast(end, tf.int64)
    at = tf.where((white >= start) & (white + 3 <= end), white, end)
    return tf.strings.join([
        tf.strings.substr(data, start, at - start),
        tf.where(at < end, b"\xff\xff\xff", b""),
        tf.strings.substr(data, tf.minimum(at + 3, end), tf.maximum(end - at - 3, 0)),
    ])  # fmt: skip


def _bmp(data, raw):
    header = _little(raw, 14, 4)
    core = header == 12
    width = tf.where(core, _little(raw, 18, 2), _little(raw, 18, 4))
    rows = tf.where(core, _little(raw, 20, 2), _little(raw, 22, 4))
    rows = tf.where(rows < 2**31, rows, rows - 2**32)  # negative: from the top down
    bits = tf.where(core, _little(raw, 24, 2), _little(raw, 28, 2))
    packed = _either(core, 0, _little(raw, 30, 4))
    unpacked = (packed != 1) & (packed != 2)
    bits = _require(unpacked, "BMP with run lengths is not supported here: send PNG.", bits)
    masks = tf.stack([_little(raw, 54 + 4 * i, 4) for i in range(3)])
    usual = tf.reduce_all(masks == [0xFF0000, 0xFF00, 0xFF])
    plain = (packed == 0) & tf.reduce_any(bits == [1, 4, 8, 24, 32])
    alpha = (packed == 3) & (header >= 56) & (_little(raw, 66, 4) == 0xFF000000)
    known = plain | ((packed == 3) & (bits == 32) & usual)
    bits = _require(known, "BMP of this kind is not supported here: send PNG.", bits)
    stride, height = (width * bits + 31) // 32 * 4, tf.abs(rows)
    start = _little(raw, 10, 4)
    body = raw[start : start + stride * height]
    body = _require(tf.size(body, tf.int64) == stride * height, "BMP: the file is truncated.", body)
    body = tf.reshape(body, [height, stride])
    image = tf.cond(
        bits < 24,
        lambda: _by_palette(raw, body, width, bits, 14 + header, _either(core, 3, 4)),
        lambda: _by_value(body, width, bits // 8, alpha),
    )
    return tf.where(rows < 0, image, tf.reverse(image, [0]))


def _by_palette(raw, body, width, bits, start, entry):
    shifts = tf.range(8 - bits, -1, -bits)
    index = tf.bitwise.right_shift(tf.cast(body, tf.int64)[..., None], shifts) % 2**bits
    index = tf.reshape(index, [tf.shape(body)[0], -1])[:, :width]
    places = start + entry * index[..., None] + [2, 1, 0]
    return tf.gather(raw, places)


def _by_value(body, width, channels, alpha):
    pixels = tf.reshape(body[:, : width * channels], [-1, width, channels])
    opaque = tf.ones_like(pixels[..., :1]) * 255
    image = tf.concat([pixels[..., 2::-1], tf.where(alpha, pixels[..., -1:], opaque)], -1)
    return _over_white(image)


def _over_white(image):
    """RGBA over white, in the integers of Pillow's alpha_composite."""
    colour, alpha = tf.cast(image[..., :3], tf.int32), tf.cast(image[..., 3:], tf.int32)
    total = (colour * alpha + 255 * (255 - alpha) + 128) * 128
    return tf.cast((total // 256 + total) // 256 // 128, tf.uint8)


def _upright(image, orientation):
    """A stored image turned as its EXIF orientation says."""

    def turned():
        upright = tf.cond(orientation > 4, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        flipped = tf.reduce_any(orientation == [3, 4, 7, 8])
        mirrored = tf.reduce_any(orientation == [2, 3, 6, 7])
        upright = tf.cond(flipped, lambda: upright[::-1], lambda: upright)
        return tf.cond(mirrored, lambda: upright[:, ::-1], lambda: upright)

    return tf.cond(orientation == 1, lambda: image, turned)


def _orientation(exif):
    """The orientation that EXIF data tell, 1 (upright) where they tell none or are damaged."""
    prefix = tf.where(_number(tf.pad(exif, [[0, 6]]), 0, 6) == _EXIF, 6, 0)
    exif = tf.pad(exif[prefix:], [[0, _MARGIN]])
    size, order = tf.size(exif, tf.int64) - _MARGIN, _number(exif, 0, 2)
    big = order == 0x4D4D

    def number(data, at, count):
        return tf.where(big, _number(data, at, count), _little(data, at, count))

    start = tf.minimum(number(exif, 4, 4), size)
    count = tf.minimum(number(exif, start, 2), (size - start - 2 + 11) // 12)
    count = _either(big | (order == 0x4949), tf.maximum(count, 0), 0)
    # A last entry of zeros, which is found if no other is.
    entries = tf.concat([exif[start + 2 : start + 2 + 12 * count], tf.zeros(12, tf.uint8)], 0)
    entries = tf.reshape(entries, [-1, 12])
    tags = tf.where(big, 256, 1) * tf.cast(entries[:, 0], tf.int32)
    tags += tf.where(big, 1, 256) * tf.cast(entries[:, 1], tf.int32)
    entry = tf.gather(entries, tf.argmax(tags == 0x0112))
    entry = tf.where(tf.reduce_any(tags == 0x0112), entry, tf.zeros_like(entry))
    kind = number(entry, 2, 2)
    value = tf.where(kind == 4, number(entry, 8, 4), number(entry, 8, 2))
    value = tf.where(kind == 1, _number(entry, 8, 1), value)
    return _either((value >= 1) & (value <= 8), value, 1)


def _walk(name, raw, at, step, *state):
    """Follow a chain of segments from `at` on: `step` says whether it has found the end, and what is next."""
    size = tf.size(raw, tf.int64) - _MARGIN

    def body(_, at, *state):
        found, after, *state = step(at, *state)
        return found | (after >= size), tf.where(found, at, tf.minimum(after, size)), *state

    done, at, *state = tf.while_loop(
        lambda done, *_: ~done,
        body,
        (tf.constant(False), tf.cast(at, tf.int64), *state),
        maximum_iterations=_MAX_STEPS,
    )
    return _require(done, f"{name}: more than {_MAX_STEPS:,} segments before the pixels.", at), *state


def _number(raw, at, count):
    """The big-endian number of `count` bytes at a place."""
    digits = tf.cast(raw[at : at + count], tf.int64)
    return tf.reduce_sum(digits * [256**i for i in reversed(range(count))])


def _little(raw, at, count):
    digits = tf.cast(raw[at : at + count], tf.int64)
    return tf.reduce_sum(digits * [256**i for i in range(count)])


def _either(condition, one, other):
    return tf.where(condition, tf.cast(one, tf.int64), tf.cast(other, tf.int64))


def _require(condition, message, value):
    """The value, where the condition holds; what follows from it waits for that."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(value)
