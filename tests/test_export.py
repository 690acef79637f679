"""Exports compute in their own runtimes what the model does, or are not there."""

import base64
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from exporting import MIXTURES, RUNTIMES, network

from keras_resnet import ExportError, export, open_export, open_model
from keras_resnet.cli import main
from keras_resnet.files import locked
from keras_resnet.inference import formats
from keras_resnet.inference.check import BARS, Bar
from keras_resnet.inference.rebuild import lowest_precision
from keras_resnet.transform import Geometry


@pytest.fixture(scope="module", params=MIXTURES)
def model(request):
    """Of the three, one in mixed precision: what is exported is float32 whatever the policy."""
    if "resnext" not in request.param:
        return network(request.param)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return network(request.param)
    finally:
        keras.config.set_dtype_policy("float32")


def runtimes(format):
    for package in RUNTIMES[format]:
        pytest.importorskip(package)


@pytest.mark.parametrize("format", RUNTIMES)
def test_every_family_in_every_format(model, format, tmp_path, rng):
    runtimes(format)
    path = tmp_path / f"net{formats.FORMATS[format].suffix}"
    done = export(model, path, format)
    assert done.path == path
    assert done.comparison.count == 32
    assert done.comparison.difference_float32 <= 1e-5
    images = rng.integers(0, 256, (5, 8, 8, 3), np.uint8)  # another batch than the check's
    if format == "savedmodel":
        with pytest.warns(UserWarning, match="net is a SavedModel: opening it runs the code"):
            run = open_export(path)
    else:
        run = open_export(path)
    bar = 1e-5 if lowest_precision(model) == "float32" else 0.05
    assert done.comparison.difference <= bar
    np.testing.assert_allclose(run(images), model.predict(images, verbose=0), atol=bar)
    folder, prefix = (path / "assets.extra", "") if format == "savedmodel" else (tmp_path, f"{path.name}.")
    card = json.loads((folder / f"{prefix}card.json").read_text())
    assert card["comparison"]["difference"] == done.comparison.difference
    assert card["comparison"]["difference_float32"] == done.comparison.difference_float32
    assert card["comparison"]["policy"] == lowest_precision(model)
    assert card["bytes"] == done.size > 10_000
    assert (folder / f"{prefix}labels.txt").read_text().split() == [str(i) for i in range(6)]
    assert json.loads((folder / f"{prefix}transform.json").read_text())["center_crop"] == 8
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith(".part")]


