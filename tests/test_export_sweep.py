"""A named variant of every family in every format, at a small size; the int8 bar on real weights."""

import os

import keras
import numpy as np
import pytest
from exporting import FAMILIES, RUNTIMES, network

from keras_resnet import build_model, export
from keras_resnet.inference.artifacts import from_weights
from keras_resnet.inference.formats import FORMATS

pytestmark = pytest.mark.slow
VARIANTS = [
    "resnet18", "resnet50", "resnet50v1", "resnet50v2_keras", "resnetv2_50", "seresnet50", "ecaresnet50t",
    "resnetblur50", "resnetaa50", "resnet50_gn", "resnetv2_50x1_bit", "resnext50_32x4d", "seresnext50_32x4d",
    "resnetrs50", "resnet20_cifar", "preresnet110_cifar",
]  # fmt: skip
INT8 = [(format, "int8") for format in ("litert", "openvino")]


def check(model, format, precision, folder, **options):
    for package in RUNTIMES[format]:
        pytest.importorskip(package)
    path = folder / f"net{FORMATS[format].suffix}"
    return export(model, path, format, precision=precision, **options).comparison


@pytest.mark.parametrize("format", RUNTIMES)
@pytest.mark.parametrize("name", VARIANTS)
def test_named_variants(name, format, tmp_path):
    keras.utils.set_random_seed(0)
    size = 32 if "cifar" in name else 64
    model = build_model(name, input_shape=(size, size, 3), num_classes=10, normalization=(0.5, 0.25))
    assert check(model, format, "float32", tmp_path, images=4).difference <= 1e-5


@pytest.mark.parametrize("format, precision", [*((format, "float32") for format in RUNTIMES), *INT8])
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family, format, precision, tmp_path, rng):
    model = network(family)
    images = rng.integers(0, 256, (200, 8, 8, 3), np.uint8)
    data = (images, model.predict(images, verbose=0).argmax(axis=1))
    comparison = check(
        model, format, precision, tmp_path, calibration=(data, data) if precision == "int8" else None
    )
    assert comparison.agreement >= (0.98 if precision == "int8" else 1)


@pytest.mark.parametrize("format, precision", [*INT8, ("litert", "float16"), ("openvino", "bfloat16")])
def test_real_weights_keep_their_accuracy(format, precision, shared, tmp_path):
    weights = next((shared / "weights").glob("*resnet20*"))
    artifact = from_weights("resnet20_cifar", str(weights))
    data = {"data_dir": shared / "data" / "tfds", "download": False, "calibration": "cifar10"}
    comparison = check(artifact, format, precision, tmp_path, images=10_000, **data)
    assert comparison.count == 10_000
    assert comparison.top1[0] == pytest.approx(0.9173)
    assert comparison.top1[0] - comparison.top1[1] <= 0.005


def test_benchmark():
    from keras_resnet.benchmark.export import BASELINE, run

    pytest.importorskip("onnxruntime")
    rows = run("resnet18", batch_size=2, image_size=32, rounds=1, contenders=[("onnx", "float32")])
    assert [(row.contender, row.rounds, row.note) for row in rows] == [
        (BASELINE, 1, ""),
        ("onnx float32", 1, ""),
    ]


@pytest.mark.parametrize("wrote, runs", [("0", "1"), ("1", "0")])
def test_grouped_convolutions_with_and_without_onednn(wrote, runs, tmp_path):
    """A SavedModel written where TensorFlow uses oneDNN runs where it does not, and the other way round."""
    import subprocess
    import sys

    write = (
        "import sys; sys.path.insert(0, sys.argv[1]); import exporting, keras_resnet\n"
        "for name in ('resnext', 'biased'): keras_resnet.export(exporting.network(name), sys.argv[2] + name)"
    )
    read = (
        "import sys, numpy, tensorflow as tf\n"
        "for name in ('resnext', 'biased'):\n"
        "    run = tf.saved_model.load(sys.argv[2] + name).signatures['pixels']\n"
        "    assert numpy.isfinite(run(image=tf.ones((2, 8, 8, 3)))['probabilities'].numpy()).all()"
    )
    for code, onednn in ((write, wrote), (read, runs)):
        subprocess.run(
            [sys.executable, "-c", code, os.path.dirname(__file__), f"{tmp_path}/"], check=True,
            env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": onednn},
        )  # fmt: skip
