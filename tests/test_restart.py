"""Processes that are really killed: slow, as each begins by importing TensorFlow."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

# Dropout, stochastic depth, MixUp, Keras's moving average and warmup: see `Bench`.
SCRIPT = """
import hashlib, os, random, signal, sys
sys.path.insert(0, sys.argv[1])
from test_checkpoint import Bench, keras, snapshots

folder, epochs, when, number = sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])

def count(*ignored, **too):
    global number
    number -= 1
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def counted(call):
    return lambda *arguments, **options: (count(), call(*arguments, **options))[1]

at = []
if when == "steps":
    at = [keras.callbacks.LambdaCallback(on_train_batch_begin=count)]
elif when == "calls":
    os.fsync, os.rename, snapshots._put = counted(os.fsync), counted(os.rename), counted(snapshots._put)
weights, history, done, counts = Bench().fit(folder, at, epochs=epochs, patience=99, every=3)
assert done == list(range(epochs)) and counts[1] == 6 * epochs
print(hashlib.sha256(repr((weights, history, done, counts)).encode()).hexdigest())
"""
EPOCHS = 20


def process(folder, when="never", number=0):
    command = [sys.executable, "-c", SCRIPT, Path(__file__).parent, folder, EPOCHS, when, number]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.slow
def test_killed_twenty_times_and_the_same_to_the_last_bit(tmp_path):
    whole = process(tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    draw = random.Random(0)
    for kill in range(20):
        # Batches that are only counted when a run goes on within an epoch count here too; a save
        # makes nine of the calls.
        when, number = ("calls", draw.randint(4, 12)) if kill % 3 == 0 else ("steps", draw.randint(1, 12))
        done = process(tmp_path / "killed", when, number)
        assert done.returncode == -9, (kill, when, number, done.stderr)
    last = process(tmp_path / "killed")
    assert last.returncode == 0, last.stderr
    assert last.stdout == whole.stdout
