"""What the folders at the top of a folder of images are: splits, or classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from keras_resnet.data.errors import DataError
from keras_resnet.data.names import canonical
from keras_resnet.nearest import suggest

LAYOUTS = ("splits", "classes")
TRAINING, VALIDATION, HELD_OUT, TEST = PURPOSES = ("training", "validation", "held out", "test")
# What people call a split: what we call it, and what it is for.
_WORDS = {
    **dict.fromkeys(("train", "training", "trn"), ("train", TRAINING)),
    **dict.fromkeys(("validation", "validate", "validating"), ("validation", VALIDATION)),
    "val": ("val", VALIDATION),
    "valid": ("valid", VALIDATION),
    **dict.fromkeys(("dev", "devel", "development"), ("dev", VALIDATION)),
    **dict.fromkeys(("eval", "evaluation", "evaluate"), ("eval", VALIDATION)),
    **dict.fromkeys(("heldout", "holdout"), ("held_out", HELD_OUT)),
    **dict.fromkeys(("test", "testing", "tst"), ("test", TEST)),
}
_AFFIX = (
    r"(?:\d+|data|sets?|images?|imgs?|photos?|pictures?|pics?|split|seg|samples?|folder|dir|ilsvrc|cropped|"
    "resized|original|orig|raw|final|new|my|the|x)"
)
_NAME = re.compile(rf"{_AFFIX}*?({'|'.join(sorted(_WORDS, key=len, reverse=True))}){_AFFIX}*")
_PURPOSE_OF = dict(_WORDS.values())


def split_of(name: str) -> str | None:
    """The split that a folder's name says, such as "train" for ``Training`` and ``seg_train``.

    Case, separators and the usual affixes do not matter.

    Returns:
        "train", "val", "valid", "validation", "dev", "eval", "held_out" or "test"; None for any other name.
    """
    letters = re.sub(r"[\W_]+", "", canonical(name).casefold())
    found = _NAME.fullmatch(letters)
    return _WORDS[found[1]][0] if found else None


def splits_of(names: Iterable[str]) -> dict[str, str | None]:
    """`split_of` each of the folders in one place; whatever else all of the names share does not matter.

    Example:
        >>> splits_of(["pets_train", "pets_test"])
        {'pets_train': 'train', 'pets_test': 'test'}
    """
    found = {name: split_of(name) for name in names}
    if any(found.values()) or len(found) < 2:
        return found
    words = {name: re.split(r"[\W_]+", canonical(name).casefold()) for name in found}
    said = {name: [split for word in own if (split := split_of(word))] for name, own in words.items()}
    rest = {tuple(word for word in own if not split_of(word)) for own in words.values()}
    if len(rest) > 1 or any(len(own) != 1 for own in said.values()):
        return found
    return {name: own[0] for name, own in said.items()}


def find_split(asked: str, splits: Iterable[str]) -> str | None:
    """Which of the splits is meant: that of this name, or else the only one for the same purpose.

    "held_out" means the first validation split, or else the first test split.
    """
    splits = list(splits)
    if asked in splits:
        return asked
    if asked == "held_out":
        rest = [name for name in splits if _purpose_of(name) in (VALIDATION, TEST)]
        return min(rest, key=split_order, default=None)
    for meaning in (split_of, _purpose_of):
        alike = [name for name in splits if meaning(name) and meaning(name) == meaning(asked)]
        if len(alike) == 1:
            return alike[0]
    return None


def no_split(root: str, asked: str, splits: Iterable[str], choices: Iterable[str]) -> DataError:
    """The error for a split that the data in `root` do not have."""
    if find_split(asked, ["train"]):
        return DataError(f"{root} has no images for training; its splits are {_listed(splits)}.")
    hint = suggest(asked, choices, f"choose one of {', '.join(sorted(choices))}.")
    return DataError(f"{root} has no split {asked!r}; {hint}")


def split_order(split: str) -> tuple[int, int]:
    """A key that sorts splits: training, validation, test."""
    return PURPOSES.index(_purpose_of(split)), list(_PURPOSE_OF).index(split_of(split))


def _purpose_of(name):
    return _PURPOSE_OF.get(split_of(name))


@dataclass(frozen=True)
class Top:
    """A folder at the top, by what it holds itself.

    Attributes:
        has_images: There are images in it, not only in folders below it.
        folders: Names of the folders in it.
    """

    has_images: bool
    folders: tuple[str, ...]


def decide_layout(root: str, tops: Mapping[str, Top], layout: str | None = None) -> str:
    """Whether the folders in `root` are splits or classes.

    They are splits if all have names of splits and hold class folders. They are classes if none has such
    a name, or if those that have hold images themselves, as their neighbors do.

    Args:
        root: The folder, as errors call it.
        tops: The folders in it.
        layout: "splits" or "classes" instead of a decision; None to decide.

    Raises:
        DataError: the folders can be read in both ways, or in none; the message says how to choose.
    """
    if layout is not None:
        return check_layout(layout)
    splits = splits_of(tops)
    named = {name: top for name, top in tops.items() if splits[name]}
    others = [name for name in tops if name not in named]
    if named and not others:
        if all(top.folders for top in named.values()):
            return "splits"
        bare = _listed(name for name, top in named.items() if not top.folders)
        raise DataError(
            f"{root}: there are no class folders in {bare}; expected {root}/<split>/<class>/<image>. "
            f'layout="splits" leaves {bare} out, layout="classes" reads {_listed(tops)} as classes.'
        )
    if named and not all(top.has_images for top in named.values()):
        raise DataError(
            f"{root}: {_listed(named)} could be splits, but not {_listed(others)}; "
            f'layout="splits" reads the classes in {_listed(named)} and leaves out {_listed(others)}, '
            f'layout="classes" reads all {len(tops)} folders as classes.'
        )
    _check_below(root, tops)
    return "classes"


def check_layout(layout: str | None) -> str | None:
    """The layout, or a `DataError` if it is neither None nor one of `LAYOUTS`."""
    if layout is not None and layout not in LAYOUTS:
        raise DataError(f"layout={layout!r} is unknown; choose one of {LAYOUTS}, or None to decide.")
    return layout


def refuse_layout(layout: str | None, data: str) -> None:
    """Raise `DataError` if a layout is given for `data` that are no folder of images."""
    if check_layout(layout) is not None:
        raise DataError(f"layout={layout!r} is for folders of images; {data} has its own splits.")


def _check_below(root, tops):
    """Refuse classes that most likely are something else: a folder around it all, or splits in disguise."""
    inner = {name: top.folders for name, top in tops.items() if top.folders and not top.has_images}
    for name, folders in inner.items():
        if len(tops) == 1:
            raise DataError(
                f"{root}: holds one folder, {name!r}, which holds no images itself; give {root}/{name}, or "
                f'layout="classes" if {name!r} is the only class.'
            )
        if all(map(split_of, folders)):
            raise DataError(
                f"{root}: {name!r} holds {_listed(folders)}; splits are expected above the classes, as "
                f'{root}/<split>/<class>/<image>. layout="classes" reads all below {name!r} as one class.'
            )
    names = set(map(frozenset, inner.values()))
    if len(inner) == len(tops) and len(names) == 1 and len(min(names)) > 1:
        raise DataError(
            f"{root}: {_listed(tops)} hold the same folders, {_listed(sorted(min(names)))}. If they are "
            f'splits, call them train, val or test; layout="classes" reads each of them as one class.'
        )
    words = [{split_of(word) for word in re.split(r"[\W_]+", name)} - {None} for name in tops]
    if all(words) and len({_PURPOSE_OF[word] for own in words for word in own}) > 1:
        raise DataError(
            f"{root}: {_listed(tops)} name a split and a class; expected {root}/<split>/<class>/<image>. "
            'layout="classes" reads each of them as one class.'
        )


def _listed(names):
    names = list(names)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more
