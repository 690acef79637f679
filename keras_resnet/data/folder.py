"""Folders of class folders: which files, which classes, which splits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from keras_resnet.data.decode import show
from keras_resnet.data.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp")
REFUSED = (".tif", ".tiff", ".heic", ".heif", ".avif", ".svg", ".jp2", ".psd")
SPLITS = ("train", "validation", "valid", "val", "test")


@dataclass(frozen=True)
class Folder:
    """The images of one split: `labels` are positions in `class_names`."""

    paths: list[str]
    labels: list[int]
    class_names: tuple[str, ...]

    def take(self, positions) -> Folder:
        """The same classes with the images at `positions` only."""
        return Folder(
            [self.paths[i] for i in positions], [self.labels[i] for i in positions], self.class_names
        )


def open_folder(root: str) -> dict[str, Folder]:
    """Find the images of a folder.

    ``root/<class>/...`` is one split, called "all". ``root/train/<class>/...`` beside
    ``root/val`` or ``root/test`` are as many splits, which must have the same classes.
    Images may lie in folders below the class folder. Hidden files and files with other
    endings than those of images are passed over; symbolic links are followed.

    Raises:
        DataError: no such folder, no images, an empty class, class names that differ only
            by case or between splits, unsupported image formats, loops of links.
    """
    if not os.path.isdir(root):
        raise DataError(f"{show(root)}: there is no such folder.")
    names = {entry.name for entry in _entries(root) if entry.is_dir()}
    found = [name for name in SPLITS if name in names]
    if "train" not in found:
        return {"all": _scan(root)}
    splits = {name: _scan(os.path.join(root, name)) for name in found}
    for name, folder in splits.items():
        if difference := set(folder.class_names) ^ set(splits["train"].class_names):
            listed = ", ".join(map(repr, sorted(difference)[:10]))
            raise DataError(f"{show(root)}: the classes of 'train' and {name!r} differ: {listed}.")
    return splits


def hold_out(folder: Folder, held_out: bool) -> Folder:
    """Every fifth image of each class, or all the others; a class needs two images."""
    by_class: dict[int, list[int]] = {}
    for position, label in enumerate(folder.labels):
        by_class.setdefault(label, []).append(position)
    chosen = []
    for label, positions in by_class.items():
        if len(positions) == 1:
            name = folder.class_names[label]
            raise DataError(
                f"class {name!r} has one image ({show(folder.paths[positions[0]])}); two are needed."
            )
        out = positions[4::5] or positions[-1:]
        chosen += out if held_out else sorted(set(positions) - set(out))
    return folder.take(chosen)


def _scan(root):
    classes = [entry for entry in _entries(root) if entry.is_dir() and not entry.name.startswith(".")]
    if not classes:
        raise DataError(f"{show(root)}: no class folders; expected {show(root)}/<class>/<image>.")
    _check_names(root, [entry.name for entry in classes])
    paths, labels = [], []
    for label, entry in enumerate(classes):
        images = sorted(image_files(entry.path))
        if not images:
            raise DataError(f"{show(entry.path)}: the class folder has no images ({' '.join(SUFFIXES)}).")
        paths += images
        labels += [label] * len(images)
    return Folder(paths, labels, tuple(entry.name for entry in classes))


def image_files(folder: str, parents: tuple[str, ...] = (), *, unsupported: bool = False) -> Iterator[str]:
    """The image files in and below a folder; `parents` are the real paths of those above it.

    Images of unsupported formats are an error, or with `unsupported` among the files.
    """
    parents = (*parents, os.path.realpath(folder))
    for entry in _entries(folder):
        name = entry.name.lower()
        if name.startswith("."):
            continue
        if _is_dir(entry):
            if os.path.realpath(entry.path) in parents:
                raise DataError(f"{show(entry.path)}: a link to a folder that contains it.")
            yield from image_files(entry.path, parents, unsupported=unsupported)
        elif name.endswith(REFUSED) and not unsupported:
            raise DataError(f"{show(entry.path)}: this format is not supported; convert it to JPEG or PNG.")
        elif name.endswith(SUFFIXES + REFUSED):
            yield entry.path


def _entries(folder):
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{show(folder)}: cannot be listed: {error.strerror}") from error


def _is_dir(entry):
    try:
        return entry.is_dir()
    except OSError as error:  # a link that leads to itself
        raise DataError(f"{show(entry.path)}: {error.strerror}") from error


def _check_names(root, names):
    seen: dict[str, str] = {}
    for name in names:
        if not name.isprintable():
            raise DataError(f"{show(os.path.join(root, name))}: a class name must be printable Unicode text.")
        if other := seen.get(name.casefold()):
            raise DataError(f"{show(root)}: the classes {other!r} and {name!r} differ only by case.")
        seen[name.casefold()] = name
