"""`check-data`."""

from __future__ import annotations

import sys


def register(command):
    """Add the command."""
    add = command(
        "check-data", _check_data, "Decode a whole folder; list bad files and class counts."
    ).add_argument
    add("path", metavar="PATH")
    add("--strict", action="store_true", help="also find damage that decoders pass over (extra: strict)")


def _check_data(options):
    from keras_resnet.data.check import check_data

    def progress(done, total):
        if sys.stderr.isatty():
            print(f"\r{done}/{total} images", end="\n" if done == total else "", file=sys.stderr)

    report = check_data(options.path, strict=options.strict, progress=progress)
    for split, counts in report.counts.items():
        print(f"{split}: {sum(counts.values())} images, {len(counts)} classes")
        for name, count in counts.items():
            print(f"  {count:6d}  {name}")
    print(*report.problems, sep="\n")
    print(f"{len(report.problems)} bad files")
    return 1 if report.problems else 0
