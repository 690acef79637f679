"""Snapshots on a disk that fails: whole and verified, or not there."""

import json
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from keras_resnet.training import snapshots
from keras_resnet.training.snapshots import SnapshotError, newest, write

ARRAYS = {
    "model/0": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "half": np.linspace(0, 1, 5).astype(ml_dtypes.bfloat16),
    "seed": np.array([2**62, 7]),
    "flag": np.array(True),
    "empty": np.zeros((0, 3), np.float16),
    "big": np.arange(3, dtype=">f8"),
    "nan": np.array([np.nan, np.inf, -0.0], np.float32),
}
STATE = {"step": 3, "loss": 0.1 + 0.2, "worst": float("inf"), "history": [1, None, "ü"]}


def assert_same(found, arrays=ARRAYS, state=STATE):
    assert found.state == state
    assert list(found.places) == list(arrays)
    for name, array in arrays.items():
        read = found.read(name)
        native = array.astype(array.dtype.newbyteorder("=")) if name == "big" else array
        assert read.dtype == native.dtype
        assert read.shape == array.shape == found.places[name][1]
        assert read.tobytes() == native.tobytes()


def test_every_bit_comes_back(tmp_path):
    assert newest(tmp_path / "new") is None
    path = write(tmp_path / "new", 3, ARRAYS, STATE)
    assert path == tmp_path / "new/step_3"
    assert_same(newest(tmp_path / "new"))
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=path, capture_output=True, check=False)
    assert done.returncode == 0


def test_the_newest_two_are_kept_and_the_same_step_is_replaced(tmp_path):
    for step in (9, 10, 100):
        write(tmp_path, step, ARRAYS, {"step": step})
    assert sorted(os.listdir(tmp_path)) == ["step_10", "step_100"]
    write(tmp_path, 100, ARRAYS, {"step": "again"})
    assert sorted(os.listdir(tmp_path)) == ["step_10", "step_100"]
    assert newest(tmp_path).state == {"step": "again"}
    with pytest.raises(ValueError, match="keep=1 must be at least 2"):
        write(tmp_path, 101, ARRAYS, STATE, keep=1)


@pytest.mark.parametrize(
    "value", [np.array(["a"]), np.array([None]), np.zeros(2, "f4,f4"), np.zeros(1, "c8")]
)
def test_other_arrays_are_refused_before_anything_is_written(tmp_path, value):
    with pytest.raises(TypeError, match="w: arrays of"):
        write(tmp_path, 1, {"w": value}, STATE)
    assert os.listdir(tmp_path) == []


@pytest.fixture
def two(tmp_path):
    write(tmp_path, 1, ARRAYS, STATE)
    write(tmp_path, 2, ARRAYS | {"model/0": ARRAYS["model/0"] + 1}, STATE)
    return tmp_path


def damaged_copies(path, rng):
    """Each file of a snapshot, truncated 100 times in all and with 1,000 flipped bits."""
    for name, truncations, flips in (
        ("arrays.bin", 50, 500),
        ("state.json", 30, 300),
        ("SHA256SUMS", 20, 200),
    ):
        good = (path / name).read_bytes()
        for length in np.linspace(0, len(good) - 1, truncations, dtype=int):
            yield name, good, good[:length]
        for _ in range(flips):
            changed = bytearray(good)
            changed[rng.integers(len(good))] ^= 1 << int(rng.integers(8))
            yield name, good, bytes(changed)


def test_no_truncation_and_no_flipped_bit_is_loaded(two, rng):
    count = 0
    for name, good, bad in damaged_copies(two / "step_2", rng):
        (two / "step_2" / name).write_bytes(bad)
        with pytest.warns(UserWarning, match="step_2 is damaged: its bytes do not match SHA256SUMS"):
            assert_same(newest(two))
        os.rename(two / "step_2.damaged", two / "step_2")
        (two / "step_2" / name).write_bytes(good)
        count += 1
    assert count == 1100
    assert newest(two).path == two / "step_2"


@pytest.mark.parametrize("name", ["arrays.bin", "state.json", "SHA256SUMS"])
def test_a_missing_file_is_damage(two, name):
    (two / "step_2" / name).unlink()
    with pytest.warns(
        UserWarning, match=f"{name} is missing. It is called step_2.damaged now; .*step_1 is taken"
    ):
        assert_same(newest(two))
    (two / "step_1" / name).unlink()
    with pytest.raises(SnapshotError, match="no snapshot is whole") as error:
        newest(two)
    assert "step_1 is damaged" in str(error.value)


