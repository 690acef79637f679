"""The command line: quick where it can be, and one line for each mistake."""

import os
import subprocess
import sys
import time

import pytest

from keras_resnet import VARIANTS
from keras_resnet.cli import main

COMMAND = [sys.executable, "-m", "keras_resnet"]


def shell(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, **options)


@pytest.mark.parametrize("arguments", [["list"], ["list", "resnet5*"], ["--help"], ["train", "--help"]])
def test_quick_answers_need_no_framework(arguments):
    code = (
        "import sys, keras_resnet.cli as c\n"
        "try: c.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'keras', 'tensorflow', 'numpy', 'yaml'} & set(sys.modules)))"
    )
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True).returncode == 0
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


def test_list(capsys):
    assert main(["list"]) == 0
    assert capsys.readouterr().out.split() == list(VARIANTS)
    assert main(["list", "vgg*"]) == 2
    assert "no variant matches 'vgg*'" in capsys.readouterr().err


def test_info(capsys, tmp_path):
    assert main(["info", "resnet50", "--input", "224", "--plot", str(tmp_path / "a.png")]) == 0
    out = capsys.readouterr().out
    assert "stage4  7 x 7 x 2048" in out
    assert "25,610,152" in out
    assert "4,089,184,256" in out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert main(["info", "resnet20_cifar", "--channels", "1", "--num-classes", "7"]) == 0
    assert "32 x 32 x 1 " in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["info", "resnet51"], "there is no variant 'resnet51'; did you mean"),
        (["info", "resnet50", "--input", "16"], "input height 16 is below the network's total stride of 32"),
        (["train", "--data", "nowhere/at/all"], "nowhere/at/all: there is no such folder"),
        (["train", "--data", "cifra10", "--no-download"], "'cifra10' is no folder and no dataset"),
        (["train", "--set", "epochs"], "--set 'epochs': expected KEY=VALUE"),
        (["train", "--set", "epoch=3"], "no field 'epoch'; did you mean 'epochs'"),
        (["train", "--recipe", "none"], "no recipe 'none'"),
        (["evaluate", "nowhere", "--data", "digits"], "nowhere: there is no such model"),
        (["predict", "nowhere", "image.jpg"], "nowhere: there is no such model"),
        (["check-data", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("keras-resnet: ")
    assert message in error


def test_check_data(folder, capsys):
    assert main(["check-data", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 bad files"
    (folder / "cat/1.png").write_bytes(b"")
    assert main(["check-data", str(folder)]) == 1
    out = capsys.readouterr().out
    assert f"{folder}/cat/1.png: the file is empty." in out
    assert "     6  cat" in out
    assert out.splitlines()[-1] == "1 bad files"


@pytest.mark.xdist_group("training")
def test_train_evaluate_predict(tmp_path, folder):
    arguments = [
        "--epochs",
        1,
        "--set",
        "warmup_epochs=0",
        "--batch-size",
        32,
        "--seed",
        1,
        "--out",
        tmp_path / "run",
    ]
    done = shell("train", *arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("resnet20_cifar, 270,810 parameters, on the ")
    assert lines[1].startswith("epoch 1/1  loss ")
    assert lines[1].endswith(" img/s")
    assert lines[-1].startswith("held-out images: top-1 ")
    assert len(lines) == 3
    done = shell("evaluate", tmp_path / "run", "--data", "digits")
    assert done.stdout.strip() == lines[-1].removeprefix("held-out images: ")
    done = shell("predict", tmp_path / "run", folder / "cat/0.png")
    assert done.stdout.splitlines()[0] == str(folder / "cat/0.png")
    assert len(done.stdout.splitlines()) == 6


@pytest.mark.skipif(not os.path.exists("/dev/ptmx"), reason="needs a terminal")
@pytest.mark.xdist_group("training")
def test_keras_own_bar_on_a_terminal(tmp_path):
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(
            sys.executable,
            [*COMMAND, "train", "--epochs", "1", "--set", "warmup_epochs=0", "--out", f"{tmp_path}/r"],
        )
    shown = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "━".encode() in shown
    assert b"img/s" not in shown
