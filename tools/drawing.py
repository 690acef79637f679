"""What the pictures of the documentation share: a style, and a file that does not change by itself."""

import contextlib
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
# Readable on white and on black.
INK, FAINT = "#7d8590", "#7d859055"


@contextlib.contextmanager
def picture(name, *shape, **options):
    """Yield `plt.subplots(*shape, **options)`, and save it as `name` in docs/images."""
    style = {
        "svg.fonttype": "none", "svg.hashsalt": "keras_resnet", "font.family": "sans-serif", "font.size": 10,
        "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
        "axes.edgecolor": FAINT,
    }  # fmt: skip
    with plt.rc_context(style):
        figure, axes = plt.subplots(*shape, **options)
        yield figure, axes
        path = ROOT / "docs/images" / name
        figure.savefig(path, transparent=True, metadata={"Date": None})
    print(f"{path}: {path.stat().st_size:,} bytes")
