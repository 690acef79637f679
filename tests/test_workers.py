"""Two workers train as one device does, end together, and go on together."""

import csv
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from workers import SETTINGS

from keras_resnet import RECIPES, DataError, make_dataset, train
from keras_resnet.data.mixing import mix_dataset
from keras_resnet.training import snapshots
from keras_resnet.training.datasets import training_dataset

# What each worker is given.


def parts_of(batch_size, parts):
    """Positions in the whole batch, part after part: each with its partners from the other end."""
    own = batch_size // parts
    for part in range(parts):
        first = list(range(part * own // 2, (part + 1) * own // 2))
        yield from [*first, *(batch_size - 1 - row for row in reversed(first))]


@pytest.mark.parametrize(
    "options",
    [{"crop": "pad"}, {"crop": "resized", "image_size": 6, "erase": 0.5}],
    ids=["batches", "images"],
)
def test_parts_make_up_the_mixed_batches(options):
    def batches(share):
        dataset = make_dataset("digits", batch_size=12, seed=3, start_step=119, share=share, **options)
        mixed = mix_dataset(dataset, seed=3, start_step=119, mixup=0.4, cutmix=1.0)
        return list(mixed.take(2).as_numpy_iterator())

    parts, whole = [batches((part, 3)) for part in range(3)], batches((0, 1))
    for step, (images, labels) in enumerate(whole):
        order = list(parts_of(12, 3))
        assert np.array_equal(np.concatenate([part[step][0] for part in parts]), images[order])
        assert np.array_equal(np.concatenate([part[step][1] for part in parts]), labels[order])


def test_parts_of_what_is_held_out():
    whole = make_dataset("digits", "held_out", batch_size=50)
    parts = [make_dataset("digits", "held_out", batch_size=50, share=(part, 3)) for part in range(3)]
    images = np.concatenate([x for x, _ in whole.as_numpy_iterator()])
    for part, dataset in enumerate(parts):
        own = [x for x, _ in dataset.as_numpy_iterator()]
        assert len(own) == dataset.cardinality() == 3
        assert np.array_equal(np.concatenate(own), images[part::3])


@pytest.mark.parametrize("share, batch_size", [((0, 3), 64), ((2, 2), 64), ((-1, 2), 64)])
def test_parts_that_cannot_be(share, batch_size):
    with pytest.raises(DataError, match="share=.*must divide batch_size=64"):
        make_dataset("digits", batch_size=batch_size, share=share)


def test_partners_in_another_part():
    recipe = replace(RECIPES["small"], batch_size=10, mixup=0.2)
    with pytest.raises(ValueError, match="5 images on each worker: mixing needs an even number"):
        training_dataset("digits", recipe, None, 0, share=(0, 2))


# Two processes.


def start(out, *extra, dies=None):
    """Both workers; ``dies=(NUMBER, STEP)`` kills one of them there."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "TMPDIR": str(out.parent)}
    with socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
        ports = [str(free.getsockname()[1]) for free in (one, two)]
    script = str(Path(__file__).parent / "workers.py")
    processes = []
    for number in range(2):
        end = ["die", str(dies[1])] if dies and dies[0] == number else []
        command = [sys.executable, script, str(number), *ports, str(out), *extra, *end]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, env=environment, **pipes))
    return processes


def ends(processes, seconds=600):
    """Statuses and outputs, once all have ended."""
    outputs = [process.communicate(timeout=seconds) for process in processes]
    return [process.returncode for process in processes], outputs


def figures(folder):
    with open(folder / "history.csv", newline="") as file:
        return [[float(row[name]) for name in list(row)[:6]] for row in csv.DictReader(file)]


def last_bytes(folder):
    found = snapshots.newest(folder / "snapshots")
    return found.state["step"], (found.path / "arrays.bin").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    statuses, outputs = ends(start(folder))
    assert statuses == [0, 0], outputs
    return folder, outputs


@pytest.mark.slow
def test_two_workers_are_one_device(whole, tmp_path):
    folder, outputs = whole
    assert "jit_compile=False" in outputs[0][0]
    assert outputs[1][0] == ""
    assert sorted(os.listdir(folder.parent)) == ["run"]  # where the other one's files were, too
    alone = SETTINGS | {"batch_size": 128, "learning_rate": 0.04, "steps_per_epoch": 3}
    one = train(out=tmp_path / "one", settings=alone)
    two = keras.saving.load_model(folder / "model.keras", compile=False)
    assert (
        max(np.abs(a - b).max() for a, b in zip(one.model.get_weights(), two.get_weights(), strict=True))
        < 1e-6
    )
    assert np.allclose(figures(folder), figures(one.folder), atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_one_is_killed_and_all_end_and_go_on(whole, tmp_path, number):
    folder = tmp_path / "run"
    processes = start(folder, dies=(number, 5))
    processes[number].communicate(timeout=600)
    assert processes[number].returncode == -9
    since = time.monotonic()
    _, errors = processes[1 - number].communicate(timeout=120)
    print(f"the other one ended {time.monotonic() - since:.0f} s later:\n{errors[-1000:]}")
    assert processes[1 - number].returncode not in (0, None)
    assert "another worker has ended or cannot be reached" in errors
    statuses, outputs = ends(start(folder, "resume"))
    assert statuses == [0, 0], outputs
    assert last_bytes(folder) == last_bytes(whole[0])
    assert figures(folder) == figures(whole[0])
