"""Image files that are damaged or made to do harm: pixels, or one `DataError` that names the file."""

import io
import os
import socket
import struct
import zlib

import bombs
import numpy as np
import pytest
from PIL import Image

from keras_resnet import DataError, build_resnet, check_data, cli, make_dataset, predict, prepare_tfrecords
from keras_resnet.data import decode
from keras_resnet.data.decode import decode_image, read_image
from keras_resnet.data.headers import exif_orientation, read_header

LIMIT_MB, LIMIT_SECONDS = 256, 5
QUICK = [
    "JPEG of 3,500 empty scans", "JPEG of 100 corrections of 10 Mpixel", "JPEG of 64 Mpixel",
    "JPEG of 150 full EXIF segments", "JPEG of 160,000 EXIF segments", "WebP of one color, 178 Mpixel",
    "WebP of one color, 24 Mpixel", "16-bit RGBA PNG of 178 Mpixel", "grey PNG of 54 Mpixel",
    "PNG of one column of 178 Mpixel", "PNG of 20,000 bombs in iCCP", "PNG of 20,000 bombs in zTXt",
    "GIF of 54 Mpixel", "BMP of 64 Mpixel without them",
]  # fmt: skip


def picture(mode="RGB", size=(40, 28)):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 10, 4), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(kind, mode="RGB", **options):
    file = io.BytesIO()
    picture(mode).save(file, kind, **options)
    return file.getvalue()


def exif_data(orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9286] = orientation, "maker", b"comment"
    return exif.tobytes()


def with_exif(kind, orientation):
    exif = exif_data(orientation)
    return encoded(kind, exif=exif, **({"quality": 95} if kind != "PNG" else {}))


def bombs_within_limits(names):
    found = {name: row for name, *row in bombs.measure(["tiny", *names])}
    base = found.pop("tiny")[2]
    for name, (_, seconds, peak, result) in found.items():
        assert seconds < LIMIT_SECONDS, name
        assert peak - base < LIMIT_MB, name
        assert result[0].isdigit() or result.startswith("bomb: "), (name, result)
    assert len(found) == len(names)


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs Unix")


def test_bombs_take_neither_memory_nor_time():
    bombs_within_limits(QUICK)


@pytest.mark.slow
def test_all_bombs_take_neither_memory_nor_time():
    bombs_within_limits([name for name in bombs.BOMBS if name != "tiny"])


def test_limit_of_pixels_is_an_argument():
    data = encoded("PNG")
    assert decode_image(data, "x", max_pixels=1120).shape == (28, 40, 3)
    with pytest.raises(DataError, match=r"^x: 40 x 28 pixels; max_pixels allows 1,119, and a side"):
        decode_image(data, "x", max_pixels=1119)


def test_every_door_takes_the_limit(folder, tmp_path):
    # Images of 16 x 16.
    with pytest.raises(DataError, match=r"\.png: 16 x 16 pixels; max_pixels allows 255"):
        next(iter(make_dataset(folder, max_pixels=255, batch_size=2)))
    assert "max_pixels allows 255" in check_data(folder, max_pixels=255).problems[0]
    with pytest.raises(DataError, match="max_pixels allows 255"):
        prepare_tfrecords(folder, tmp_path / "refused", max_pixels=255)
    prepare_tfrecords(folder, tmp_path / "shards", max_pixels=256)
    with pytest.raises(DataError, match=r"cat/\d\.png: 16 x 16 pixels; max_pixels allows 255"):
        list(make_dataset(tmp_path / "shards", "held_out", max_pixels=255, batch_size=1))
    with pytest.raises(DataError, match="max_pixels=0 must be a whole number"):
        make_dataset(folder, max_pixels=0)
    assert cli.main(["check-data", str(folder), "--max-pixels", "255"]) == 1
    network = build_resnet(
        stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, input_shape=(8, 8, 3), num_classes=2,
        normalization=(0.5, 0.25),
    )  # fmt: skip
    assert len(predict(network, folder, max_pixels=256)) == 12
    with pytest.raises(DataError, match="max_pixels allows 255"):
        predict(network, folder, max_pixels=255)


def test_honest_files_may_be_large_where_small_ones_may_not():
    small = bombs.png(8000, 6000, 8, 2)
    with pytest.raises(DataError, match=r"8000 x 6000 pixels in 140,\d+ bytes would take 336 MB to decode"):
        decode_image(small, "x")
    large = bombs.png(8000, 6000, 8, 2, before=bombs.chunk(b"abCd", bytes(3_400_000)))
    decode._check_cost(read_header(large), len(large), "x", decode.MAX_PIXELS)


