"""Write the tables of variants and records into README.md and docs/reference, between their markers.

From the table of variants, `tests/golden/parameters.json` and the records; nothing is built:

    python tools/make_tables.py
"""

import contextlib
import json
import re
from pathlib import Path

from keras_resnet import VARIANTS, get_record, list_records
from keras_resnet.weights.records import DATASETS, best_record

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = json.loads((ROOT / "tests/golden/parameters.json").read_text())
# Families: how they are called, what stands in the blank, and what they are.
FAMILIES = [
    ("resnet{}", r"\d+[cdst]?", "timm and torchvision"),
    ("{}", "resnet50_gn|senet154|test_resnet", "group norm; SENet; timm's smallest"),
    ("wide_resnet{}_2", r"\d+", "bottlenecks of twice the width"),
    ("resnext{}", r"\d+d?_\d+x\d+d", "grouped convolutions"),
    ("seresnet{}", r"\d+[dt]?", "squeeze-and-excitation"),
    ("seresnext{}", r"\d+[dt]?_\d+x\d+d", ""),
    ("ecaresnet{}", r"light|\d+[dt](_pruned)?", "efficient channel attention"),
    ("ecaresnext{}", r"\d+t_\d+x\d+d", ""),
    ("resnetblur{}", r"\d+d?", "blur pooling"),
    ("resnetaa{}", r"\d+d?", "average pooling"),
    ("seresnetaa{}", r"\d+d", ""),
    ("seresnextaa{}", r"\d+d_\d+x\d+d", ""),
    ("resnetrs{}", r"\d+", "ResNet-RS"),
    ("resnetv2_{}", r"\d+[dt]?(_gn)?", "preactivation, timm"),
    ("resnetv2_{}_bit", r"\d+x\d", "Big Transfer"),
    ("resnet{}v1", r"\d+", "keras.applications"),
    ("resnet{}v2_keras", r"\d+", ""),
    ("resnet{}_cifar", r"\d+", "the papers' CIFAR networks"),
    ("preresnet{}_cifar", r"\d+", ""),
    ("wrn{}_cifar", r"\d+_\d+", ""),
    ("resnext29_{}_cifar", r"\d+x\d+d", ""),
]


def main():
    """Write them all."""
    for path, name, table in tables():
        path.write_text(with_table(path.read_text(), name, table))
        print(f"{path}: {name}")


def tables():
    """All tables as ``(file, name, text)``."""
    reference = ROOT / "docs/reference"
    return [
        (ROOT / "README.md", "families", families()),
        (reference / "variants.md", "variants", variants()),
        (reference / "records.md", "records", records()),
    ]


def with_table(text, name, table):
    """The page with another table between ``<!-- table: name -->`` and ``<!-- end -->``."""
    begin, end = f"<!-- table: {name} -->", "<!-- end -->"
    before, found, rest = text.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"there are no lines {begin} and {end}.")
    return f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"


def families():
    """One row for each family: its members, and the range of their figures."""
    rows = []
    for pattern, blank, what in FAMILIES:
        members = members_of(pattern, blank)
        names = [pattern.format(word) for word in members]
        parameters, macs = ([GOLDEN[name][i] for name in names] for i in (0, 2))
        found = [best.top1 for name in names if (best := best_of(name))]
        rows.append(
            [
                f"`{pattern}`", " ".join(members), what, span(parameters, 1e6), span(macs, 1e9),
                f"{max(found):.1f}" if found else "", sum(len(list_records(n)) for n in names) or "",
            ]
        )  # fmt: skip
    return markdown("name | with | | M parameters | GMACs | top-1 | records", rows, "lll rrrr")


def members_of(pattern, blank):
    """What stands in the blank of a family's names, in the order of the table of variants."""
    before, after = map(re.escape, pattern.split("{}"))
    matches = (re.fullmatch(f"{before}({blank}){after}", name) for name in VARIANTS)
    return [match[1] for match in matches if match]


def variants():
    """One row for each variant."""
    rows = []
    for name, row in VARIANTS.items():
        parameters, _, macs = GOLDEN[name]
        best = best_of(name)
        rows.append(
            [
                f"`build_{name}`", row.image_size, f"{parameters:,}", f"{macs / 1e9:.3g}",
                f"{best.top1:.2f} at {best.transform.size}" if best else "", f"`{best.name}`" if best else "",
                len(list_records(name)) or "",
            ]
        )  # fmt: skip
    return markdown("builder | input | parameters | GMACs | top-1 | of | records", rows, "lrrr llr")


def records():
    """One row for each record."""
    rows = []
    for record in map(get_record, list_records()):
        top1 = "" if record.top1 is None else f"{record.top1:.2f}"
        licence = record.licence + ("" if record.commercial else " (not commercial)")
        rows.append(
            [
                f"`{record.name}`",
                f"`{record.variant}`",
                top1,
                record.transform.size,
                f"{record.num_classes:,}",
                licence,
            ]
        )
    return markdown("record | variant | top-1 | at px | classes | licence", rows, "llrrrl")


def best_of(name):
    """The record that ``weights="imagenet"`` means, or else "cifar10", or ``None``."""
    for data in DATASETS:
        with contextlib.suppress(ValueError):
            return best_record(name, data)
    return None


def span(values, unit):
    """The smallest and the largest, in a unit."""
    low, high = (f"{value / unit:.3g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def markdown(head, rows, sides):
    """A table whose columns are aligned left (l) or right (r)."""
    rule = [{"l": ":--", "r": "--:"}[side] for side in sides.replace(" ", "")]
    lines = [head.split(" | "), rule, *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
