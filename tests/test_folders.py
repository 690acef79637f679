"""Folders of class folders."""

import os
import shutil
import tempfile

import numpy as np
import pytest

from keras_resnet import DataError, check_data, make_dataset
from keras_resnet.data.folder import open_folder


def names(folder):
    return [os.path.relpath(p, os.path.dirname(os.path.dirname(p))) for p in folder.paths]


def test_one_folder_is_one_split(folder):
    splits = open_folder(str(folder))
    assert list(splits) == ["all"]
    assert splits["all"].class_names == ("cat", "dog")
    assert splits["all"].labels == [0] * 6 + [1] * 6


def test_splits_by_folders(folder, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(folder, tmp_path / "root" / split)
    (tmp_path / "root" / "val" / "cat" / "0.png").unlink()
    assert {k: len(v.paths) for k, v in open_folder(str(tmp_path / "root")).items()} == {
        "train": 12,
        "val": 11,
    }
    assert make_dataset(tmp_path / "root", "held_out", batch_size=4).num_examples == 11
    assert make_dataset(tmp_path / "root", "val", batch_size=4).num_examples == 11
    with pytest.raises(DataError, match="no split 'test'; choose one of held_out, train, val"):
        make_dataset(tmp_path / "root", "test")


def test_other_files_are_passed_over(folder, save_image):
    save_image("images/loose.png")
    save_image("images/cat/.hidden.png")
    save_image("images/.git/x.png")
    save_image("images/cat/deeper/7.PNG")
    for name in ("Thumbs.db", "cat/Thumbs.db", "cat/notes.txt", ".DS_Store"):
        (folder / name).write_text("x")
    assert "cat/7.PNG" not in names(open_folder(str(folder))["all"])
    assert len(open_folder(str(folder))["all"].paths) == 13


BROKEN = {
    "missing": (lambda f: shutil.rmtree(f), "no such folder"),
    "no class folders": (lambda f: [shutil.rmtree(f / c) for c in ("cat", "dog")], "no class folders"),
    "empty class": (lambda f: (f / "emu").mkdir(), r"emu: the class folder has no images"),
    "case": (lambda f: shutil.copytree(f / "cat", f / "Cat"), "'Cat' and 'cat' differ only by case"),
    "tiff": (lambda f: (f / "cat" / "a.TIF").write_bytes(b"II*\0"), r"a\.TIF: this format is not supported"),
    "heic": (lambda f: (f / "cat" / "a.heic").write_bytes(b"x"), r"a\.heic: this format is not supported"),
    "loop": (
        lambda f: (f / "cat" / "loop").symlink_to(f / "cat"),
        "loop: a link to a folder that contains it",
    ),
    "self": (lambda f: (f / "cat" / "self").symlink_to(f / "cat" / "self"), "self: Too many levels"),
    "newline": (lambda f: (f / "cat").rename(f / "c\nat"), r"c\\nat: a class name must be printable"),
    "bytes": (lambda f: os.rename(f / "cat", os.fsencode(f) + b"/\xff"), r"must be printable Unicode"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_folder_is_one_error_that_names_it(folder, case):
    breaks, message = BROKEN[case]
    breaks(folder)
    with pytest.raises(DataError, match=message) as caught:
        make_dataset(folder)
    assert str(folder) in str(caught.value)


def test_classes_of_the_splits_must_agree(folder, tmp_path):
    for split in ("train", "test"):
        shutil.copytree(folder, tmp_path / "root" / split)
    shutil.move(tmp_path / "root/test/dog", tmp_path / "root/test/wolf")
    with pytest.raises(DataError, match="classes of 'train' and 'test' differ: 'dog', 'wolf'"):
        make_dataset(tmp_path / "root")


def test_class_of_one_image_cannot_be_held_out(folder):
    for i in range(1, 6):
        (folder / "cat" / f"{i}.png").unlink()
    with pytest.raises(DataError, match=r"class 'cat' has one image .*cat/0\.png"):
        make_dataset(folder)
    assert make_dataset(folder, "all", training=False).num_examples == 7


def test_links_to_files_and_folders_are_followed(folder, tmp_path, save_image):
    (folder / "cat" / "linked.png").symlink_to(save_image("elsewhere/a.png"))
    (folder / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    assert len(open_folder(str(folder))["all"].paths) == 14


def test_unreadable_folder(folder):
    """As another user where the tests run as root, who may read everything."""
    with tempfile.TemporaryDirectory() as root:
        shutil.copytree(folder, f"{root}/images")
        os.chmod(root, 0o755)
        os.chmod(f"{root}/images/cat", 0)
        was = os.geteuid()
        os.seteuid(was or 65534)
        try:
            with pytest.raises(DataError, match=r"images/cat: cannot be listed: Permission denied"):
                make_dataset(f"{root}/images")
        finally:
            os.seteuid(was)
            os.chmod(f"{root}/images/cat", 0o755)


def test_strange_names_are_read(folder):
    for name in (b"a b.png", b"a\nb.png", b"\xff\xfe.png"):
        shutil.copy(folder / "cat/0.png", os.path.join(os.fsencode(folder / "cat"), name))
    batches = list(
        make_dataset(folder, "all", training=False, image_size=16, batch_size=32).as_numpy_iterator()
    )
    assert batches[0][0].shape == (15, 16, 16, 3)


def test_bad_image_in_a_batch_is_named(folder):
    from keras_resnet.data.errors import clear_errors

    (folder / "dog/3.png").write_bytes(b"nonsense")
    dataset = make_dataset(folder, "all", training=False, batch_size=4)
    with pytest.raises(DataError, match=r"^\S+dog/3\.png: neither JPEG"), clear_errors():
        list(dataset)


def test_check_data_lists_bad_files_and_counts(folder):
    (folder / "dog/3.png").write_bytes(b"nonsense")
    (folder / "cat/0.png").write_bytes(b"")
    seen = []
    report = check_data(folder, progress=lambda done, total: seen.append((done, total)))
    assert report.counts == {"all": {"cat": 6, "dog": 6}}
    assert [p.partition(": ")[0] for p in report.problems] == [
        str(folder / "cat/0.png"),
        str(folder / "dog/3.png"),
    ]
    assert seen[-1] == (12, 12)


def test_check_data_finds_duplicates_across_splits(folder, tmp_path, save_image):
    for split in ("train", "test"):
        shutil.copytree(folder, tmp_path / "root" / split)
    for i in range(6):
        save_image(f"root/test/cat/{i}.png")
        save_image(f"root/test/dog/{i}.png")
    assert check_data(tmp_path / "root").problems == []
    shutil.copy(tmp_path / "root/train/cat/2.png", tmp_path / "root/test/dog/5.png")
    (problem,) = check_data(tmp_path / "root").problems
    assert "test/dog/5.png: the same file as" in problem
    assert "train/cat/2.png" in problem


def test_strict_check_data(folder):
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    from PIL import Image

    path = folder / "cat/damaged.jpg"
    Image.fromarray(image).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :][:64] = bytes(64)
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(range(64))
    path.write_bytes(data)
    assert check_data(folder).problems == []
    assert "damaged.jpg" in check_data(folder, strict=True).problems[0]
