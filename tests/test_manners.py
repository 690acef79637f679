"""What a person meets on the command line: help, mistakes, errors, and JSON for programs."""

import argparse
import errno
import json
import os
import shlex

import numpy as np
import pytest

from keras_resnet import VARIANTS, build_resnet
from keras_resnet.cli import _parser, main
from keras_resnet.commands import inference, weights
from keras_resnet.commands.failures import explain
from keras_resnet.commands.parser import subparsers
from keras_resnet.commands.start import without_noise
from keras_resnet.nearest import suggest

COMMANDS = subparsers(_parser())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_in_examples_that_parse(name):
    help_text = COMMANDS[name].format_help()
    examples = help_text.partition("\nexamples:\n")[2].splitlines()
    assert 1 <= len(examples) <= 3
    for line in examples:
        words = shlex.split(line.partition(" > ")[0], comments=True)
        assert words[:2] == ["keras-resnet", name]
        assert _parser().parse_args(words[1:]).command == name


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "COMMAND. See keras-resnet --help."),
        (["trian"], "COMMAND: there is no 'trian'; did you mean 'train'?"),
        (["frobnicate"], "there is no 'frobnicate'; choose one of list, info, "),
        (["info", "resnet5O"], "there is no variant 'resnet5O'; did you mean 'resnet50'"),
        (["info", "ResNet-50"], "did you mean 'resnet50'"),
        (["train", "--model", "resnet20cifar"], "did you mean 'resnet20_cifar'"),
        (["list", "resnet5O"], "no variant matches 'resnet5O'; did you mean 'resnet50'"),
        (["train", "--epoch", "3"], "there is no option '--epoch'; did you mean '--epochs'?"),
        (["train", "--wibble=3"], "there is no option '--wibble'; see keras-resnet train --help."),
        (["train", "--epochs", "0"], "--epochs: '0' is no whole number above 0."),
        (["train", "--epochs"], "--epochs: expected one argument. See keras-resnet train --help."),
        (["evaluate", "run"], "required: --data. See keras-resnet evaluate --help."),
        (["list", "a", "b"], "there is no argument 'b'"),
        (["export", "run", "--format", "onx"], "there is no 'onx'; did you mean 'onnx'?"),
        (["export", "run", "--precision", "fp32"], "choose one of float32, bfloat16, float16, int8."),
        (["convert", "a", "b", "--layout", "tim"], "there is no 'tim'; did you mean 'timm'"),
        (["verify", "--against", "torchvison"], "did you mean 'torchvision'?"),
        (["benchmark", "trian"], "did you mean 'train'?"),
        (["completion", "bsh"], "did you mean 'bash'"),
    ],
)
def test_a_mistake_is_one_line_with_the_nearest(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr("keras_resnet.commands.start.start_tensorflow", None)  # must not be called
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("keras-resnet: ")
    assert error.count("\n") == 1
    assert message in error


def test_suggestions():
    assert suggest("resnet5O", VARIANTS, "") == "did you mean 'resnet50', 'resnet50t' or 'resnet50s'?"
    assert suggest("RESNET50D", VARIANTS, "", n=1) == "did you mean 'resnet50d'?"
    assert suggest(17, VARIANTS, "see the list.") == "see the list."


def test_choices_are_those_of_the_tables():
    from keras_resnet.inference.formats import FORMATS
    from keras_resnet.weights.keymaps import ALIASES, LAYOUTS

    assert tuple(FORMATS) == inference.FORMATS
    assert set(inference.PRECISIONS) == {name for kind in FORMATS.values() for name in kind.precisions}
    assert set(weights.LAYOUTS) == {*LAYOUTS, *ALIASES}


def _tensorflow(kind, message):
    import tensorflow as tf

    return getattr(tf.errors, kind)(None, None, message)


@pytest.mark.parametrize(
    "error, line, status",
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "a.png"), "a.png: No such file; check the name.", 2),
        (PermissionError(errno.EACCES, "Denied", b"a"), "a: Denied; choose another place, or get", 2),
        (OSError(errno.ENOSPC, "No space left"), "No space left; make room, or choose another folder.", 2),
        (FileExistsError("run exists"), "run exists", 2),
        (ValueError("bad:\n  one\n  two"), "bad: one two", 2),
        (ImportError("needs: pip install x"), "needs: pip install x", 2),
        (FloatingPointError("NaN"), "NaN", 3),
        (MemoryError(), "not enough memory; give a smaller --batch-size", 2),
        (KeyError("x"), "unexpected KeyError: 'x'. This is a defect", 2),
        (KeyboardInterrupt(), "", 130),
        (BrokenPipeError(), "", 141),
    ],
)  # fmt: skip
def test_errors_are_one_line(error, line, status):
    assert explain(error)[1] == status
    assert explain(error)[0].startswith(line)
    assert bool(explain(error)[0]) == bool(line)


def test_errors_of_tensorflow_are_one_line():
    line, status = explain(_tensorflow("ResourceExhaustedError", "OOM when allocating\n\nCall stack:\n..."))
    assert (line.partition(";")[0], status) == ("not enough memory", 2)
    assert line.endswith("(OOM when allocating)")
    line, _ = explain(_tensorflow("InvalidArgumentError", "shapes differ\nmore"))
    assert line == "TensorFlow cannot do this: InvalidArgumentError: shapes differ; --debug shows where."


