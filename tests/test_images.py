"""Image files: each ends as RGB pixels, or in one error that names it."""

import io
import os
import struct
import tempfile
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_resnet.data import decode, images
from keras_resnet.data.decode import check_strictly, read_image
from keras_resnet.data.errors import DataError


def png(width, height, depth=8, color=0, rows=None):
    """A PNG written by hand: any declared size, any bit depth."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows or [b""]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg(size=(64, 64), mode="RGB", **options):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


BAD = {
    "zero.jpg": (b"", "the file is empty"),
    "text.jpg": (b"hello, world", "neither JPEG, PNG"),
    "page.jpg": (b"<!DOCTYPE html><html></html>", "neither JPEG, PNG"),
    "truncated.jpg": (jpeg()[:1500], "damaged image"),
    "header_only.jpg": (jpeg()[:200], "damaged image|neither"),
    "truncated.png": (png(64, 64, rows=[bytes(64)] * 64)[:60], "damaged image"),
    "image.tiff": (b"II*\0" + bytes(100), "TIFF is not supported"),
    "image.heic": (b"\0\0\0\x18ftypheic" + bytes(100), "HEIC and AVIF are not supported"),
    "image.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG is not supported"),
    "bomb60000.png": (png(60_000, 60_000), "pixels"),
    "bomb20000.png": (png(20_000, 20_000), "pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_image_is_one_error_that_names_it(tmp_path, name):
    data, message = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_image(path)
    assert str(caught.value).startswith(str(path))


def test_jpeg_that_declares_huge_sides(tmp_path):
    data = bytearray(jpeg())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_500, 65_500)
    (tmp_path / "huge.jpg").write_bytes(data)
    with pytest.raises(DataError, match=r"huge\.jpg.*max_pixels allows 67,108,864"):
        read_image(tmp_path / "huge.jpg")


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "CMYK"])
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "webp"])
def test_every_format_and_mode_becomes_rgb(tmp_path, mode, suffix):
    x = np.linspace(0, 255, 32).astype(np.uint8)
    image = Image.fromarray(np.stack([np.tile(x, (24, 1))] * 3, -1)).convert(mode)
    path = tmp_path / f"image.{suffix}"
    try:
        image.save(path, **({"lossless": True} if suffix == "webp" else {}))
    except (OSError, ValueError):
        pytest.skip(f"{suffix} files have no {mode}")
    pixels = read_image(path)
    assert pixels.shape == (24, 32, 3)
    assert pixels.dtype == np.uint8
    assert abs(pixels.astype(int) - np.asarray(image.convert("RGB"))).max() <= (40 if suffix == "jpg" else 12)


def smooth(width, height):
    rows, columns = np.mgrid[:height, :width]
    bands = [rows * 255 // height, columns * 255 // width, (3 * rows + columns) % 200]
    return Image.fromarray(np.stack(bands, -1).astype(np.uint8))


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 30}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_jpegs_have_the_pixels_of_pillow(mode, options, monkeypatch):
    file = io.BytesIO()
    smooth(101, 67).convert(mode).save(file, "JPEG", **options)
    expected = np.asarray(Image.open(file).convert("RGB"))
    monkeypatch.setattr(decode, "_to_rgb", None)  # Pillow's way is not taken
    np.testing.assert_array_equal(decode.decode_image(file.getvalue(), "x"), expected)
    part = decode.decode_image(file.getvalue(), "x", lambda width, height: (21, 12, width - 40, height - 30))
    assert part.shape == (37, 61, 3)
    # Colours at the edge of the part may lack a neighbour.
    np.testing.assert_array_equal(part[2:-2, 2:-2], expected[14:47, 23:80])


def test_large_parts_come_at_a_fraction_of_their_size():
    file = io.BytesIO()
    smooth(400, 320).save(file, "JPEG", quality=95)
    for least, side in ((0, 160), (160, 160), (80, 80), (79, 80), (41, 80), (40, 40), (5, 20)):
        part = decode.decode_image(file.getvalue(), "x", lambda *_: (80, 40, 240, 160), least)
        assert part.shape == (side, side * 3 // 2, 3)
        expected = smooth(400, 320).crop((80, 40, 320, 200)).resize(part.shape[1::-1], Image.Resampling.BOX)
        assert abs(part.astype(int) - np.asarray(expected))[..., :2].mean() < 3


@pytest.mark.parametrize("size", [(300, 224), (224, 300), (500, 375), (40, 30), (1, 1), (3, 200)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_parts_are_resized_as_the_whole_is(size, interpolation):
    pixels = np.asarray(smooth(*size))
    extent = [64 * side // min(size) for side in size]
    method = Image.Resampling[interpolation.upper()]
    # Across, then down: see `resize_box`.
    whole = smooth(*size).resize((extent[0], size[1]), method).resize(extent, method)
    left, top = (round((side - 56) / 2) for side in extent)
    expected = np.asarray(whole.crop((left, top, left + 56, top + 56))).astype(int)
    difference = abs(images.resize_and_crop(pixels, 56, 0.875, interpolation) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_large_images_are_resized_strip_by_strip_to_the_same_pixels(interpolation, channels, monkeypatch):
    pixels = np.asarray(smooth(130, 90))[..., :channels]
    expected = images.resize_and_crop(pixels, 32, 0.875, interpolation)
    monkeypatch.setattr(images, "_STRIP", 130 * 7)
    np.testing.assert_array_equal(images.resize_and_crop(pixels, 32, 0.875, interpolation), expected)


def test_png_named_jpeg(save_image):
    path = save_image("image.png")
    expected = read_image(path)
    np.testing.assert_array_equal(read_image(path.rename(path.with_suffix(".JPEG"))), expected)


def test_transparency_is_laid_over_white(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (2, 2), (255, 0, 0, 128)).save(tmp_path / "half.png")
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert (read_image(tmp_path / "clear.png") == 255).all()
    assert read_image(tmp_path / "half.png")[0, 0].tolist() == [255, 127, 127]
    assert (read_image(tmp_path / "palette.png") == 255).all()


@pytest.mark.parametrize("color, bands", [(0, 1), (2, 3)])
def test_sixteen_bits_keep_the_upper_eight(tmp_path, color, bands):
    row = struct.pack(f">{4 * bands}H", *([0x0000, 0x40FF, 0x8000, 0xFFFF] * bands)[: 4 * bands])
    (tmp_path / "deep.png").write_bytes(png(4, 1, 16, color, [row]))
    values = read_image(tmp_path / "deep.png").reshape(-1)
    assert set(values.tolist()) == {0x00, 0x40, 0x80, 0xFF}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255
    inverse = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(inverse[orientation]).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert abs(read_image(tmp_path / "turned.jpg").astype(int) - upright).max() <= 12


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    for suffix in ("gif", "webp"):
        frames[0].save(tmp_path / f"two.{suffix}", save_all=True, append_images=frames[1:])
        assert read_image(tmp_path / f"two.{suffix}")[0, 0, 0] > 200


@pytest.mark.parametrize("size", [(1, 1), (10_000, 1), (1, 10_000)])
def test_extreme_shapes(save_image, size):
    assert read_image(save_image("thin.png", size=size)).shape == (size[1], size[0], 3)


def test_strange_file_names(save_image):
    path = os.fsencode(save_image("plain.png"))
    for name in (b"with space.png", b"with\nnewline.png", b"not-utf8-\xff\xfe.png"):
        renamed = os.path.join(os.path.dirname(path), name)
        os.link(path, renamed)
        assert read_image(renamed).shape == (16, 16, 3)
    os.truncate(renamed, 0)
    with pytest.raises(DataError, match=r"not-utf8-\\udcff\\udcfe\.png: the file is empty"):
        read_image(renamed)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="nowhere.*No such file"):
        read_image(tmp_path / "nowhere.png")


def test_unreadable_file():
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        os.chmod(file.name, 0)
        was = os.geteuid()
        os.seteuid(was or 65534)
        try:
            with pytest.raises(DataError, match=r"\.png: cannot be read: Permission denied"):
                read_image(file.name)
        finally:
            os.seteuid(was)


def test_strict_check_finds_what_decoders_pass_over(tmp_path):
    data = bytearray(jpeg((256, 256)))
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(range(64))
    (tmp_path / "damaged.jpg").write_bytes(data)
    read_image(tmp_path / "damaged.jpg")
    check_strictly(jpeg(), "whole.jpg")
    check_strictly(jpeg(mode="CMYK"), "cmyk.jpg")
    check_strictly(b"not a JPEG", "other")
    with pytest.raises(DataError, match="damaged.jpg: damaged JPEG"):
        check_strictly(bytes(data), "damaged.jpg")


def test_mutated_images_decode_or_raise(tmp_path):
    rng = np.random.default_rng(0)
    samples = [jpeg((48, 48)), png(16, 16, rows=[bytes(16)] * 16)]
    outcomes = {"decoded": 0, "refused": 0}
    for i in range(400):
        data = bytearray(samples[i % 2])
        for position in rng.integers(0, len(data), 4):
            data[position] = rng.integers(256)
        (tmp_path / "mutated").write_bytes(data)
        try:
            assert read_image(tmp_path / "mutated").ndim == 3
            outcomes["decoded"] += 1
        except DataError as error:
            assert "mutated" in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50
