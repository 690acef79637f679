"""Files appear whole, one process writes them at a time, and errors name them."""

import errno
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from keras_resnet import build_resnet, files
from keras_resnet.cli import main
from keras_resnet.commands.failures import explain
from keras_resnet.files import BusyError, locked, write_text, written_aside, written_by_others
from keras_resnet.inference.convert import save_as
from keras_resnet.inference.outputs import CsvRows
from keras_resnet.report.plots import plot_confusion_matrix, plot_curves

HOLD = """
import sys
from keras_resnet.files import written_aside
with written_aside(sys.argv[1]) as part:
    part.write_text("half")
    print("held", flush=True)
    sys.stdin.read()
"""


def listed(folder):
    return sorted(os.listdir(folder))


def hold(path):
    writer = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "held\n"
    return writer


def test_one_process_writes_a_file(tmp_path):
    path = tmp_path / "report.html"
    writer = hold(path)
    with pytest.raises(
        BusyError, match=rf"report\.html is in use by process {writer.pid} on .*; wait for its end"
    ):
        write_text(path, "whole")
    assert not path.exists()
    writer.communicate("")
    assert path.read_text() == "half"
    write_text(path, "whole")
    assert (path.read_text(), listed(tmp_path)) == ("whole", ["report.html"])


def test_what_a_killed_process_left_is_removed(tmp_path):
    path = tmp_path / "report.html"
    writer = hold(path)
    writer.kill()
    writer.communicate()
    assert len(listed(tmp_path)) == 2
    write_text(path, "whole")
    assert (path.read_text(), listed(tmp_path)) == ("whole", ["report.html"])


def test_a_lock_belongs_to_one_of_many(tmp_path):
    """Nobody gets a lock on a file that its holder has removed."""
    count = "import sys, time\nfrom keras_resnet.files import BusyError, locked\nn = 0\nwhile n < 50:\n" \
            "    try:\n        with locked(sys.argv[1] + '/lock', 'it'):\n" \
            "            x = int(open(sys.argv[1] + '/n').read())\n            time.sleep(0.0005)\n" \
            "            open(sys.argv[1] + '/n', 'w').write(str(x + 1))\n            n += 1\n" \
            "    except BusyError:\n        time.sleep(0.0005)\n"  # fmt: skip
    (tmp_path / "n").write_text("0")
    workers = [subprocess.Popen([sys.executable, "-c", count, tmp_path]) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert (tmp_path / "n").read_text() == "150"


@pytest.fixture
def full():
    """Files end at 2,000 bytes, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


MODEL = dict(
    stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, input_shape=(8, 8, 3), num_classes=3,
)  # fmt: skip
HISTORY = dict.fromkeys(
    ("epoch", "loss", "test_loss", "train_accuracy", "test_accuracy", "learning_rate"), 1.0
)
WRITERS = {
    "a.safetensors": lambda path: save_as(build_resnet(**MODEL), path),
    "a.keras": lambda path: save_as(build_resnet(**MODEL), path),
    "a.weights.h5": lambda path: save_as(build_resnet(**MODEL), path),
    "a.html": lambda path: write_text(path, "x" * 10_000),
    "curves.png": lambda path: plot_curves([HISTORY], path),
    "confusion.png": lambda path: plot_confusion_matrix(np.eye(3, dtype=int), "abc", path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_with_the_name(name, tmp_path, full):
    path = tmp_path / name
    full()
    with pytest.raises(OSError) as error:
        WRITERS[name](path)
    assert explain(error.value) == (f"{path}: File too large.", 2)
    assert listed(tmp_path) == []


def test_on_a_full_disk_a_lock_holds_and_nothing_is_left(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError) as error:
            write_text(tmp_path / "a", "text")
        with pytest.raises(ValueError, match=r"out\.csv cannot be written: File too large"):
            CsvRows(tmp_path / "out.csv", ["path"])
        with (
            locked(tmp_path / "lock", "it"),
            pytest.raises(BusyError, match="it is in use by another process"),
            locked(tmp_path / "lock", "it"),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert explain(error.value)[0] == f"{tmp_path / 'a'}: File too large."
    assert listed(tmp_path) == []


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_cannot_be_written_is_one_line_with_the_name(name, tmp_path):
    path = tmp_path / "nowhere" / name
    with pytest.raises(OSError) as error:
        WRITERS[name](path)
    assert explain(error.value) == (f"{path}: No such file or directory; check the name.", 2)


@pytest.mark.parametrize(
    "text", ["IoError: No space left (os error 28)", "errno = 28, error message", "[Errno 28] x"]
)
def test_errors_of_other_libraries(text, tmp_path):
    with pytest.raises(OSError) as error, written_by_others(tmp_path / "a"):
        raise RuntimeError(text)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "a"))
    with pytest.raises(OSError, match="a cannot be written: KeyError: 'odd'"), written_by_others("a"):
        raise KeyError("odd")


def test_without_locks_files_are_written_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    write_text(tmp_path / "a", "b")
    with written_aside(tmp_path / "a") as part, locked(tmp_path / "lock", "x"):
        part.write_text("c")
    assert (tmp_path / "a").read_text() == "c"
    assert main(["list", "resnet50"]) == 0
