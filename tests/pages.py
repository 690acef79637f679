"""Pages of Markdown: their code blocks, and what a reader of them is taken to have.

An HTML comment on the line above a block says how it is tested:

- ``<!-- run -->``: its ``keras-resnet`` commands are run; elsewhere they are parsed only.
- ``<!-- not run: REASON -->``: a Python block that is compiled only.
"""

import re
import shlex
import textwrap
from dataclasses import dataclass, replace

import numpy as np
from conftest import ROOT
from PIL import Image
from test_table import shallow

from keras_resnet import VARIANTS
from keras_resnet.resnet import build_variant
from keras_resnet.training.finetune import finetune

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
_MARK = re.compile(r"<!-- (run|not run: .+?) -->\n *\Z")
_SHELL = {"|", ">", ">>", "&&", "||", ";", "&", "2>"}


@dataclass(frozen=True)
class Block:
    """A code block of a page: where its code begins, and the mark above it."""

    page: str
    line: int
    language: str
    code: str
    mark: str

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks(page, *languages):
    """The code blocks of a page in these languages, in order."""
    text = page.read_text()
    for found in _FENCE.finditer(text):
        if found["language"] in languages:
            mark = _MARK.search(text, 0, found.start() + len(found["indent"]))
            line = text.count("\n", 0, found.start("code")) + 1
            name = str(page.relative_to(ROOT))
            yield Block(
                name, line, found["language"], textwrap.dedent(found["code"]), mark[1] if mark else ""
            )


def commands(block):
    """The arguments of each ``keras-resnet`` command in a block."""
    for line in block.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while "keras-resnet" in words:
            words = words[words.index("keras-resnet") + 1 :]
            end = next((i for i, word in enumerate(words) if word in _SHELL), len(words))
            yield words[:end]
            words = words[end:]


def thin(row):
    """The same blocks, one in each stage, with few filters: what runs on a page costs nothing."""
    return replace(row, stages=tuple((1, filters) for _, filters in row.stages))


def thin_variants(monkeypatch):
    """Let every name mean a thin network, and every record such a one's random weights."""
    twins = {row: thin(shallow(name)) for name, row in VARIANTS.items()}
    for name, row in list(VARIANTS.items()):
        monkeypatch.setitem(VARIANTS, name, twins[row])
    monkeypatch.setattr(
        "keras_resnet.builders.build_variant",
        lambda row, **arguments: build_variant(twins.get(row, row), **arguments),
    )


def few_epochs(monkeypatch):
    """Let `finetune` end after two epochs where a page does not say."""
    monkeypatch.setitem(finetune.__kwdefaults__, "epochs", 2)


def fill_desk(folder):
    """Photographs of two classes, and one more: noise, each class around a colour of its own."""
    rng = np.random.default_rng(0)
    for name, colour in (("cat", (200, 90, 60)), ("dog", (60, 90, 200))):
        for i in range(10):
            pixels = np.clip(rng.normal(colour, 40, (40, 48, 3)), 0, 255).astype(np.uint8)
            path = folder / "photos" / name / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    Image.fromarray(pixels).save(folder / "photo.jpg")