# --- EXIF ---


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_every_format_and_of_parts(kind, orientation):
    stored = np.asarray(Image.open(io.BytesIO(with_exif(kind, 1))).convert("RGB"))
    expected = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.transpose(1, 0, 2), 6: np.rot90(stored, -1), 7: np.rot90(stored.transpose(1, 0, 2), 2),
        8: np.rot90(stored),
    }[orientation]  # fmt: skip
    data = with_exif(kind, orientation)
    np.testing.assert_array_equal(decode_image(data, "x"), expected)
    sizes = []
    part = decode_image(data, "x", lambda *size: sizes.append(size) or (3, 5, 20, 16))
    assert sizes == [(expected.shape[1], expected.shape[0])]
    inner = slice(2, -2) if kind == "JPEG" else slice(None)  # colors at the edge lack a neighbour
    np.testing.assert_array_equal(part[inner, inner], expected[5:21, 3:23][inner, inner])


def test_rotated_jpegs_come_at_a_fraction_of_their_size_too():
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    picture(size=(400, 320)).save(file, "JPEG", exif=exif)
    assert decode_image(file.getvalue(), "x", lambda *_: (40, 80, 160, 240), 40).shape == (60, 40, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_costs_the_orientation_only(kind, rng):
    data = with_exif(kind, 6)
    content = exif_data(6).removeprefix(b"Exif\0\0")
    start = data.index(content)
    upright, turned = decode_image(with_exif(kind, 1), "x"), decode_image(data, "x")
    results = {"upright": upright, "turned": turned}
    seen = set()
    for _ in range(300):
        damaged = bytearray(data)
        for position in rng.integers(start, start + len(content), 3):
            damaged[position] = rng.integers(256)
        if kind == "PNG":  # else the checksum tells
            at = damaged.index(b"eXIf")
            size = int.from_bytes(damaged[at - 4 : at], "big")
            damaged[at + 4 + size : at + 8 + size] = struct.pack(
                ">I", zlib.crc32(damaged[at : at + 4 + size])
            )
        pixels = decode_image(bytes(damaged), "x")
        seen |= {name for name, expected in results.items() if np.array_equal(pixels, expected)}
        assert pixels.shape in (upright.shape, turned.shape)
    assert seen == {"upright", "turned"}


@pytest.mark.parametrize(
    "exif, orientation",
    [
        (b"", 1),
        (b"II*\0\x08\0\0\0", 1),
        (b"II*\0\xff\xff\xff\xff", 1),
        (b"II*\0\x08\0\0\0\xff\xff", 1),
        (b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x08\0\0\0", 8),
        (b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x08\0\0", 8),
        (b"MM\0*\0\0\0\x08\0\1\1\x12\0\4\0\0\0\1\0\0\0\6", 6),
        (b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x09\0\0\0", 1),
        (b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\3\0\0\0", 3),
        (b"XX*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\3\0\0\0", 1),
    ],
)
def test_exif_orientation(exif, orientation):
    assert exif_orientation(exif) == orientation


# --- damage that can be seen ---


@pytest.mark.parametrize("options", [{}, {"compress_level": 0}])
def test_png_with_a_zeroed_or_missing_tail(options, rng):
    data = encoded("PNG", **options)
    for at in rng.integers(8, len(data) - 12, 100).tolist():
        for damaged in (data[:at] + bytes(len(data) - at), data[:at]):
            with pytest.raises(DataError, match=r"^x: damaged image: "):
                decode_image(damaged, "x")


def test_every_flipped_bit_of_a_png_is_found(rng):
    data = encoded("PNG", compress_level=0)
    for at in rng.integers(0, 8 * len(data), 500).tolist():
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(DataError, match=r"^x: "):
            decode_image(bytes(damaged), "x")


def test_what_follows_a_png_is_no_damage():
    np.testing.assert_array_equal(decode_image(encoded("PNG") + b"more", "x"), np.asarray(picture()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_truncated_files_are_refused(kind, rng):
    data = encoded(kind)
    for at in rng.integers(1, len(data) - 40, 20).tolist():
        with pytest.raises(DataError, match=r"^x: "):
            decode_image(data[:at], "x")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA", "CMYK"])
def test_texts_profiles_and_later_frames_make_no_difference(kind, mode):
    options = {
        "JPEG": {"comment": b"c" * 70, "icc_profile": b"i" * 70_000, "exif": with_exif("JPEG", 1)[30:60]},
        "PNG": {"save_all": True, "append_images": [picture(mode, (40, 28)).rotate(90)]},
        "GIF": {"save_all": True, "append_images": [picture(mode, (40, 28)).rotate(90)], "comment": b"c"},
        "WEBP": {"lossless": True, "icc_profile": b"i" * 99, "xmp": b"x"},
    }[kind]
    try:
        data = encoded(kind, mode, **options)
    except (OSError, ValueError, SystemError):
        pytest.skip(f"{kind} files have no {mode}")
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    np.testing.assert_array_equal(decode_image(data, "x"), np.asarray(expected))


def test_what_a_phone_appends_to_a_jpeg():
    data, film = encoded("JPEG"), bytes(range(256)) * 4000 + b"\xff\xda" * 200
    np.testing.assert_array_equal(decode_image(data + film, "x"), decode_image(data, "x"))
    assert read_header(data + film).direct
    second = encoded("JPEG", quality=20)
    np.testing.assert_array_equal(decode_image(data + second, "x"), decode_image(data, "x"))


# --- whatever a decoder raises ---


@pytest.mark.parametrize(
    "error",
    [struct.error("a\nb"), TypeError(), zlib.error("x"), RecursionError("deep"), MemoryError(), EOFError(),
     KeyError("tag"), OverflowError("large"), AssertionError(), UserWarning("a warning as an error")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_only_data_errors_come_out(error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(decode, "_decode", fail)
    with pytest.raises(DataError, match=r"^x: damaged image: [^\n]+$") as caught:
        decode_image(encoded("PNG"), "x")
    assert caught.value.__cause__ is error


SAMPLES = [
    encoded("JPEG"), encoded("JPEG", progressive=True), encoded("JPEG", "CMYK"), encoded("JPEG", "L"),
    with_exif("JPEG", 6), encoded("PNG"), encoded("PNG", "P"), encoded("PNG", "LA"), with_exif("PNG", 3),
    encoded("GIF"), encoded("BMP"), encoded("BMP", "1"), encoded("WEBP"), encoded("WEBP", "RGBA"),
    encoded("WEBP", lossless=True), with_exif("WEBP", 8), bombs.many_frames("PNG", 3),
    bombs.bmp(40, 4, 1, body=b"\x28\1\0\0" * 4 + b"\0\1"),
    bombs.many_frames("GIF", 3), bombs.many_frames("WEBP", 3),
]  # fmt: skip


def repaired(data):
    """A PNG whose checksums are made to fit, so that the damage reaches the decoder."""
    data, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end])) if end < len(data) else b""
        at = end + 4
    return bytes(data)


def mutate(data, rng):
    data = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        at, some = int(rng.integers(len(data))), bytes(rng.integers(0, 256, rng.integers(1, 9), np.uint8))
        match rng.integers(6):
            case 0 | 1:
                data[at : at + len(some)] = some
            case 2:
                data[at] ^= 1 << int(rng.integers(8))
            case 3:
                data[at:at] = data[at : at + int(rng.integers(200))]
            case 4:
                del data[at : at + int(rng.integers(1, 50))]
            case 5:
                data[at : at + 4] = [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"][rng.integers(3)]
    return repaired(data) if data[1:4] == b"PNG" and rng.integers(2) else bytes(data)


def check_mutants(count):
    rng, outcomes = np.random.default_rng(0), {"decoded": 0, "refused": 0}
    for i in range(count):
        data = mutate(SAMPLES[i % len(SAMPLES)], rng)
        try:
            assert decode_image(data, "mutant").dtype == np.uint8
            outcomes["decoded"] += 1
        except DataError as error:
            assert str(error).startswith("mutant: ")
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > count / 10


def test_mutants_of_every_format_decode_or_raise_data_errors():
    check_mutants(600)


@pytest.mark.slow
def test_many_mutants_of_every_format_decode_or_raise_data_errors():
    check_mutants(20_000)


# --- not a regular file ---


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "folder"])
def test_only_regular_files_are_opened(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = "x.jpg"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.close()
    elif kind == "device":
        os.symlink("/dev/zero", path)
    else:
        os.mkdir(path)
    with pytest.raises(DataError, match=rf"^x\.jpg: cannot be read: it is a {kind}, not a regular file$"):
        read_image(path)


def test_a_file_of_any_length_is_not_read(tmp_path):
    with open(tmp_path / "x.jpg", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match=r"1,099,511,627,776 bytes are too many for 67,108,864 pixels"):
        read_image(tmp_path / "x.jpg")
