"""Ctrl-C and SIGTERM leave whole files or none."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import pytest
from matplotlib.figure import Figure

from keras_resnet import cli
from keras_resnet.data.workers import threads
from keras_resnet.files import write_text, written_aside
from keras_resnet.inference import export, outputs
from keras_resnet.inference.convert import save_as
from keras_resnet.report.plots import plot_bars
from keras_resnet.run_files import read_config
from keras_resnet.training import runs


def half_then_stop(*arguments, **options):
    """A writer that Ctrl-C meets in the middle: the path is the first argument that is one."""
    path = next(value for value in arguments if isinstance(value, Path))
    path.write_bytes(b"half")
    raise KeyboardInterrupt


def model():
    image = keras.Input((4,))
    return keras.Model(image, keras.layers.Dense(2)(image))


WRITERS = {
    "text": ((Path, "write_text"), lambda path: write_text(path, "new")),
    "convert": ((keras.Model, "save"), lambda path: save_as(model(), path)),
    "run": ((keras.Model, "save"), lambda path: runs.save_model(model(), path.parent, path.stem)),
    "plot": ((Figure, "savefig"), lambda path: plot_bars({"a": 1.0}, "t", "u", path)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_stays_as_it_was(name, tmp_path, monkeypatch):
    (owner, method), write = WRITERS[name]
    path = tmp_path / "file.keras"
    path.write_bytes(b"old")
    monkeypatch.setattr(owner, method, half_then_stop)
    with pytest.raises(KeyboardInterrupt):
        write(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


def test_errors_name_the_file_that_was_meant(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "no/a.txt", "")
    assert caught.value.filename == str(tmp_path / "no/a.txt")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        write_text(tmp_path, "")


def test_a_folder_that_was_hardly_begun_is_no_run(tmp_path, monkeypatch):
    def stop(path, text):
        with written_aside(path) as part:
            half_then_stop(part) if path.name == "config.yaml" else part.write_text(text)

    monkeypatch.setattr(runs, "write_text", stop)
    with pytest.raises(KeyboardInterrupt):
        runs.create(tmp_path / "run", {"model": "a", "seed": 0}, ["cat"])
    with pytest.raises(ValueError, match=r"config\.yaml: there is no such file"):
        read_config(tmp_path / "run")


def test_export_takes_back_what_lies_beside(tmp_path, monkeypatch):
    part = tmp_path / "part"
    part.mkdir()
    for name in ("a.onnx", "a.onnx.card.json"):
        (part / name).write_text(name)
    replace = os.replace

    def stop(source, target):
        if Path(target).name == "a.onnx":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(export.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        export._publish(part, tmp_path / "a.onnx")
    assert os.listdir(tmp_path) == ["part"]


def test_rows_are_taken_back(tmp_path):
    class Stopped:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            self.file.write(data[:3])
            raise KeyboardInterrupt

    with outputs.CsvRows(tmp_path / "a.csv", ["path"]) as rows:
        rows.append([["one.png"]])
        rows._file = Stopped(rows._file)
        with pytest.raises(KeyboardInterrupt):
            rows.append([["two.png"]])
    assert (tmp_path / "a.csv").read_text() == "path\none.png\n"


def test_threads_drop_what_has_not_begun():
    done, never = [], threading.Event()

    def stopped():
        with threads() as pool:
            for i in range(1000):
                pool.submit(lambda i=i: (never.wait(0.2), done.append(i)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(done) < 100


def test_sigterm_removes_what_is_half_written(tmp_path, monkeypatch):
    def command(options):
        with written_aside(tmp_path / "file") as part:
            part.write_text("half")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    monkeypatch.setattr("keras_resnet.commands.zoo._list", command)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        cli.main(["list"])
    assert end.value.code == 143
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_ctrl_c_while_tensorflow_is_imported(tmp_path):
    command = [sys.executable, "-m", "keras_resnet", "info", "resnet20_cifar", "--plot", tmp_path / "a.png"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and "libtensorflow" not in maps.read_text():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120) == ("", "")
    assert process.returncode == 130
    assert os.listdir(tmp_path) == []


def test_one_of_runs_that_begin_at_once_gets_the_folder(tmp_path):
    def begin(_):
        try:
            return runs.create(tmp_path / "run", {"model": "a", "seed": 0}, ["cat"]).name
        except (ValueError, FileExistsError) as error:
            return str(error)

    # Locks are those of open files, so that threads stand for processes.
    with ThreadPoolExecutor(4) as pool:
        said = sorted(pool.map(begin, range(4)), key=len)
    assert said[0] == "run"
    assert all(re.search("is in use by|exists and is not an empty folder", text) for text in said[1:])
    assert read_config(tmp_path / "run") == {"model": "a", "seed": 0}
