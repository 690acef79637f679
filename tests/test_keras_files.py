"""``.keras`` files that are damaged, or declare what they do not hold, end in one line with their name."""

import io
import resource
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_resnet import build_resnet, open_model
from keras_resnet.commands.failures import explain


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "model.keras"
    build_resnet(
        stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, input_shape=(8, 8, 3), num_classes=2,
        normalization=(0.5, 0.25),
    ).save(path)  # fmt: skip
    return path


def parts(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def refused(path, message="is not a readable Keras model: "):
    with pytest.raises(ValueError, match=message) as error:
        open_model(path)
    line, status = explain(error.value)
    assert line.startswith(f"{path} is not a readable Keras model: ")
    assert (status, "defect" in line) == (2, False)
    assert error.value.__cause__ is not None


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.9])
def test_a_flipped_bit_is_found(whole, tmp_path, place):
    data = bytearray(whole.read_bytes())
    data[int(place * len(data))] ^= 1
    path = tmp_path / "model.keras"
    path.write_bytes(data)
    refused(path)


def test_random_damage_opens_or_is_one_line(whole, tmp_path):
    """In the archive, and with the checksums put right in each part of it."""
    rng, path, contents = np.random.default_rng(0), tmp_path / "model.keras", parts(whole)
    for number in range(40):
        name = list(contents)[number % len(contents)]
        data = bytearray(contents[name])
        start = int(rng.integers(len(data)))
        data[start : start + 4] = rng.bytes(4 if number % 2 else 0)
        written(path, contents | {name: bytes(data)})
        try:
            open_model(path)
        except ValueError as error:
            assert explain(error)[0].startswith(f"{path} is not a readable Keras model: ")


def replaced(old, new):
    return lambda config: config.replace(old, new)


ANY, LARGE = "is not a readable", "would have .* bytes; the file holds"
CONFIGS = {
    "no object": (lambda config: b"[1, 2]", "config.json describes no model"),
    "too deep": (lambda config: b"[" * 100_000 + b"]" * 100_000, "RecursionError"),
    "no JSON": (lambda config: config[:100], "Unterminated|Expecting"),
    "no text": (lambda config: b"\xff" + config, "decode"),
    "empty": (lambda config: b"{}", ANY),
    "no class": (replaced(b'"Functional"', b'"Nothing"'), ANY),
    "10^8 filters": (replaced(b'"filters": 8', b'"filters": 100000000'), LARGE),
    "10^10 filters": (replaced(b'"filters": 8', b'"filters": 10000000000'), LARGE),
    "10^8 classes": (replaced(b'"units": 2', b'"units": 100000000'), LARGE),
    "large kernels": (replaced(b'"kernel_size": [3, 3]', b'"kernel_size": [9999, 9999]'), LARGE),
    "large input": (replaced(b"[null, 8, 8, 3]", b"[null, 100000, 100000, 3]"), "would have 30,000,000,000"),
    "text for a number": (replaced(b'"filters": 8', b'"filters": "many"'), ANY),
    "no list": (replaced(b'"layers": [', b'"layers": 7, "x": ['), ANY),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configurations(whole, tmp_path, case):
    change, message = CONFIGS[case]
    contents = parts(whole)
    changed = contents | {"config.json": change(contents["config.json"])}
    assert changed != contents
    refused(written(tmp_path / "model.keras", changed), message)


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_missing_part(whole, tmp_path, name):
    contents = parts(whole)
    del contents[name]
    refused(written(tmp_path / "model.keras", contents))


def h5(**shapes):
    file = io.BytesIO()
    with h5py.File(file, "w") as group:
        for name, shape in shapes.items():
            group.create_dataset(name, shape, "float32", chunks=tuple(min(n, 64) for n in shape))
    return file.getvalue()


UNPACKED = "declare .* bytes when they are unpacked"
BOMBS = {
    "zeros": ({"model.weights.h5": bytes(300 << 20)}, zipfile.ZIP_DEFLATED, UNPACKED),
    "another part": ({"more": bytes(300 << 20)}, zipfile.ZIP_DEFLATED, UNPACKED),
    "shapes": ({"model.weights.h5": h5(a=(10**9, 4))}, zipfile.ZIP_STORED, "16,000,000,000 bytes, of which"),
    "no HDF5": ({"model.weights.h5": b"nothing"}, zipfile.ZIP_STORED, "file signature not found"),
    "other weights": ({"model.weights.h5": h5(a=(3,))}, zipfile.ZIP_STORED, ANY),
}


@pytest.mark.parametrize("case", BOMBS)
def test_bombs(whole, tmp_path, case):
    changes, compression, message = BOMBS[case]
    path = written(tmp_path / "model.keras", parts(whole) | changes, compression)
    assert path.stat().st_size < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, message)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # kB


def test_what_a_model_declares_costs_nothing_after_it_was_refused(whole):
    """Layers are built as before, and a model that was compressed opens."""
    assert "keras_files" not in keras.layers.Layer.add_weight.__module__
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    packed = written(whole.with_name("packed.keras"), parts(whole), zipfile.ZIP_DEFLATED)
    for one, other in zip(open_model(whole).model.weights, open_model(packed).model.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("place, value", [(16, b"\0\0"), (24, b"\xff" * 7), (8, b"\xff" * 8)])
def test_a_damaged_heap_is_refused_before_hdf5_reads_it(whole, tmp_path, place, value):
    """With the checksum of the archive put right; HDF5 would run forever, or end the process."""
    contents = parts(whole)
    weights = bytearray(contents["model.weights.h5"])
    start = weights.index(b"GCOL") + place
    weights[start : start + len(value)] = value
    path = written(tmp_path / "model.keras", contents | {"model.weights.h5": bytes(weights)})
    refused(path, "damaged HDF5 file: the heap at byte")


def test_a_convolution_with_lora_opens(tmp_path):
    """It asks for its weights by TensorFlow's own shape, not by a tuple."""
    inputs = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(2, 3)
    model = keras.Model(inputs, keras.layers.Flatten()(conv(inputs)))
    conv.enable_lora(2)
    model.save(tmp_path / "model.keras")
    assert open_model(tmp_path / "model.keras").model.count_params() == model.count_params()
