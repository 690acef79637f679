"""Draw docs/images/zoo.svg: ResNet-50 by stages, and what the published weights reach at which cost.

From the table of variants, the golden counts and the records:

    python tools/draw_zoo.py
"""

import json
import re

from drawing import FAINT, INK, ROOT, picture
from matplotlib.patches import Rectangle

from keras_resnet import VARIANTS, get_record, list_records

GOLDEN = json.loads((ROOT / "tests/golden/parameters.json").read_text())
# What the names of a family begin with, the first that fits; its colour.
FAMILIES = {
    "SE": ("se(net|resne)", "#f59e0b"),
    "ECA": ("ecaresne", "#ef4444"),
    "RS": ("resnetrs", "#22a559"),
    "V2 and BiT": (r"resnet(v2|\d+v2)", "#ec4899"),
    "ResNeXt": ("resnext", "#0ea5a4"),
    "wide": ("wide", "#a855f7"),
    "ResNet": ("", "#3b82f6"),
}
# Where the names of a few points stand, in printer's points beside them.
LABELS = {
    "resnet10t": (7, -3), "resnet18": (7, -4), "resnet34": (7, -6),
    "ecaresnet269d": (-30, 9), "seresnextaa101d_32x8d": (-112, -3), "resnetv2_152x4_bit": (-60, -14),
}  # fmt: skip
# The one network below is timm's for tests.
LOWEST = 66


def main():
    """Write the picture."""
    with picture("zoo.svg", 1, 2, figsize=(11, 4.2), width_ratios=(1, 1.25)) as (figure, (left, right)):
        draw_stages(left, "resnet50")
        draw_accuracy(right)
        figure.tight_layout(w_pad=3)


def draw_stages(axes, name):
    """One row for each part: a square as wide as the resolution, a bar for each block."""
    row = VARIANTS[name]
    axes.set_title(
        f"{name}: {GOLDEN[name][0] / 1e6:.1f} M parameters, {GOLDEN[name][2] / 1e9:.2f} GMACs", color=INK
    )
    side, y = row.image_size // row.stem_stride, 0
    parts = [("stem", f"conv 7x7, pool, {side} px", 1, row.stem_filters, "#94a3b8")]
    blues = ("#93c5fd", "#60a5fa", "#3b82f6", "#1d4ed8")
    for number, ((reps, filters), colour) in enumerate(zip(row.stages, blues, strict=True), start=1):
        channels = row.out_channels(filters)
        parts.append(
            (f"stage{number}", f"{reps} blocks, {channels} channels, {side} px", reps, channels, colour)
        )
        side //= 2
    parts.append(("head", f"pool, dense, {row.num_classes} classes", 1, row.num_classes, "#94a3b8"))
    for part, words, reps, channels, colour in parts:
        height = 0.28 + 0.42 * (channels / 2048) ** 0.5
        for i in range(reps):
            axes.add_patch(Rectangle((i * 0.62, y - height / 2), 0.5, height, color=colour, linewidth=0))
            if part.startswith("stage"):  # the shortcut
                bend = {
                    "arrowstyle": "-",
                    "connectionstyle": "arc3,rad=-0.55",
                    "color": INK,
                    "linewidth": 0.8,
                }
                start, end = (i * 0.62 - 0.03, y + height / 2), (i * 0.62 + 0.53, y + height / 2)
                axes.annotate("", end, start, arrowprops=bend)
        axes.text(-0.2, y, part, ha="right", va="center", family="monospace")
        axes.text(3.95, y, words, va="center", fontsize=9)
        y -= 1
    axes.set(xlim=(-1.3, 8.6), ylim=(y + 0.4, 0.7))
    axes.axis("off")


def draw_accuracy(axes):
    """The best published top-1 of each variant, at the size of its test, over its multiply-adds there."""
    for name in VARIANTS:
        records = [record for record in map(get_record, list_records(name)) if record.data == "imagenet"]
        found = [record for record in records if (record.top1 or 0) > LOWEST]
        if not found:
            continue
        best = max(found, key=lambda record: record.top1)
        macs = GOLDEN[name][2] * (best.transform.size / VARIANTS[name].image_size) ** 2 / 1e9
        axes.scatter(macs, best.top1, s=22, color=colour_of(name), linewidth=0)
        if name in LABELS:
            axes.annotate(name, (macs, best.top1), LABELS[name], textcoords="offset points", fontsize=8)
    for label, (_, colour) in FAMILIES.items():
        axes.scatter([], [], s=22, color=colour, label=label, linewidth=0)
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)
    axes.set(
        xscale="log",
        ylim=(LOWEST, 89),
        xlabel="thousand million multiply-adds an image, at the size of the test",
    )
    axes.set_title("ImageNet-1k top-1 in %, best published weights", color=INK)
    axes.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    axes.minorticks_off()
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def colour_of(name):
    """That of the variant's family."""
    return next(colour for start, colour in FAMILIES.values() if re.match(start, name))


if __name__ == "__main__":
    main()
