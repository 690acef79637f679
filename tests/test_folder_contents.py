"""Files in folders: which are images, which are not used, and who says so."""

import json
import os
import shutil
import warnings

import pytest
from PIL import Image

from keras_resnet import DataError, check_data, make_dataset, prepare_tfrecords
from keras_resnet.cli import main
from keras_resnet.data.folder import image_files, open_folder

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
NAMES = ("noending", "1234", "a.jpg_large", "photo.jpeg?w=300", "b.JPG~", "image.php", "c.dat", "x.txt")


@pytest.mark.parametrize("form", FORMATS)
def test_images_are_known_by_their_content(folder, form):
    for name in NAMES:
        Image.new("RGB", (5, 4), "red").save(folder / "cat" / name, form)
    found = open_folder(str(folder))["all"]
    assert len(found.paths) == 12 + len(NAMES)
    batches = list(make_dataset(folder, "all", training=False, image_size=8).as_numpy_iterator())
    assert sum(len(labels) for _, labels in batches) == 12 + len(NAMES)
    assert check_data(folder).unused == []


OTHERS = {
    "notes.txt": b"BMW and other cars, which begins as a bitmap does",
    "labels.csv": b"a,b\n",
    "empty": b"",
    "clip.mp4": b"\0\0\0\x18ftypmp42",
    "song.wav": b"RIFF\0\0\0\0WAVEfmt ",
    "more.zip": b"PK\3\4",
}


def test_files_that_are_not_used_are_counted_by_folder(folder):
    (folder / "dog/deep").mkdir()
    for name, content in OTHERS.items():
        (folder / "cat" / name).write_bytes(content)
        (folder / "dog/deep" / name).write_bytes(content)
    shutil.copy(folder / "cat/1.png", folder / "cat/.hidden.png")
    (folder / "dog/.cache").mkdir()
    os.mkfifo(folder / "dog/pipe.jpg")
    (folder / "cat/gone").symlink_to("nowhere")
    shutil.copy(folder / "cat/1.png", folder / "loose.png")
    (folder / "README").write_text("x")
    report = check_data(folder)
    assert report.unused == [
        f"{folder}: 2 files are not used (1 next to the class folders, 1 outside the class folders)",
        f"{folder}/cat: 8 files are not used (1 hidden, 6 not an image, 1 a link to nothing)",
        f"{folder}/dog: 2 files are not used (1 hidden folder, 1 not a regular file)",
        f"{folder}/dog/deep: 6 files are not used (6 not an image)",
    ]
    assert (report.counts, report.problems) == ({"all": {"cat": 6, "dog": 6}}, [])
    with pytest.warns(UserWarning, match="not used") as caught:
        assert make_dataset(folder, "all", training=False).num_examples == 12
    (line,) = (str(warning.message) for warning in caught)
    assert caught[0].filename == __file__
    # A README next to the class folders is nothing to warn of.
    assert "hidden folder" not in line
    assert line.startswith(
        f"{folder}: 1 file is not used (1 outside the class folders); {folder}/cat: 8 files"
    )
    with pytest.warns(UserWarning, match="1 file is not used"):
        prepare_tfrecords(folder, folder.parent / "shards")


def test_only_some_folders_are_in_the_warning(save_image, tmp_path):
    for i in range(8):
        for j in range(3):
            save_image(f"root/{i}/{j}.png")
        (tmp_path / f"root/{i}/notes").write_text("x")
    with pytest.warns(UserWarning, match=r"; and in 3 more folders: `keras-resnet check-data` lists all\.$"):
        make_dataset(tmp_path / "root", "all")
    assert len(check_data(tmp_path / "root").unused) == 8


