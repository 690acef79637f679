"""A program that ends while a pipeline is at work ends at once."""

import json
import os
import subprocess
import sys

import endings
import numpy as np
import pytest
from PIL import Image

from keras_resnet import build_resnet, prepare_tfrecords

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs Unix")
STATUS = {"system_exit": 3, "in_global": 0, "interrupt": -2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("endings") / "images", np.random.default_rng(0)
    for end in ("", "-bad"):
        for name in ("cat", "dog"):
            (folder := root.with_name(root.name + end) / name).mkdir(parents=True)
            for i in range(12):
                Image.fromarray(rng.integers(0, 256, (200, 300, 3), np.uint8)).save(folder / f"{i}.jpg")
    bad = root.with_name("images-bad") / "cat/0.jpg"
    bad.write_bytes(bad.read_bytes()[:9000])
    prepare_tfrecords(root, root.with_name("images-shards"))
    build_resnet(
        stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, input_shape=(16, 16, 3), num_classes=2,
        normalization=(0.5, 0.25),
    ).save(root.with_name("model.keras"))  # fmt: skip
    return root


def end(folder, names):
    command = [sys.executable, endings.__file__, str(folder), str(folder.with_name("model.keras")), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == names
    for name, seconds, status in rows:
        assert seconds is not None, f"{name} hangs"
        assert status == STATUS.get(name, 1), (name, status, done.stderr[-3000:])
    # What an interpreter with TensorFlow takes to end by itself, on a busy machine more.
    own = max((seconds for name, seconds, _ in rows if name == "nothing"), default=0)
    return max(seconds for _, seconds, _ in rows) - own, done.stderr


def test_endings_end(folder):
    names = ["uncaught", "bad_file", "in_generator", "in_threads", "shards", "predictions"]
    _, errors = end(folder, names)
    assert f"DataError: {folder}-bad/cat/0.jpg: damaged image: image file is truncated" in errors


@pytest.mark.slow
def test_thirty_of_thirty_end_in_time(folder):
    assert end(folder, [*endings.ENDINGS] * 3)[0] < 5
