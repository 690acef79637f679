"""The command line: quick where it can be, and one line for each mistake."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_resnet import VARIANTS
from keras_resnet.cli import main

COMMAND = [sys.executable, "-m", "keras_resnet"]


def shell(*arguments, **options):
    # As a person's: conftest silences TensorFlow.
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, **options)


@pytest.mark.parametrize("arguments", [["list"], ["list", "resnet5*"], ["--help"], ["train", "--help"]])
def test_quick_answers_need_no_framework(arguments):
    code = (
        "import sys, keras_resnet.cli as c\n"
        "try: c.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'keras', 'tensorflow', 'numpy', 'yaml'} & set(sys.modules)))"
    )
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Of the processor, not of the clock: other tests run at the same time.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5


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
        (["train", "--set", "epochs"], "--set: 'epochs': expected KEY=VALUE"),
        (["train", "--set", "epoch=3"], "no field 'epoch'; did you mean 'epochs'"),
        (["train", "--recipe", "none"], "no recipe 'none'"),
        (["train", "--recipe", "none.yaml"], "none.yaml: No such file or directory"),
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


def test_convert_and_evaluate_weights(tmp_path, capsys):
    import keras_resnet

    model = keras_resnet.build_resnet20_cifar(
        input_shape=(32, 32, 3), normalization=((0.485, 0.456, 0.406), 0.225)
    )
    model.save(tmp_path / "model.keras")
    target = tmp_path / "weights.safetensors"
    assert main(["convert", str(tmp_path / "model.keras"), str(target), "--layout", "akamaster"]) == 0
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []
    again = tmp_path / "again.keras"
    assert main(["convert", str(target), str(again), "--model", "resnet20_cifar"]) == 0
    loaded = keras_resnet.open_model(again).model
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        assert (ours.numpy() == theirs.numpy()).all()
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 32, 32, 3), np.uint8), np.arange(20) % 10
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    half = tmp_path / "half.safetensors"
    assert main(["convert", str(again), str(half), "--layout", "akamaster", "--float16"]) == 0
    assert half.stat().st_size < 0.6 * target.stat().st_size
    for weights in (target, half):
        source = ["resnet20_cifar", "--weights", str(weights)]
        assert main(["evaluate", *source, "--data", str(tmp_path / "data.npz")]) == 0
        assert "20 images" in capsys.readouterr().out
    image = tmp_path / "image.png"
    Image.fromarray(x[0]).save(image)
    assert main(["predict", *source, str(image), "--top-k", "2"]) == 0
    assert capsys.readouterr().out.count("%") == 2
    assert main(["convert", str(target), str(tmp_path / "a.txt"), "--model", "resnet20_cifar"]) == 2
    assert "a.txt: expected a name that ends in" in capsys.readouterr().err
    assert main(["convert", str(target), str(again), "--model", "resnet32_cifar"]) == 2
    assert "does not fit 'resnet32_cifar'" in capsys.readouterr().err


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
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("resnet20_cifar, 270,810 parameters, on the ")
    assert lines[1].startswith("1 epoch: learning rate ")
    assert lines[2].startswith("epoch 1/1  loss ")
    assert lines[2].endswith(" img/s")
    assert lines[-1].startswith("held-out images: top-1 ")
    assert len(lines) == 4
    done = shell("evaluate", tmp_path / "run", "--data", "digits")
    assert done.stdout.strip() == lines[-1].removeprefix("held-out images: ")
    assert done.stderr == ""
    done = shell("predict", tmp_path / "run", folder / "cat/0.png")
    assert done.stdout.splitlines()[0] == str(folder / "cat/0.png")
    assert len(done.stdout.splitlines()) == 6
    assert done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/ptmx"), reason="needs a terminal")
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
