"""What the README shows is true."""

import re
import shlex

import pytest
from conftest import ROOT

from keras_resnet import VARIANTS
from keras_resnet.cli import _parser, main

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("python"):
        exec(block, names)
    assert "359 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", [line for b in blocks("sh") for line in b.splitlines() if line.startswith("keras-")]
)
def test_commands_parse(line):
    assert callable(_parser().parse_args(shlex.split(line)[1:]).run)


def test_table_is_the_one_printed(capsys):
    main(["info", "resnet50"])
    assert capsys.readouterr().out.strip() in README


def test_every_variant_is_named():
    rows = re.findall(r"^\| `(\S*{}\S*)` \| (.+?) \|", README, re.MULTILINE)
    named = [pattern.format(word) for pattern, words in rows for word in words.split()]
    assert sorted(named) == sorted(VARIANTS)
    assert f"There are {len(VARIANTS)} variants" in README
