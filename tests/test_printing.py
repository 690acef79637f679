"""Names from files never reach a terminal or a page as anything but text."""

import os

import numpy as np
import pytest
from PIL import Image

import keras_resnet as kr
from keras_resnet.cli import main
from keras_resnet.commands.failures import explain
from keras_resnet.printing import show
from keras_resnet.report.html import tag

ESCAPED = {
    "\x1b[2J": r"\x1b[2J", "a\rb": r"a\rb", "a\nb": r"a\nb", "\t": r"\t", "\x07": r"\x07",
    "\x9b": r"\x9b", "\x7f": r"\x7f",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj": r"\u202egpj", "\N{LEFT-TO-RIGHT ISOLATE}": r"\u2066",
    "\N{ZERO WIDTH SPACE}": r"\u200b", "\N{LINE SEPARATOR}": r"\u2028", os.fsdecode(b"\xff"): r"\udcff",
}  # fmt: skip


@pytest.mark.parametrize("text", ESCAPED, ids=ascii)
def test_control_characters_are_escaped(text):
    assert show(text) == ESCAPED[text]
    assert show(os.fsencode(text)) == ESCAPED[text]
    assert explain(ValueError(f"{text}!"))[0].isprintable()
    assert show(str(tag("b", text, title=text))) == str(tag("b", text, title=text))


@pytest.mark.parametrize(
    "text",
    ["cat", "\N{CAT FACE}", "été", "\u0645\u06cc\u200c\u062e", "שלום", "a b", "\\x1b", "\N{NO-BREAK SPACE}"],
)
def test_text_stays(text):
    assert show(text) == text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    kr.build_resnet(
        stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, input_shape=(8, 8, 3), num_classes=2,
        normalization=(0.5, 0.25),
    ).save(folder / "model.keras")  # fmt: skip
    (folder / "classes.txt").write_text("\x1b[31mred\nb\N{RIGHT-TO-LEFT OVERRIDE}c\n")
    return folder


def test_no_command_prints_what_a_terminal_obeys(run, tmp_path, capsys):
    """File names of images, good and bad, of outputs, and class names of a run."""
    photos = tmp_path / "\x1b[2Jphotos"
    (photos / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(photos / "a/\x1b]0;title\x07\r.png")
    (photos / "a/\rbad.png").write_bytes(b"no image")
    assert main(["predict", str(run), str(photos), "--ignore-errors"]) == 0
    assert (
        main(["predict", str(run), str(photos), "--ignore-errors", "--out", str(tmp_path / "\x1b[1m.csv")])
        == 0
    )
    assert main(["check-data", str(photos)]) == 1
    assert main(["predict", str(run), str(tmp_path / "\x1bnowhere")]) in (1, 2)
    assert main(["report", str(tmp_path / "\x1bnowhere")]) == 2
    shown = "".join(capsys.readouterr())
    assert r"\x1b[31mred" in shown
    assert r"b\u202ec" in shown
    assert all(line.isprintable() for line in shown.split("\n"))
