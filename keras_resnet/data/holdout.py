"""Which images of a folder without a validation split are held out."""

from __future__ import annotations

import hashlib
import itertools
import os

from keras_resnet.data.decode import show
from keras_resnet.data.errors import DataError
from keras_resnet.data.folder import Folder
from keras_resnet.data.layout import find_split, no_split
from keras_resnet.data.workers import threads

PARTS = 5
# Files up to this size are read as a whole; of larger ones as much, in blocks spread over the file.
_READ = 64 * 1024
_BLOCKS = 16
_GROUP = 32


def choose_split(root: str, splits: dict[str, Folder], split: str) -> Folder:
    """The images of one split of what `open_folder` found, or a held-out part if there is none for that.

    Raises:
        DataError: there is no such split, or a class has only one image to divide.
    """
    whole = splits.get("all") or (splits.get("train") if len(splits) == 1 else None)
    if whole is not None and split in ("train", "held_out"):
        return hold_out(whole, split == "held_out")
    if name := find_split(split, splits):
        return splits[name]
    more = ["train", "held_out"] if whole else ["held_out"]
    raise no_split(show(root), split, splits, {*splits, *more})


def hold_out(folder: Folder, held_out: bool) -> Folder:
    """The held-out images, about a fifth, or all the others.

    A hash of each file's content decides, so that adding, removing or renaming files moves no other image,
    and copies of a file stay together. In a class of which the hash would hold out none, or all, the image
    with the smallest hash is held out, or the one with the largest kept for training.

    Raises:
        DataError: a class has not two different images, or a file cannot be read.
    """
    # Many at a time: a task for each file costs more than to read it.
    groups = [folder.paths[i : i + _GROUP] for i in range(0, len(folder.paths), _GROUP)]
    with threads() as pool:
        marks = list(itertools.chain(*pool.map(lambda group: [*map(_mark, group)], groups)))
    classes: dict[int, list[int]] = {}
    for position, label in enumerate(folder.labels):
        classes.setdefault(label, []).append(position)
    for label, positions in classes.items():
        if len({marks[i] for i in positions}) < 2:
            # Images that differ only between the blocks, or copies of one.
            for i in positions:
                marks[i] = _mark(folder.paths[i], whole=True)
            _check_two(folder, label, positions, marks)
    held = _held(marks, classes)
    for label, positions in classes.items():
        if len({marks[i] in held for i in positions}) < 2:
            raise DataError(
                f"class {folder.class_names[label]!r} has the same files as other classes; "
                "`keras-resnet check-data` lists them."
            )
    return folder.take([i for i, mark in enumerate(marks) if (mark in held) == held_out])


def _held(marks, classes):
    held = {mark for mark in marks if int.from_bytes(mark) * PARTS < 256 ** len(mark)}
    for positions in classes.values():
        own = {marks[i] for i in positions}
        if not own & held:
            held.add(min(own))
        elif own <= held:
            held.discard(max(own))
    return held


def _check_two(folder, label, positions, marks):
    if len({marks[i] for i in positions}) < 2:
        copies = "" if len(positions) == 1 else f" in {len(positions)} copies"
        raise DataError(
            f"class {folder.class_names[label]!r} has one image{copies} "
            f"({show(folder.paths[positions[0]])}); two are needed."
        )


def _mark(path, whole=False):
    """A hash of a file's size and content."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            mark = hashlib.blake2b(b"%d " % size, digest_size=8)
            if whole or size <= _READ:
                mark.update(file.read())
            else:
                for block in range(_BLOCKS):
                    file.seek(block * (size - _READ // _BLOCKS) // (_BLOCKS - 1))
                    mark.update(file.read(_READ // _BLOCKS))
    except OSError as error:
        raise DataError(f"{show(path)}: cannot be read: {error.strerror or error}") from error
    return mark.digest()
