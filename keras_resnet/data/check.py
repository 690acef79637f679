"""Every image of a folder decoded once, and what is wrong with it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from keras_resnet.data.contents import Unused
from keras_resnet.data.decode import MAX_PIXELS, check_strictly, decode_image, read_file, show
from keras_resnet.data.errors import DataError
from keras_resnet.data.folder import open_folder
from keras_resnet.data.layout import refuse_layout
from keras_resnet.data.shards import check_shard, is_prepared, read_manifest
from keras_resnet.data.workers import threads


@dataclass(frozen=True)
class Report:
    """What `check_data` found.

    Attributes:
        counts: Images of each class of each split.
        problems: One line for each bad file, which begins with its path.
        unused: One line for each folder with files that are not used, with their number and the reasons.
    """

    counts: dict[str, dict[str, int]]
    problems: list[str]
    unused: list[str] = field(default_factory=list)


def check_data(
    root,
    *,
    strict: bool = False,
    layout: str | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Decode every image of a folder of class folders and list the bad ones.

    Of a folder that `prepare_tfrecords` wrote, the SHA-256 of every shard is compared with the manifest's.

    Args:
        root: The folder, with or without splits; see `make_dataset`.
        strict: Also list JPEGs with damage that decoders pass over; needs the extra "strict".
        layout: "splits" or "classes": what the folders in `root` are; see `make_dataset`.
        max_pixels: Images of more pixels are refused, and smaller ones that would take much more memory
            than so small a file should; by default 2**26 (64 Mpixel).
        progress: Called with (images done, images in all).

    Returns:
        The counts, the files that are not used, and the problems: files that cannot be decoded, and files
        with the same bytes as one of another split or class.

    Raises:
        DataError: the folder itself cannot be used.
    """
    if is_prepared(str(root)):
        refuse_layout(layout, show(root))
        return _check_shards(str(root), progress)
    unused = Unused()
    splits = open_folder(str(root), layout, unused)
    files = [
        (path, split, folder.class_names[label])
        for split, folder in splits.items()
        for path, label in zip(folder.paths, folder.labels, strict=True)
    ]
    problems: list[str] = []
    first_of: dict[bytes, tuple[str, str, str]] = {}
    with threads() as pool:
        checks = pool.map(lambda file: _check_file(file[0], strict, max_pixels), files)
        for done, (file, (digest, problem)) in enumerate(zip(files, checks, strict=True), start=1):
            problem = problem or _compare(file, first_of.setdefault(digest, file))
            problems += [problem] if problem else []
            if progress:
                progress(done, len(files))
    counts = {}
    for split, folder in splits.items():
        labels = Counter(folder.labels)
        counts[split] = {name: labels[i] for i, name in enumerate(folder.class_names)}
    return Report(counts, problems, unused.lines())


def _compare(file, first):
    """What is wrong with two files of the same bytes, if anything."""
    (path, split, name), (other, other_split, other_name) = file, first
    differs = [f"split {other_split!r}"] if split != other_split else []
    differs += [f"class {other_name!r}"] if name != other_name else []
    return f"{show(path)}: the same file as {show(other)}, of {' and '.join(differs)}." if differs else None


def _check_shards(root, progress):
    classes, splits = read_manifest(root)
    shards = [shard for split in splits.values() for shard in split.shards]
    total = sum(shard.images for shard in shards)
    problems, done = [], 0
    with threads() as pool:
        checks = pool.map(lambda shard: check_shard(root, shard), shards)
        for shard, problem in zip(shards, checks, strict=True):
            problems += [problem] if problem else []
            done += shard.images
            if progress:
                progress(done, total)
    counts = {name: dict(zip(classes, split.counts, strict=True)) for name, split in splits.items()}
    return Report(counts, problems)


def _check_file(path, strict, max_pixels):
    try:
        data = read_file(path, max_pixels)
        decode_image(data, show(path), max_pixels=max_pixels)
        if strict:
            check_strictly(data, show(path))
    except DataError as error:
        return None, str(error)
    return hashlib.sha256(data).digest(), None