@pytest.mark.parametrize(
    "format, precision",
    [
        ("litert", "int8"), ("openvino", "int8"), ("openvino", "bfloat16"),
        pytest.param("litert", "float16", marks=pytest.mark.slow),
        pytest.param("openvino", "float16", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_lower_precisions(format, precision, tmp_path, rng):
    runtimes(format)
    model = network("resnext")
    images = rng.integers(0, 256, (40, 8, 8, 3), np.uint8)
    # Labels that the network gets right, so that an export can lose.
    labels = model.predict(images, verbose=0).argmax(axis=1)
    labels[0] = 5
    path = tmp_path / f"net{formats.FORMATS[format].suffix}"
    data = ((images, labels), (images, labels))
    done = export(model, path, format, precision=precision, calibration=data)
    card = json.loads((tmp_path / f"{path.name}.card.json").read_text())
    assert card["precision"] == precision
    assert done.comparison.count == 40
    assert done.comparison.top1[0] >= 39 / 40
    assert 1e-7 < done.comparison.difference < 0.2
    if precision == "bfloat16":
        assert card["compile_with"] == {"INFERENCE_PRECISION_HINT": "bf16"}
    if (format, precision) == ("openvino", "int8"):
        assert 'element_type="i8"' in path.read_text()
    if format == "litert":
        assert done.size < 40_000  # float32: 47,820


def test_onnx_pads_with_zeros_before_a_maximum_of_negative_features(tmp_path):
    runtimes("onnx")
    model = network("standardized", stem_pool="max_zero")
    assert export(model, tmp_path / "net.onnx", "onnx", images=4).comparison.difference <= 1e-5


def test_onnx_says_what_it_takes(tmp_path):
    runtimes("onnx")
    import onnx

    model = network("resnext", input_shape=(None, None, 3))
    export(model, tmp_path / "net.onnx", "onnx", images=2)
    loaded = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(loaded, full_check=True)
    assert (
        loaded.opset_import[0].version
        == 18
        == json.loads((tmp_path / "net.onnx.card.json").read_text())["opset"]
    )
    (image,), (probabilities,) = loaded.graph.input, loaded.graph.output
    dims = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert (image.name, dims) == ("image", ["batch", "height", "width", 3])
    dims = [d.dim_param or d.dim_value for d in probabilities.type.tensor_type.shape.dim]
    assert (probabilities.name, dims) == ("probabilities", ["batch", 6])
    groups = [a.i for node in loaded.graph.node for a in node.attribute if a.name == "group"]
    assert sorted(set(groups)) == [1, 4]  # one node, not one convolution for each group
    images = np.zeros((3, 12, 20, 3), np.uint8)
    np.testing.assert_allclose(
        open_export(tmp_path / "net.onnx")(images), model.predict(images, verbose=0), atol=1e-5
    )


SERVE = """
import base64, json, sys
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
signature = loaded.signatures["serving_default"]
(alias,) = signature.structured_input_signature[1]
assert alias.endswith("_bytes"), alias
rows = [base64.b64decode(row["b64"]) for row in json.loads(sys.stdin.read())["instances"]]
outputs = signature(**{alias: tf.constant(rows)})
assert "keras_resnet" not in sys.modules
print(json.dumps({k: [[x.decode() if isinstance(x, bytes) else x for x in r] for r in v.numpy().tolist()]
                  for k, v in outputs.items()}))
"""


def test_saved_model_serves_encoded_images_where_there_is_only_tensorflow(tmp_path, save_image):
    from keras_resnet import predict
    from keras_resnet.inference.artifacts import Artifact

    names = ("ant", "bee", "cat", "dog", "emu", "fox")
    artifact = Artifact(network("basic"), names, Geometry(crop_fraction=0.8, interpolation="bicubic"))
    export(artifact, tmp_path / "served")
    files = [
        save_image("a.png", size=(40, 25)), save_image("b.jpg", size=(9, 31)),
        save_image("c.png", "RGBA", size=(12, 12)), save_image("d.png", "L", size=(8, 8)),
    ]  # fmt: skip
    request = {"instances": [{"b64": base64.b64encode(file.read_bytes()).decode()} for file in files]}
    found = subprocess.run(
        [sys.executable, "-c", SERVE, tmp_path / "served"], input=json.dumps(request), cwd=tmp_path,
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    found = json.loads(found.stdout)
    assert np.shape(found["probabilities"]) == (4, 6)
    for i, expected in enumerate(predict(artifact, map(str, files))):
        ours = dict(zip(found["classes"][i], found["scores"][i], strict=True))
        assert len(ours) == 5
        for name, probability in expected.classes:
            # Pillow rounds to whole grey levels twice.
            assert ours.get(name, probability) == pytest.approx(probability, abs=0.02)
        assert found["scores"][i][0] == pytest.approx(max(found["probabilities"][i]))


def test_what_fails_the_comparison_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setitem(BARS, "float32", Bar(-1.0, 0.0))
    runtimes("onnx")
    with pytest.raises(ExportError, match=r"net\.onnx was not kept: .* 32 images, max\|dp\| .* is allowed"):
        export(network("basic"), tmp_path / "new" / "net.onnx", "onnx")
    assert list((tmp_path / "new").iterdir()) == []


def test_one_process_exports_a_file_and_leftovers_are_removed(monkeypatch, tmp_path):
    kind = formats.FORMATS["savedmodel"]
    left, part = tmp_path / ".part-net", []

    def write(model, order):
        part.extend(left.iterdir())
        raise OSError("no room")

    monkeypatch.setitem(formats.FORMATS, "savedmodel", replace(kind, write=write))
    (left / "net/assets").mkdir(parents=True)  # of an export that was killed
    with pytest.raises(ExportError, match="no room"):
        export(network("basic"), tmp_path / "net")
    assert (part, list(tmp_path.iterdir())) == ([], [])
    with (
        locked(tmp_path / ".lock-net", tmp_path / "net"),
        pytest.raises(ValueError, match=rf"net is in use by process {os.getpid()} on .*; wait"),
    ):
        export(network("basic"), tmp_path / "net")


def test_a_full_disk(monkeypatch, tmp_path):
    runtimes("onnx")
    kind = formats.FORMATS["onnx"]

    def write(model, order):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            return kind.write(model, order)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setitem(formats.FORMATS, "onnx", replace(kind, write=write))
    with pytest.raises(ExportError, match=r"net\.onnx cannot be written: OSError: .*File too large"):
        export(network("basic"), tmp_path / "net.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_crashes(monkeypatch, tmp_path):
    def write(model, order):
        with open(order.path, "wb") as file:
            file.write(b"nonsense")
        return {}

    runtimes("onnx")
    kind = formats.FORMATS["onnx"]
    monkeypatch.setitem(formats.FORMATS, "onnx", replace(kind, write=write))
    with pytest.raises(
        ExportError, match=r"net\.onnx was not kept: opened in its runtime, .*INVALID_PROTOBUF"
    ):
        export(network("basic"), tmp_path / "net.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path, options, error, message",
    [
        (
            "a.onnx",
            dict(format="caffe"),
            ValueError,
            "format='caffe' is unknown; choose one of savedmodel, onnx",
        ),
        (
            "a.onnx",
            dict(format="onnx", precision="int4"),
            ValueError,
            "precision='int4' is none of those of 'onnx'",
        ),
        ("a.onnx", dict(format="litert"), ValueError, r"a\.onnx: expected a name that ends in \.tflite"),
        (
            "a.tflite",
            dict(format="litert", precision="int8"),
            ValueError,
            "int8' needs images .* calibration=DATA",
        ),
        ("there.tflite", dict(format="litert"), FileExistsError, r"there\.tflite exists"),
        ("no.tflite/a.tflite", dict(format="litert"), ExportError, r"a\.tflite cannot be written: "),
    ],
)
def test_mistakes(path, options, error, message, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    (tmp_path / "there.tflite").write_text("")
    (tmp_path / "no.tflite").write_text("")
    with pytest.raises(error, match=message):
        export(network("basic"), tmp_path / path, **options)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["no.tflite", "there.tflite"]


def test_models_that_cannot_be_exported(tmp_path):
    with pytest.raises(ValueError, match="does not normalise its input"):
        export(network("basic", normalization=None), tmp_path / "a")
    with pytest.raises(ValueError, match="no head to classify with"):
        export(network("basic", include_top=False), tmp_path / "a")
    with pytest.raises(
        ValueError, match=r"takes \(8, 8, 5\); an export takes square images of 1 or 3 channels"
    ):
        export(network("basic", input_shape=(8, 8, 5), normalization=(0.5, 0.5)), tmp_path / "a")


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if "onnx" in name else object())
    with pytest.raises(
        ImportError, match=r"needs onnx, tf2onnx, onnxruntime: pip install 'keras-resnet-zoo\[export\]"
    ):
        export(network("basic"), tmp_path / "a.onnx", "onnx")


def test_a_saved_model_is_no_run_folder(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="is a SavedModel, which is code"):
        open_model(tmp_path)
    with pytest.raises(ValueError, match=r"nothing\.pt: expected a file that ends in \.onnx"):
        open_export(tmp_path / "nothing.pt")


def test_the_command(tmp_path, capsys):
    runtimes("onnx")
    (tmp_path / "run").mkdir()
    network("basic").save(tmp_path / "run" / "model.keras")
    (tmp_path / "run" / "classes.txt").write_text("ant\nbee\ncat\ndog\nemu\nfox\n")
    (tmp_path / "run" / "history.csv").write_text("epoch,test_accuracy\n1,0.5\n2,0.75\n")
    assert main(["export", str(tmp_path / "run"), "--format", "onnx", "--images", "3"]) == 0
    out = capsys.readouterr().out.splitlines()[-1]
    assert out.startswith(f"{tmp_path}/run/basic.onnx: ")
    assert " bytes; in its runtime: 3 images, max|dp| " in out
    assert json.loads((tmp_path / "run" / "basic.onnx.card.json").read_text())["top1_of_the_run"] == 0.75
    assert (tmp_path / "run" / "basic.onnx.labels.txt").read_text().startswith("ant\nbee\n")
    assert main(["export", str(tmp_path / "run"), "--format", "onnx"]) == 2
    assert "basic.onnx exists; remove it" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["onnx", "litert", "openvino"])
@pytest.mark.parametrize("data", [b"", b"nonsense", bytes(5000)])
def test_a_damaged_export_is_named(format, data, tmp_path):
    runtimes(format)
    path = tmp_path / f"net{formats.FORMATS[format].suffix}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{path.name} cannot be opened: "):
        open_export(path)
