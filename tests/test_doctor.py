"""Whether an installation works."""

import json
from importlib import metadata

import pytest

from keras_resnet import doctor
from keras_resnet.cli import main


@pytest.fixture(scope="module")
def report():
    return doctor.examine()


def test_a_healthy_installation(report):
    assert report["convolution"]["xla"] < 1e-5
    assert report["convolution"]["plain"] < 1e-5
    assert report["xla"]["works"]
    assert report["backend"] == "tensorflow"
    assert report["versions"]["keras"] == metadata.version("keras")
    assert json.loads(json.dumps(report)) == report
    text = doctor.format_report(report)
    for name in ("tensorflow", "devices", "oneDNN", "dtype policy", "convolution", "weights", "extra strict"):
        assert f"\n{name} " in text


def test_the_command(report, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: report | {"ok": True, "problems": []})
    assert main(["doctor", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(report)
    monkeypatch.setattr(
        doctor, "examine", lambda: report | {"ok": False, "problems": ["it is broken: mend it"]}
    )
    assert main(["doctor"]) == 1
    assert "BROKEN: it is broken: mend it.\n1 problems\n" in capsys.readouterr().out


def test_packages_that_are_missing(monkeypatch):
    needs = [
        "keras>=99", "absent>=1", 'absent-too; extra == "export"', 'keras; extra == "strict"',
        'x; extra == "test"',         'tensorflow[and-cuda]; extra == "gpu"', 'x; python_version < "3"',
    ]  # fmt: skip
    inner = {"keras-resnet-zoo": needs, "tensorflow": ['nvidia-x>=1; extra == "and-cuda"']}
    monkeypatch.setattr(metadata, "requires", inner.__getitem__)

    class Names:
        def get_all(self, key):
            return ["export", "strict", "test", "gpu"]

    monkeypatch.setattr(metadata, "metadata", lambda name: Names())
    problems = []
    extras = doctor._extras(problems)
    version = metadata.version("keras")
    assert problems == [
        f"keras is {version}, not >=99, absent is not installed: pip install --upgrade keras-resnet-zoo"
    ]
    assert extras == {
        "export": {
            "missing": ["absent-too is not installed"],
            "install": 'pip install "keras-resnet-zoo[export]"',
        },
        "gpu": {
            "missing": ["tensorflow[and-cuda] is not installed"],
            "install": 'pip install "keras-resnet-zoo[gpu]"',
        },
        "strict": {"missing": [], "install": None},
    }


def test_what_is_broken_is_said(monkeypatch):
    import tensorflow as tf

    def fails(*arguments):
        raise tf.errors.InternalError(None, None, "CUDA_ERROR_INVALID_PTX\nmore")

    monkeypatch.setattr(tf.nn, "conv2d", fails)
    problems = []
    assert doctor._convolution(True, problems) is None
    assert "CUDA_ERROR_INVALID_PTX" in problems[0]
    assert problems[0].endswith("; update the driver, or train with --set jit_compile=false")
    monkeypatch.setattr(tf.nn, "conv2d", lambda x, k, *rest: tf.zeros((1, 14, 14, 16)))
    assert doctor._convolution(False, problems) > 0.5
    assert "a convolution is wrong by 1e+00" in problems[1]
    monkeypatch.setattr(doctor, "_framework", lambda problems, advice: 1 / 0)
    report = doctor.examine()
    assert not report["ok"]
    assert "TensorFlow or Keras cannot be used: ZeroDivisionError" in report["problems"][-1]
    assert "devices" not in doctor.format_report(report)


def test_folders(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_RESNET_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    advice = []
    found = doctor._folders(advice)
    assert found["data"] == {
        "folder": str(tmp_path), "exists": True, "writable": True, "variable": "TFDS_DATA_DIR"
    }  # fmt: skip
    assert not found["weights"]["writable"]
    assert advice == [
        f"{tmp_path}/file/weights for weights cannot be written: set KERAS_RESNET_HOME to a folder that can"
    ]
