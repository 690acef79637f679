"""What the README and the documentation show is true."""

import re
import runpy
import shutil

import pytest
from conftest import ROOT
from pages import PAGES, blocks, commands, few_epochs, fill_desk, thin_variants

import keras_resnet
from keras_resnet import VARIANTS
from keras_resnet.cli import _parser, main

README = (ROOT / "README.md").read_text()
REFERENCE = {page.name: page.read_text() for page in (ROOT / "docs/reference").glob("*.md")}
TABLES = runpy.run_path(str(ROOT / "tools/make_tables.py"))
SHOWN = [block for page in PAGES for block in blocks(page, "sh", "python")]


@pytest.fixture(scope="module")
def thin():
    """Thin networks for all names, for the whole file; `train` finds them, too."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        thin_variants(monkeypatch)
        few_epochs(monkeypatch)
        yield


@pytest.fixture(scope="module")
def desk(thin, tmp_path_factory):
    """A folder with what the pages take the reader to have: photographs, runs, a checkpoint."""
    folder = tmp_path_factory.mktemp("desk")
    fill_desk(folder)
    keras_resnet.train(
        "resnet20_cifar", "digits", settings={"epochs": 1, "warmup_epochs": 0}, out=folder / "runs/first"
    )
    return folder


@pytest.fixture(scope="module")
def standins(thin, tmp_path_factory):
    """Instead of a download: random weights of a thin network, in the layout of the record."""
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("records")

    def download(record):
        path = folder / record.name.replace("/", "-")
        if not path.exists():
            model = keras_resnet.build_model(record.variant, num_classes=record.num_classes)
            save_file(keras_resnet.to_state_dict(model, record.layout), path)
        return path

    return download


@pytest.fixture
def at_the_desk(desk, standins, tmp_path, monkeypatch):
    """Sit down at a fresh copy of the desk, with no network."""
    shutil.copytree(desk, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_RESNET_OFFLINE", "1")
    monkeypatch.setattr("keras_resnet.weights.load.download", standins)


@pytest.mark.parametrize("block", [b for b in SHOWN if b.language == "sh"], ids=str)
def test_commands_parse(block):
    for arguments in commands(block):
        assert callable(_parser().parse_args(arguments).run)


def test_few_blocks_are_not_run():
    assert len([block for block in SHOWN if block.mark.startswith("not run")]) <= 4


@pytest.mark.parametrize("path, name, table", TABLES["tables"](), ids=lambda value: str(value)[:20])
def test_tables_are_those_that_the_tool_writes(path, name, table):
    text = path.read_text()
    assert TABLES["with_table"](text, name, table) == text, "run tools/make_tables.py"


def test_every_variant_is_in_one_family():
    members = [
        pattern.format(word)
        for pattern, blank, _ in TABLES["FAMILIES"]
        for word in TABLES["members_of"](pattern, blank)
    ]
    assert sorted(members) == sorted(VARIANTS)
    assert f"{len(VARIANTS)} variants" in README


def test_the_reference_has_every_public_name():
    described = set(re.findall(r"^::: (\S+)$", "\n".join(REFERENCE.values()), re.MULTILINE))
    builders = set(re.findall(r"^\| `(build_\w+)` \|", REFERENCE["variants.md"], re.MULTILINE))
    homes = {
        f"keras_resnet.{home}.{name}": name for home, names in keras_resnet._HOMES.items() for name in names
    }
    homes["keras_resnet.variant.Variant"] = "Variant"
    assert sorted(builders - set(homes.values())) == []
    assert (
        sorted(path for path, name in homes.items() if path not in described and name not in builders) == []
    )


def test_the_stages_are_those_that_info_prints(capsys):
    main(["info", "resnet50"])
    printed = capsys.readouterr().out.strip()
    assert any(printed in page.read_text() for page in PAGES)


# Last, because names mean thin networks from here on.
@pytest.mark.filterwarnings("ignore::UserWarning")  # which a reader sees, too
@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p, "python", "sh"))], ids=lambda p: p.stem)
def test_blocks_run(page, at_the_desk):
    names = {}
    for block in blocks(page, "python", "sh"):
        if block.language == "python":
            code = compile("\n" * (block.line - 1) + block.code, block.page, "exec")
            if not block.mark.startswith("not run"):
                exec(code, names)
        elif block.mark == "run":
            for arguments in commands(block):
                assert main(arguments) == 0, f"{block}: keras-resnet {' '.join(arguments)}"