def test_what_systems_leave_behind_is_nothing_to_speak_of(folder):
    for place in (folder, folder / "cat"):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.png"):
            (place / name).write_bytes(b"x")
        for name in ("@eaDir", "__MACOSX", ".ipynb_checkpoints", "lost+found"):
            shutil.copytree(folder / "dog", place / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_dataset(folder, "all").class_names == ("cat", "dog")
    assert check_data(folder).unused == []


BAD = {
    "only other files": (
        lambda f: [p.unlink() for p in (f / "cat").iterdir()] + [(f / "cat/1.txt").write_text("x")],
        r"cat: the class folder has no images: .*cat: 1 file is not used \(1 not an image\)\.$",
    ),
    "only hidden": (
        lambda f: [p.rename(p.with_name("." + p.name)) for p in (f / "cat").iterdir()],
        r"cat: the class folder has no images: .* \(6 hidden\)\.$",
    ),
    "empty": (lambda f: (f / "emu").mkdir(), "emu: the class folder has no images: expected files that end"),
    "lost class": (lambda f: (f / "emu").symlink_to(f / "gone"), "emu: a link to nothing; a class may be"),
    "TIFF by content": (
        lambda f: (f / "cat/scan").write_bytes(b"II*\0"),
        "scan: this format is not supported",
    ),
    "HEIC by content": (
        lambda f: (f / "cat/IMG_1").write_bytes(bytes(4) + b"ftypheic"),
        "IMG_1: this format is not supported",
    ),
    "loop": (lambda f: (f / "cat/up").symlink_to(f), "cat/up: a link to a folder that contains it"),
    "loop at the top": (lambda f: (f / "up").symlink_to(f), "images/up: a link to a folder that contains it"),
    "deep": (
        lambda f: os.makedirs(f / "cat" / "/".join("a" * 300)),
        "more than 100 folders below each other",
    ),
    "space": (lambda f: shutil.copytree(f / "cat", f / "cat "), "'cat' and 'cat ' are the same name"),
    "blank": (lambda f: (f / "dog").rename(f / " "), "a class name must be printable"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folder_is_one_line(folder, case):
    breaks, message = BAD[case]
    breaks(folder)
    with pytest.raises(DataError, match=message) as caught:
        make_dataset(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_link_to_a_lost_image_is_a_bad_file(folder):
    (folder / "cat/lost.jpg").symlink_to("nowhere.jpg")
    (problem,) = check_data(folder).problems
    assert problem == f"{folder}/cat/lost.jpg: cannot be read: No such file or directory"


def test_folder_of_predict_has_the_same_images(folder):
    Image.new("RGB", (4, 4)).save(folder / "cat/noending", "PNG")
    (folder / "cat/1.txt").write_text("x")
    (folder / "cat/1.tif").write_bytes(b"II*\0")
    os.mkfifo(folder / "cat/pipe.png")
    found = [os.path.basename(path) for path in image_files(str(folder / "cat"), unsupported=True)]
    assert found == ["0.png", "1.png", "1.tif", "2.png", "3.png", "4.png", "5.png", "noending"]


def test_files_named_as_a_split(folder, tmp_path):
    root = tmp_path / "root"
    for split in ("train", "test"):
        shutil.copytree(folder, root / split)
        (root / f"{split}.csv").write_text("x")
    (root / "val").write_text("cat/1.png\n")
    assert list(open_folder(str(root))) == ["train", "test"]
    assert len(check_data(root).unused) == 1


def test_commands_say_what_is_not_used_and_take_a_layout(folder, capsys):
    (folder / "cat/1.txt").write_text("x")
    shutil.copytree(folder / "cat", folder / "train/cat")
    assert main(["check-data", str(folder)]) == 2
    assert 'layout="classes" reads all 3 folders as classes' in capsys.readouterr().err
    assert main(["check-data", str(folder), "--layout", "classes", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"all": {"cat": 6, "dog": 6, "train": 6}}
    assert found["unused"] == [
        f"{folder}/cat: 1 file is not used (1 not an image)",
        f"{folder}/train/cat: 1 file is not used (1 not an image)",
    ]
    assert len(found["problems"]) == 6
    assert main(["check-data", str(folder), "--layout", "splits"]) == 0
    assert "train: 6 images, 1 classes" in capsys.readouterr().out
