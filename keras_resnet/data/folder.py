"""Folders of class folders: which files, which classes, which splits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from keras_resnet.data.contents import (
    HIDDEN_FOLDER,
    LEFT_OUT,
    LOST,
    NOTES,
    OUTSIDE,
    SUFFIXES,
    UNSUPPORTED,
    Unused,
    entries,
    is_folder,
    is_hidden,
    why_not,
)
from keras_resnet.data.decode import show
from keras_resnet.data.errors import DataError
from keras_resnet.data.layout import Top, decide_layout, split_of, split_order, splits_of
from keras_resnet.data.names import canonical

# Nobody sorts images like this, and Python ends at about a thousand calls in each other.
_DEEPEST = 100


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


def open_folder(root: str, layout: str | None = None, unused: Unused | None = None) -> dict[str, Folder]:
    """Find the images of a folder.

    ``root/<class>/...`` is one split, called "all". ``root/<split>/<class>/...`` are as many splits, which
    must have the same classes; see `keras_resnet.data.layout.split_of` for their names. Images may lie
    in folders below the class folder. Symbolic links are followed. Files are used by their ending or, if
    that is not known, by their content.

    Args:
        root: The folder.
        layout: "splits" or "classes": what the folders in it are. None decides by their names and contents.
        unused: Where to count files that are not used.

    Returns:
        The splits, first "train", then those for validation, then "test".

    Raises:
        DataError: no such folder, no images, an empty class, folders that could be splits or classes, class
            names that differ only by case or between splits, unsupported image formats, loops of links.
    """
    if not os.path.isdir(root):
        raise DataError(f"{show(root)}: there is no such folder.")
    unused = Unused() if unused is None else unused
    folders = _folders(root, unused)
    if not folders:
        raise DataError(f"{show(root)}: no class folders; expected {show(root)}/<class>/<image>.")
    tops = {entry.name: _look(entry.path) for entry in folders}
    if decide_layout(show(root), tops, layout) == "classes":
        return {"all": _scan(root, folders, unused)}
    return _scan_splits(root, folders, tops, unused)


def _look(path):
    """What is directly in a folder."""
    found = [entry for entry in entries(path) if not is_hidden(entry)]
    folders = tuple(entry.name for entry in found if is_folder(entry))
    images = (not is_folder(entry) and why_not(entry) in (None, UNSUPPORTED) for entry in found)
    return Top(any(images), folders)


def _scan_splits(root, folders, tops, unused):
    places: dict[str, str] = {}
    names = splits_of(tops)
    for entry in folders:
        name = names[entry.name]
        if name is None or not tops[entry.name].folders:
            for path in image_files(entry.path, unsupported=True):
                unused.add(path, LEFT_OUT)
        elif name in places:
            other = os.path.basename(places[name])
            raise DataError(f"{show(root)}: {other!r} and {entry.name!r} are both the split {name!r}.")
        else:
            places[name] = entry.path
    if not places:
        raise DataError(f"{show(root)}: no folder in it has the name of a split and holds class folders.")
    splits = {}
    for name in sorted(places, key=split_order):
        place = _within(places[name], name)
        splits[name] = _scan(place, _folders(place, unused), unused)
    _check_agreement(root, splits)
    return splits


def _within(path, split):
    """The folder of a split, or the one of the same name in it: archives often hold both."""
    top = _look(path)
    same = (split_of(name) == split or name == os.path.basename(path) for name in top.folders)
    if len(top.folders) == 1 and not top.has_images and all(same):
        inner = os.path.join(path, top.folders[0])
        return inner if _look(inner).folders else path
    return path


def _check_agreement(root, splits):
    first, *others = splits
    for name in others:
        if difference := set(splits[name].class_names) ^ set(splits[first].class_names):
            listed = ", ".join(map(repr, sorted(difference)[:10]))
            raise DataError(f"{show(root)}: the classes of {first!r} and {name!r} differ: {listed}.")


def _folders(root, unused):
    """The visible folders in `root`; counts the files next to them."""
    folders = []
    for entry in entries(root):
        if is_folder(entry):
            if is_hidden(entry):
                unused.add(entry.path, HIDDEN_FOLDER)
            else:
                folders.append(entry)
            continue
        reason = why_not(entry)
        if reason == LOST:
            raise DataError(f"{show(entry.path)}: {LOST}; a class may be missing.")
        unused.add(entry.path, OUTSIDE if reason in (None, UNSUPPORTED) else NOTES)
    return folders


def _scan(root, folders, unused):
    classes = sorted(folders, key=lambda entry: canonical(entry.name))
    _check_names(root, [entry.name for entry in classes])
    paths, labels = [], []
    for label, entry in enumerate(classes):
        missed = Unused()
        images = sorted(image_files(entry.path, (os.path.realpath(root),), unused=missed))
        if not images:
            why = "; ".join(missed.lines()) or f"expected files that end in {' '.join(SUFFIXES)}"
            raise DataError(f"{show(entry.path)}: the class folder has no images: {why}.")
        for folder, reasons in missed.counts.items():
            unused.counts[folder] = reasons
        paths += images
        labels += [label] * len(images)
    return Folder(paths, labels, tuple(canonical(entry.name) for entry in classes))


def image_files(
    folder: str, parents: tuple[str, ...] = (), *, unsupported: bool = False, unused: Unused | None = None
) -> Iterator[str]:
    """The image files in and below a folder; `parents` are the real paths of those above it.

    Images of unsupported formats are an error, or with `unsupported` among the files. Files that are not
    used are counted in `unused`.
    """
    if os.path.realpath(folder) in parents:
        raise DataError(f"{show(folder)}: a link to a folder that contains it.")
    parents = (*parents, os.path.realpath(folder))
    if len(parents) > _DEEPEST:
        raise DataError(f"{show(folder)}: more than {_DEEPEST} folders below each other.")
    for entry in entries(folder):
        if is_folder(entry):
            if is_hidden(entry):
                if unused is not None:
                    unused.add(entry.path, HIDDEN_FOLDER)
                continue
            yield from image_files(entry.path, parents, unsupported=unsupported, unused=unused)
            continue
        reason = why_not(entry)
        if reason == UNSUPPORTED and not unsupported:
            raise DataError(f"{show(entry.path)}: this format is not supported; convert it to JPEG or PNG.")
        if reason in (None, UNSUPPORTED):
            yield entry.path
        elif unused is not None:
            unused.add(entry.path, reason)


def _check_names(root, names):
    seen: dict[str, str] = {}
    for name in names:
        if not canonical(name).isprintable() or not canonical(name):
            raise DataError(f"{show(os.path.join(root, name))}: a class name must be printable Unicode text.")
        if other := seen.get(canonical(name).casefold()):
            how = "are the same name" if canonical(name) == canonical(other) else "differ only by case"
            raise DataError(f"{show(root)}: the classes {other!r} and {name!r} {how}.")
        seen[canonical(name).casefold()] = name
