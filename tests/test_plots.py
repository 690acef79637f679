"""Names are text in every picture, and no picture costs a run."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import keras_resnet as kr
from keras_resnet.report.plots import draw_run, plot_bars, plot_confusion_matrix, plot_stages
from keras_resnet.summary import shape_table

NAMES = [
    "$x$", "$\\frac{$", "a_b^c", "\\alpha", "$", "$$", "100 $ to 200 $", "_hidden", "a\nb", "\x1b[2J",
    "x" * 500, "",    "שלום", "猫", "\N{CAT FACE}", "%s {0}", "&<b>", "\udcff", "\x00",
]  # fmt: skip
HISTORY = [
    dict(epoch=1, loss=2.0, test_loss=np.nan, train_accuracy=0.5, test_accuracy=0.4, learning_rate=np.inf)
]


@pytest.fixture
def drawn(monkeypatch):
    """The texts of each figure that is saved."""
    texts, savefig = [], Figure.savefig

    def saved(figure, *arguments, **options):
        savefig(figure, *arguments, **options)
        texts.append([text.get_text() for text in figure.findobj(Text)])

    monkeypatch.setattr(Figure, "savefig", saved)
    return texts


SHOWN = {
    "a\nb": r"a\nb",
    "\x1b[2J": r"\x1b[2J",
    "x" * 500: "x" * 39 + "…",
    "\udcff": r"\udcff",
    "\x00": r"\x00",
}


def test_class_names_are_text(drawn, tmp_path):
    plot_confusion_matrix(np.eye(len(NAMES), dtype=int), NAMES, tmp_path / "a.png")
    assert {SHOWN.get(name, name) for name in NAMES} <= set(drawn[0])
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_names_of_contenders_are_text_and_each_has_its_bar(drawn, tmp_path):
    plot_bars(dict.fromkeys([*NAMES, "x" * 501], 1.0), "$title", "img/$s", tmp_path / "a.png")
    assert drawn[0].count("x" * 39 + "…") == 2 * 2  # a tick has a label on each side
    assert {"$title", "img/$s"} <= set(drawn[0])


def test_a_title_is_text(drawn, tmp_path):
    model = kr.build_resnet(stages=((1, 8),), block="basic", input_shape=(32, 32, 3), num_classes=3)
    plot_stages(shape_table(model), "$\\frac{$", tmp_path / "a.png")
    assert any(text.startswith("$\\frac{$: ") for text in drawn[0])


def test_a_picture_that_cannot_be_drawn_is_one_line(tmp_path, capsys):
    draw_run(HISTORY, np.eye(2, dtype=int), ["$a$", "$b{$"], tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["confusion_matrix.png", "curves.png"]
    assert capsys.readouterr().err == ""
    draw_run([{}], np.eye(2, dtype=int), ["a"], tmp_path / "nowhere")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" could not be drawn: ")[0] for line in lines] == [
        str(tmp_path / "nowhere" / name) for name in ("curves.png", "confusion_matrix.png")
    ]