@pytest.mark.parametrize("arguments", [["--debug", "list", "vgg*"], ["list", "vgg*", "--debug"]])
def test_debug_shows_the_traceback(arguments):
    with pytest.raises(ValueError, match="no variant matches"):
        main(arguments)


def test_only_noise_is_held_back(capfd):
    with without_noise():
        os.write(2, b"I0000 00:00:1.2 3 cudart_stub.cc:31] Could not find cuda drivers on your machine\n")
        os.write(2, b"E0000 00:00:1.2 3 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR (303)\n")
        os.write(2, b"E0000 00:00:1.2 3 cuda_platform.cc:52] failed call to cuInit: mismatch (803)\n")
        os.write(2, b"Fatal: no AVX")
    shown = capfd.readouterr().err
    assert shown.splitlines() == [
        "E0000 00:00:1.2 3 cuda_platform.cc:52] failed call to cuInit: mismatch (803)",
        "Fatal: no AVX",
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    build_resnet(
        stages=((1, 8), (1, 16)), block="basic", stem="conv3", stem_pool=None, input_shape=(8, 8, 3),
        num_classes=3, normalization=(0.5, 0.25),
    ).save(path)  # fmt: skip
    return path


def document(capsys, *arguments, status=0):
    """The one document on stdout, read as strictly as JSON is defined."""
    assert main([*map(str, arguments), "--json"]) == status
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_json_of_the_zoo(capsys):
    assert document(capsys, "list") == {"variants": list(VARIANTS)}
    found = document(capsys, "info", "resnet20_cifar")
    assert set(found) == {"model", "parameters", "macs", "stages"}
    assert sum(stage["parameters"] for stage in found["stages"]) == found["parameters"]
    assert found["stages"][-1] == {"stage": "head", "output_shape": [10], "parameters": 650, "macs": 640}


def test_json_of_models(capsys, tmp_path, model, save_image, rng):
    x, y = rng.integers(0, 256, (6, 8, 8, 3), np.uint8), np.arange(6) % 3
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    found = document(capsys, "evaluate", model, "--data", tmp_path / "data.npz")
    assert set(found) == {"model", "data", "split", "images", "top1", "top5", "loss", "note"}
    assert (found["images"], found["top5"]) == (6, 1.0)
    image = save_image("images/a.png")
    (tmp_path / "images/b.png").write_bytes(b"no image")
    found = document(capsys, "predict", model, tmp_path / "images", "--top-k", 2, status=1)
    assert [item["path"] for item in found["images"]] == [str(image)]
    assert [set(kind) for kind in found["images"][0]["classes"]] == [{"name", "probability"}] * 2
    assert "b.png" in found["errors"][0]
    found = document(capsys, "predict", model, image, "--out", tmp_path / "a.csv")
    assert found == {"out": str(tmp_path / "a.csv"), "known": 0, "written": 1, "errors": []}


def test_json_of_data(capsys, folder):
    (folder / "cat/1.png").write_bytes(b"")
    found = document(capsys, "check-data", folder, status=1)
    assert found["counts"] == {"all": {"cat": 6, "dog": 6}}
    assert len(found["problems"]) == 1


def test_json_of_what_takes_long(capsys, monkeypatch, tmp_path):
    from keras_resnet.benchmark import rounds, startup
    from keras_resnet.inference import export, verify

    row = verify.Difference("resnet18", "timm", np.inf, 1e-6, True, 1.0)
    monkeypatch.setattr(verify, "verify", lambda names, against: iter([row]))
    found = document(capsys, "verify", "resnet18", status=1)
    assert found["against"] == "timm"
    assert found["variants"][0] == {
        "name": "resnet18", "against": "timm", "logits": None, "stages": 1e-6, "back": True, "seconds": 1.0,
        "note": "", "passed": False,
    }  # fmt: skip
    done = export.Export(tmp_path / "a.onnx", 7, None, {"bytes": 7, "top1": np.float32(0.5)})
    monkeypatch.setattr(export, "export", lambda *a, **k: done)
    assert document(capsys, "export", "run") == {"path": str(tmp_path / "a.onnx"), "bytes": 7, "top1": 0.5}
    result = rounds.Row("torch", np.nan, np.nan, np.nan, 0, "not installed")
    monkeypatch.setattr(startup, "run", lambda rounds: [result])
    found = document(capsys, "benchmark", "startup")
    assert set(found) == {"title", "machine", "unit", "contenders"}
    assert found["contenders"][0]["rate"] is None


def test_json_goes_to_stdout_alone(capsys, monkeypatch):
    def chatty(options):
        print("progress")
        from keras_resnet.commands.options import print_json

        print_json(options, {"a": 1})

    parsed = argparse.Namespace(run=chatty, json=True, needs_tensorflow=False)
    monkeypatch.setattr("keras_resnet.cli._parser", lambda: argparse.Namespace(parse_args=lambda _: parsed))
    assert main([]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"a": 1}
    assert shown.err == "progress\n"
