"""Scripts for shells."""

import shlex
import shutil
import subprocess
import sys

import pytest

from keras_resnet import VARIANTS
from keras_resnet.cli import _parser, main
from keras_resnet.commands.parser import subparsers

COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_keras_resnet
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "keras-resnet.bash"
    command = [sys.executable, "-m", "keras_resnet", "completion", "bash"]
    path.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    "words, expected",
    [
        ([""], list(subparsers(_parser()))),
        (["tr"], ["train"]),
        (["--debug", "exp"], ["export"]),
        (["train", "--mod"], ["--model"]),
        (["train", "--seed", "1", "--model", "wrn2"], ["wrn28_10_cifar"]),
        (["info", "senet"], ["senet154"]),
        (["export", "run", "--format", "o"], ["onnx", "openvino"]),
        (["train", "--recipe", "timm"], ["timm-a1", "timm-a2", "timm-a3"]),
        (["predict", "run", "--top-k", ""], []),  # files
    ],
)  # fmt: skip
def test_bash_completes(script, words, expected):
    command = ["bash", "-c", COMPLETE, "bash", script, "keras-resnet", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected
    assert done.stderr == ""


def test_other_shells(capsys):
    assert main(["completion", "zsh"]) == 0
    zsh = capsys.readouterr().out
    assert "bashcompinit" in zsh
    assert main(["completion", "bash"]) == 0
    assert zsh.endswith(capsys.readouterr().out)
    assert main(["completion", "fish"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(shlex.split(line)[:3] == ["complete", "-c", "keras-resnet"] for line in lines)
    models = next(line for line in lines if "from train'" in line and " -l model " in line)
    assert shlex.split(models)[-1].split() == list(VARIANTS)