@pytest.mark.parametrize(
    "table, message",
    [
        ([["w", "object", [3]]], "not one that this version writes: 'object'"),
        ([["w", "float32", [2**40]]], "has 12 bytes; state.json describes 4,398"),
        ([["w", "float32", [-3]]], "has the shape"),
        ([["w", "float32", [3.0]]], "has the shape"),
        ([["w", "float32"]], "not one that this version writes"),
        ({"w": 1}, "not one that this version writes"),
        ([["w", "float32", [4]]], "has 12 bytes; state.json describes 16"),
    ],
)
def test_descriptions_that_lie_are_found_before_reading(tmp_path, table, message):
    path = write(tmp_path, 1, {"w": np.zeros(3, np.float32)}, STATE)
    (path / "state.json").write_text(json.dumps({"state": STATE, "arrays": table}))
    (path / "SHA256SUMS").write_bytes(snapshots._sums(path))
    with pytest.raises(SnapshotError, match=message):
        newest(tmp_path)


# The steps of a power cut and of a full disk, each in one process without TensorFlow.
POWER = """
import os, sys, numpy as np
from keras_resnet.training import snapshots
folder, arrays = sys.argv[1], {"w": np.arange(1000.0)}
calls = ("fsync", "rename", "mkdir", "open", "close", "rmdir", "unlink")
real = {name: getattr(os, name) for name in calls}
cut = 0
while True:
    cut += 1
    child = os.fork()
    if child == 0:
        left = cut
        def counted(name):
            def call(*arguments, **options):
                global left
                left -= 1
                if left == 0:
                    os._exit(9)
                return real[name](*arguments, **options)
            return call
        for name in calls:
            setattr(os, name, counted(name))
        before = snapshots.newest(folder).state["n"]
        snapshots.write(folder, before + 1, arrays, {"n": before + 1})
        os._exit(0)
    finished = os.waitpid(child, 0)[1] == 0
    found = snapshots.newest(folder)
    assert (found.read("w") == arrays["w"]).all()
    print(found.state["n"], len([n for n in os.listdir(folder) if n.startswith("step_")]))
    if finished:
        break
print(os.listdir(folder))
"""

DISK = """
import os, resource, sys, numpy as np
from keras_resnet.training import snapshots
folder = sys.argv[1]
large = {"w": np.arange(5000.0), "v": np.ones(300, np.float32)}
# The file that is too large is the one, then the other.
small = {"w": np.arange(9.0)}
for name, arrays, text in (("arrays.bin", large, "x" * 3000), ("state.json", small, "x" * 9000)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    state = {"n": 1, "text": text}
    path = snapshots.write(folder, 1, arrays, state)
    first = 0 if name == "arrays.bin" else os.path.getsize(path / "arrays.bin")
    refused = 0
    for limit in np.linspace(first, os.path.getsize(path / name) - 1, 100, dtype=int):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        try:
            snapshots.write(folder, 2, arrays, state)
        except snapshots.SnapshotError as error:
            at = "%s: File too large after %s bytes of this file; the snapshot takes"
            assert at % (os.path.join(folder, ".part_2", name), format(limit, ",")) in str(error), error
            refused += 1
        assert os.listdir(folder) == ["step_1"], os.listdir(folder)
        found = snapshots.newest(folder)
        assert found.state == state and (found.read("w") == arrays["w"]).all()
    print(name, refused)
"""


def script(code, folder):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_power_cut_between_any_two_calls_leaves_a_whole_snapshot(tmp_path):
    write(tmp_path, 1, {"w": np.arange(1000.0)}, {"n": 1})
    *cuts, last = script(POWER, tmp_path)
    numbers = [int(line.split()[0]) for line in cuts]
    assert len(cuts) > 15
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 2
    assert all(int(line.split()[1]) in (1, 2, 3) for line in cuts)
    assert "part" not in last


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on file sizes")
def test_a_full_disk_leaves_the_snapshot_before(tmp_path):
    assert script(DISK, tmp_path) == ["arrays.bin 100", "state.json 100"]


def test_a_full_disk_at_the_small_files(two, monkeypatch):
    put = snapshots._put

    def full(path, chunks):
        if path.name == "SHA256SUMS":
            raise OSError(28, "No space left on device", str(path))
        put(path, chunks)

    monkeypatch.setattr(snapshots, "_put", full)
    with pytest.raises(
        SnapshotError, match=r"SHA256SUMS: No space left on device; the snapshot takes [\d,]+ bytes"
    ):
        write(two, 3, ARRAYS, STATE)
    assert sorted(os.listdir(two)) == ["step_1", "step_2"]
