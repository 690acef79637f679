"""Held-out images of a folder: by content, stable, and copies on one side."""

import shutil

import pytest

from keras_resnet import DataError, check_data, make_dataset
from keras_resnet.data.folder import open_folder
from keras_resnet.data.holdout import hold_out

# Files whose content is one of these numbers are held out.
HELD = [5, 9, 16, 28, 30]


def fill(root, name, contents):
    (root / name).mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(contents):
        (root / name / f"{i:04d}.png").write_bytes(str(content).encode())


def sides(root):
    """``{class/file: held out?}``"""
    whole = open_folder(str(root))["all"]
    parts = {held: hold_out(whole, held) for held in (False, True)}
    assert sorted(parts[False].paths + parts[True].paths) == sorted(whole.paths)
    for part in parts.values():
        assert part.class_names == whole.class_names
        assert all(f"/{part.class_names[y]}/" in p for p, y in zip(part.paths, part.labels, strict=True))
    return {"/".join(p.split("/")[-2:]): held for held, part in parts.items() for p in part.paths}


def test_about_a_fifth(tmp_path):
    for name in "ab":
        fill(tmp_path, name, (f"{name}{i}" for i in range(500)))
    for name in "ab":
        assert 75 <= sum(held for path, held in sides(tmp_path).items() if path[0] == name) <= 125


def test_the_choice_is_that_of_every_machine_and_version(tmp_path):
    """Whoever changes this moves held-out images of every folder into the training."""
    fill(tmp_path, "a", range(40))
    assert [int(path[2:6]) for path, held in sides(tmp_path).items() if held] == HELD


def test_additions_removals_and_names_move_no_other_image(tmp_path):
    fill(tmp_path, "a", range(60))
    fill(tmp_path, "b", range(1000, 1060))
    before = sides(tmp_path)
    for i in range(40):
        # In front of all, between and after them.
        (tmp_path / "a" / f"{'%mz'[i % 3]}{i}.jpg").write_bytes(b"new %d" % i)
    after = sides(tmp_path)
    assert {path: after[path] for path in before} == before
    (tmp_path / "a/0007.png").unlink()
    (tmp_path / "b/0003.png").rename(tmp_path / "b/another name.JPEG")
    (tmp_path / "b").rename(tmp_path / "c")
    last = sides(tmp_path)
    assert "a/0007.png" not in last
    assert last["c/another name.JPEG"] == before["b/0003.png"]
    assert all(last[p] == held for p, held in before.items() if p in last)


@pytest.mark.parametrize("count", range(2, 9))
def test_small_classes_have_images_on_both_sides_and_move_at_most_one(tmp_path, count):
    for name in range(20):
        fill(tmp_path, f"{name:02d}", (f"{name} {i}" for i in range(count)))
    before = sides(tmp_path)
    for name in range(20):
        assert {held for path, held in before.items() if path.startswith(f"{name:02d}/")} == {False, True}
        (tmp_path / f"{name:02d}" / "0.png").write_bytes(f"{name} more".encode())
    after = sides(tmp_path)
    moved = [path[:2] for path in before if before[path] != after[path]]
    assert len(moved) == len(set(moved))


def test_copies_are_on_the_same_side(tmp_path):
    fill(tmp_path, "a", range(30))
    fill(tmp_path, "b", range(1000, 1030))
    before = sides(tmp_path)
    for i in range(30):
        shutil.copy(tmp_path / f"a/{i:04d}.png", tmp_path / f"a/copy {i}.jpg")
        shutil.copy(tmp_path / f"a/{i:04d}.png", tmp_path / f"b/other {i}.png")
    after = sides(tmp_path)
    assert {path: after[path] for path in before} == before
    for i in range(30):
        assert after[f"a/{i:04d}.png"] == after[f"a/copy {i}.jpg"] == after[f"b/other {i}.png"]


def test_large_files_that_differ_in_one_byte(tmp_path):
    """Of a large file some blocks are read; where they agree, everything is."""
    fill(tmp_path, "a", ["x" * 1_000_000, "x" * 100_000 + "y" + "x" * 899_999])
    assert sorted(sides(tmp_path).values()) == [False, True]


def test_class_of_copies_is_refused(tmp_path):
    fill(tmp_path, "a", [1, 1, 1])
    fill(tmp_path, "b", range(4))
    with pytest.raises(DataError, match=r"class 'a' has one image in 3 copies \(\S+a/0000\.png\)"):
        make_dataset(tmp_path)


def test_classes_of_the_same_files_are_refused_if_they_cannot_be_divided(tmp_path):
    for name in "abc":
        fill(tmp_path, name, HELD[:2])
    assert len(sides(tmp_path)) == 6
    fill(tmp_path, "a", [HELD[2], HELD[3]])
    fill(tmp_path, "b", [HELD[3], HELD[4]])
    fill(tmp_path, "c", [HELD[2], HELD[4]])
    with pytest.raises(DataError, match="class '.' has the same files as other classes; "):
        make_dataset(tmp_path)


def test_check_data_finds_the_same_bytes_under_two_classes_and_in_two_splits(folder, tmp_path, save_image):
    assert check_data(folder).problems == []
    shutil.copy(folder / "cat/1.png", folder / "dog/9.png")
    shutil.copy(folder / "cat/1.png", folder / "cat/9.png")  # a copy in its own class harms nobody
    (problem,) = check_data(folder).problems
    assert problem == f"{folder}/dog/9.png: the same file as {folder}/cat/1.png, of class 'cat'."
    (folder / "dog/9.png").unlink()
    for split, numbers in {"train": range(6), "val": range(6, 8)}.items():
        for name in ("cat", "dog"):
            for i in numbers:
                save_image(f"root/{split}/{name}/{i}.png")
    root = tmp_path / "root"
    shutil.copy(root / "train/cat/1.png", root / "val/cat/9.png")
    shutil.copy(root / "train/cat/1.png", root / "val/dog/9.png")
    assert check_data(root).problems == [
        f"{root}/val/cat/9.png: the same file as {root}/train/cat/1.png, of split 'train'.",
        f"{root}/val/dog/9.png: the same file as {root}/train/cat/1.png, of split 'train' and class 'cat'.",
    ]
