"""`check-data` and `prepare`."""

from __future__ import annotations

import sys

from keras_resnet.commands.options import (
    add_json,
    add_layout,
    add_max_pixels,
    max_pixels,
    positive,
    print_json,
)
from keras_resnet.printing import show


def register(command):
    """Add the commands."""
    add = command(
        "check-data",
        _check_data,
        "Decode a whole folder, or verify shards; list bad files and class counts.",
        "check-data photos",
        "check-data photos --strict",
        "check-data shards --json",
    ).add_argument
    add("path", metavar="PATH")
    add("--strict", action="store_true", help="also find damage that decoders pass over (extra: strict)")
    add_max_pixels(add)
    add_layout(add)
    add_json(add)
    add = command(
        "prepare",
        _prepare,
        "Write a folder of images as TFRecord shards.",
        "prepare photos shards",
        "prepare photos shards --short-side 320",
    ).add_argument
    add("folder", metavar="FOLDER", help="class folders, with or without train and val above them")
    add("out", metavar="OUT", help="a new folder, or one that was left unfinished")
    add("--short-side", type=positive, metavar="PIXELS", help="resize images whose short side is longer")
    add_max_pixels(add)
    add_layout(add)


def _prepare(options):
    from keras_resnet.data.prepare import prepare_tfrecords

    counts = prepare_tfrecords(
        options.folder, options.out, short_side=options.short_side, layout=options.layout,
        progress=_progress, **max_pixels(options),
    )  # fmt: skip
    print(*(f"{show(name)}: {count} images" for name, count in counts.items()), sep="\n")


def _progress(done, total):
    if sys.stderr.isatty():
        bar = "#" * (30 * done // total)
        end = "\n" if done == total else ""
        print(f"\r[{bar:30}] {done}/{total} images", end=end, file=sys.stderr, flush=True)


def _check_data(options):
    from dataclasses import asdict

    from keras_resnet.data.check import check_data

    report = check_data(
        options.path, strict=options.strict, layout=options.layout, progress=_progress, **max_pixels(options)
    )
    if options.json:
        print_json(options, {"path": options.path, **asdict(report)})
        return 1 if report.problems else 0
    for split, counts in report.counts.items():
        print(f"{show(split)}: {sum(counts.values())} images, {len(counts)} classes")
        for name, count in counts.items():
            print(f"  {count:6d}  {show(name)}")
    print(*map(show, (*report.unused, *report.problems)), sep="\n")
    print(f"{len(report.problems)} bad files")
    return 1 if report.problems else 0
