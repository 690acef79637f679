"""The notebooks as they lie in git: without outputs, on the public interface, short."""

import ast
import json
import shlex

import pytest
from conftest import ROOT

import keras_resnet as kr
from keras_resnet.cli import _parser

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What is longer belongs in the package.
MOST_LINES = 7


def cells(path, kind):
    book = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in book["cells"] if cell["cell_type"] == kind]


def source(path, kind):
    return "\n".join("".join(cell["source"]) for cell in cells(path, kind))


def test_there_are_four():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_has_no_outputs(self, path):
        for cell in cells(path, "code"):
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            assert cell["metadata"] == {}

    def test_says_what_it_teaches_and_needs(self, path):
        title, learn, need = "".join(cells(path, "markdown")[0]["source"]).split("\n\n")
        assert title.startswith("# ")
        assert learn.startswith("**You learn** ")
        assert need.startswith("**It needs** ")

    def test_defines_nothing_that_belongs_in_the_package(self, path):
        for node in ast.walk(ast.parse(source(path, "code"))):
            assert not isinstance(node, ast.ClassDef), node.name
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < MOST_LINES, node.name

    def test_uses_public_names_only(self, path):
        for node in ast.walk(ast.parse(source(path, "code"))):
            if isinstance(node, ast.ImportFrom):
                assert not node.module.startswith("keras_resnet")
            if isinstance(node, ast.Import):
                ours = [name for name in node.names if name.name.startswith("keras_resnet")]
                assert all((name.name, name.asname) == ("keras_resnet", "kr") for name in ours)
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_"), node.attr
                if isinstance(node.value, ast.Name) and node.value.id == "kr":
                    assert node.attr in kr.__all__, f"kr.{node.attr}"

    def test_commands_parse(self, path):
        lines = [line for line in source(path, "markdown").splitlines() if line.startswith("keras-resnet ")]
        for line in lines:
            assert callable(_parser().parse_args(shlex.split(line)[1:]).run)
