"""The house: imports point downward, and the ground floors know no TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "keras_resnet"
# From the ground up; rooms of one floor do not import each other.
HOUSE = [
    ["processor", "arguments", "tails", "printing"],
    ["transform"],
    ["variant", "graphs", "kernels", "nearest", "files", "metadata", "output_kind"],
    ["copying"],
    ["heads"],
    ["variants", "layers"],
    ["weights"],
    ["parts", "preprocessing"],
    ["blocks"],
    ["resnet"],
    ["builders", "summary"],
    ["data"],
    ["run_files"],
    ["inference"],
    ["report"],
    ["training"],
    ["benchmark", "doctor"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
FLOORS = {room: floor for floor, rooms in enumerate(HOUSE) for room in rooms}
WINGS = {"weights", "data", "report", "inference", "training", "benchmark", "commands"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """Names of the modules that a file imports anywhere, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.col_offset) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            yield from ((f"{node.module}.{alias.name}", node.col_offset) for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downward(path):
    room = room_of(path)
    if room == "__init__":
        return
    for name, _ in imported(path):
        if not name.startswith("keras_resnet."):
            continue
        other = name.split(".")[1]
        if (other == room and room in WINGS) or (other not in FLOORS and other == "__version__"):
            continue
        assert FLOORS[other] < FLOORS[room], f"{room} (floor {FLOORS[room]}) imports {name}"


@pytest.mark.parametrize(
    "path", [p for p in FILES if FLOORS.get(room_of(p), 9) < FLOORS["data"]], ids=lambda p: p.stem
)
def test_the_lower_floors_import_no_tensorflow(path):
    tensorflow = {(name, column) for name, column in imported(path) if name.partition(".")[0] == "tensorflow"}
    # The kernels take it inside functions, which only the TensorFlow backend calls.
    allowed = {(name, column) for name, column in tensorflow if path.stem == "kernels" and column > 0}
    assert tensorflow == allowed


def test_variants_need_the_standard_library_only():
    files = ("arguments.py", "variant.py", "variants.py")
    names = {name for file in files for name, _ in imported(PACKAGE / file)}
    outside = {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name.rpartition(".")[0] for name in outside} == {"keras_resnet.arguments", "keras_resnet.variant"}


def test_files_are_short():
    long = {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 300}
    assert long == {}


def test_importing_the_package_imports_neither_keras_nor_tensorflow():
    code = (
        "import sys, keras_resnet; print([m for m in ('keras', 'tensorflow', 'numpy') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
