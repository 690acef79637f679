"""Draw docs/images/cifar-fast.svg: the accuracy over the epochs.

From each log in docs/results:

    python tools/draw_results.py
"""

import csv

from drawing import FAINT, INK, ROOT, picture

COLOURS = ("#3b82f6", "#f59e0b", "#22a559")
# arXiv:1512.03385, table 6: 8.75 % error.
PAPER = 91.25


def main():
    """Write the picture."""
    with picture("cifar-fast.svg", figsize=(8, 3.6), layout="constrained") as (_, axes):
        draw(axes, sorted((ROOT / "docs/results").glob("cifar-fast-seed*.csv")))


def draw(axes, logs):
    """A colour for each log: test images as a line, augmented training images dotted."""
    for log, colour in zip(logs, COLOURS, strict=False):
        with log.open(newline="") as file:
            rows = list(csv.DictReader(file))
        epochs = [int(row["epoch"]) for row in rows]
        for key, dots in (("train_accuracy", ":"), ("test_accuracy", "-")):
            values = [100 * float(row[key]) for row in rows]
            label = f"{log.stem.partition('-seed')[2]}: {values[-1]:.2f} %" if dots == "-" else None
            axes.plot(epochs, values, dots, color=colour, linewidth=1.2, label=label)
    axes.axhline(PAPER, color=INK, linewidth=0.8, linestyle="--")
    axes.annotate(f"the paper: {PAPER} %", (1, PAPER), (0, 4), textcoords="offset points", fontsize=9)
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK, title="seed")
    axes.set(ylim=(60, 100), xlabel="epoch")
    axes.set_title("resnet20_cifar on CIFAR-10, top-1 in %: test images (line), training (dots)", color=INK)
    axes.grid(color=FAINT, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
