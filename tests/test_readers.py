"""What the readers of weight files return, against files written here, by torch, Keras and safetensors."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import pickle
import re
import sys
import types
import zipfile
from collections import OrderedDict
from unittest import mock

import h5py
import numpy as np
import pytest

from keras_resnet.weights.readers import Tensor, WeightsError, open_file, open_tensors

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
STORAGES = {
    "float64": ("Double", "<f8"), "float32": ("Float", "<f4"), "float16": ("Half", "<f2"),
    "bfloat16": ("BFloat16", "<u2"), "int64": ("Long", "<i8"), "int32": ("Int", "<i4"),
    "int16": ("Short", "<i2"), "int8": ("Char", "i1"), "uint8": ("Byte", "u1"), "bool": ("Bool", "?"),
}  # fmt: skip


# --- torch files without torch: the pickler of the standard library, and classes of torch's names ---


def _stand_ins():
    """Modules with the names that torch's pickles refer to."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch._utils = utils
    for kind, _ in STORAGES.values():
        setattr(torch, f"{kind}Storage", type(f"{kind}Storage", (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *_: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    return torch, utils


TORCH, UTILS = _stand_ins()


class FakeStorage:
    """Bytes, their type and their key."""

    def __init__(self, items, dtype="float32", key=None, numel=None):
        self.data = np.ascontiguousarray(items, STORAGES[dtype][1]).tobytes()
        self.dtype, self.key = dtype, key
        self.numel = len(self.data) // np.dtype(STORAGES[dtype][1]).itemsize if numel is None else numel


class FakeTensor:
    """Is pickled as torch pickles a tensor."""

    def __init__(self, storage, shape, strides, first=0, rebuild="_rebuild_tensor_v2"):
        self.args, self.rebuild = (storage, first, shape, strides), rebuild

    def __reduce__(self):
        if self.rebuild == "_rebuild_parameter":
            return UTILS._rebuild_parameter, (FakeTensor(*self._ordered()), True, OrderedDict())
        more = (False, OrderedDict()) if self.rebuild.endswith("_v2") else ()
        return getattr(UTILS, self.rebuild), (*self.args, *more)

    def _ordered(self):
        storage, first, shape, strides = self.args
        return storage, shape, strides, first


def tensor(array, dtype="float32", **options):
    """A contiguous tensor with a storage of its own. `array` holds bits where the type is bfloat16."""
    array = np.asarray(array)
    strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
    return FakeTensor(FakeStorage(array, dtype), array.shape, strides, **options)


def torch_pickle(value, protocol=2, view=()):
    """The pickle of `value` and the storages in it."""
    buffer, storages = io.BytesIO(), {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, FakeStorage):
                return None
            item.key = str(len(storages)) if item.key is None else item.key
            storages[item.key] = item
            kind = getattr(TORCH, f"{STORAGES[item.dtype][0]}Storage")
            return ("storage", kind, item.key, "cpu", item.numel, *view)

    with mock.patch.dict(sys.modules, {"torch": TORCH, "torch._utils": UTILS}):
        Pickler(buffer, protocol).dump(value)
    return buffer.getvalue(), storages


def write_zip(path, value, protocol=2, byteorder="little", root="archive"):
    """`value` as torch.save writes it since 1.6."""
    data, storages = torch_pickle(value, protocol)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{root}/data.pkl", data)
        archive.writestr(f"{root}/byteorder", byteorder)
        for key, storage in storages.items():
            archive.writestr(f"{root}/data/{key}", storage.data)
        archive.writestr(f"{root}/version", "3\n")
    return path


def write_legacy(path, value, protocol=2, system=SYSTEM):
    """`value` as torch.save wrote it before 1.6."""
    data, storages = torch_pickle(value, protocol, view=(None,))
    with open(path, "wb") as file:
        for item in (MAGIC, 1001, system):
            pickle.dump(item, file, protocol)
        file.write(data)
        pickle.dump(list(storages), file, protocol)
        for storage in storages.values():
            file.write(storage.numel.to_bytes(8, "little") + storage.data)
    return path


def write_safetensors(path, header, data=b""):
    """A safetensors file of a header, given as dict or as bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_h5(path, layers, root="/"):
    """`layers`, ``{layer: {weight name: array}}``, as Keras 2 writes them."""
    with h5py.File(path, "w") as file:
        group = file.require_group(root)
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            child = group.create_group(layer)
            child.attrs["weight_names"] = [name.encode() for name in weights]
            for name, array in weights.items():
                child[name] = array
    return path


WRITERS = pytest.mark.parametrize("write", [write_zip, write_legacy], ids=["zip", "legacy"])
GRID = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 7.5


def read_all(path):
    return {name: found.read() for name, found in open_tensors(path).items()}


def assert_refused(path, match="", action=open_tensors):
    """The error must name the file, and `match` what it says beside that."""
    with pytest.raises(WeightsError) as caught:
        action(path)
    message = str(caught.value)
    assert os.fspath(path) in message
    assert re.search(match, message.replace(os.fspath(path), ""))


# --- torch ---


@WRITERS
@pytest.mark.parametrize("dtype", STORAGES)
def test_torch_types_become_float32_and_int64(tmp_path, write, dtype):
    values = np.array([[0, 1, 0], [1, 1, 0]]) if dtype == "bool" else np.array([[0, 1, 2], [100, 7, 127]])
    stored = (values.astype(np.float32).view(np.uint32) >> 16) if dtype == "bfloat16" else values
    found = open_tensors(write(tmp_path / "x", {"w": tensor(stored, dtype)}))["w"]
    assert (found.shape, found.dtype) == ((2, 3), dtype)
    array = found.read()
    assert array.dtype == (np.float32 if "float" in dtype else np.int64)
    assert array.flags.writeable
    np.testing.assert_array_equal(array, values)


@WRITERS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_torch_reads_each_binary_protocol(tmp_path, write, protocol):
    path = write(tmp_path / "x", OrderedDict(w=tensor(GRID), bias=tensor([1.5])), protocol)
    found = read_all(path)
    assert list(found) == ["w", "bias"]
    np.testing.assert_array_equal(found["w"], GRID)
    np.testing.assert_array_equal(found["bias"], np.float32([1.5]))


@WRITERS
def test_torch_views(tmp_path, write):
    storage = FakeStorage(GRID)
    views = {
        "transposed": (FakeTensor(storage, (4, 3, 2), (1, 4, 12)), GRID.T),
        "offset": (FakeTensor(storage, (3, 4), (4, 1), first=12), GRID[1]),
        "stepped": (FakeTensor(storage, (2, 3, 2), (12, 4, 2), first=1), GRID[:, :, 1::2]),
        "scalar": (FakeTensor(storage, (), (), first=23), GRID[1, 2, 3]),
        "one": (FakeTensor(storage, (1, 4), (2**62, 1)), GRID[0, :1]),
        "none": (FakeTensor(storage, (0, 4), (4, 1)), np.empty((0, 4))),
        "empty": (tensor(np.empty((0,))), np.empty((0,))),
    }
    found = read_all(write(tmp_path / "x", {name: view for name, (view, _) in views.items()}))
    for name, (_, expected) in views.items():
        assert found[name].shape == expected.shape, name
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
    found["transposed"][:] = 0
    assert found["offset"].any(), "views must not share memory once they are read"


@WRITERS
@pytest.mark.parametrize(
    "shape, strides, first",
    [
        ((25,), (1,), 0), ((24,), (1,), 1), ((2, 2), (23, 1), 0), ((2,), (2**62,), 0), ((10**12,), (0,), 0),
        ((2, 3), (1,), 0), ((-1,), (1,), 0), ((4,), (-1,), 3), ((4,), (1,), -1), ((2.0,), (1,), 0),
        ((True,), (1,), 0), ((1,) * 9, (1,) * 9, 0), (4, 1, 0), ((0,), (1,), 25), ((2**64,), (1,), 0),
    ],
)  # fmt: skip
def test_torch_views_outside_their_storage_are_refused(tmp_path, write, shape, strides, first):
    view = FakeTensor(FakeStorage(GRID), shape, strides, first)
    assert_refused(write(tmp_path / "x", {"w": view}), "'w'.*shape")


@WRITERS
@pytest.mark.parametrize("nest", ["state_dict", "model", "model_ema", "net"])
def test_torch_checkpoints_are_unwrapped(tmp_path, write, nest):
    state = OrderedDict({"module.conv.weight": tensor(GRID, rebuild="_rebuild_parameter")})
    state._metadata = OrderedDict({"": {"version": 1}})
    checkpoint = {
        "epoch": 90, "best_acc1": tensor([0.5]), "arch": "resnet18", "lr": (0.1, None, True, 2**70),
        "args": argparse.Namespace(lr=0.1, milestones=[30, 60]), nest: state,
        "optimizer": {"state": {0: {"momentum_buffer": tensor(GRID)}}, "param_groups": [{"params": [0, 1]}]},
    }  # fmt: skip
    found = read_all(write(tmp_path / "x", checkpoint))
    assert list(found) == ["module.conv.weight"]
    np.testing.assert_array_equal(found["module.conv.weight"], GRID)


KERNEL = np.zeros((1, 1, 1, 1))
TWO_SETS = [
    ("state_dict", "state_dict_ema", {"state_dict": "raw", "state_dict_ema": "ema"}),
    ("model", "model_ema.module", {"model": "raw", "model_ema": {"module": "ema", "decay": 0.9}}),
    ("model", "ema.shadow", {"model": "raw", "ema": {"shadow": "ema"}}),
    ("net.params", "net.swa", {"net": {"params": "raw", "swa": "ema"}, "optimizer": {"ema": "other"}}),
    ("", "ema", {"raw": tensor(KERNEL), "ema": "ema"}),
]


@pytest.mark.parametrize("raw, average, checkpoint", TWO_SETS)
def test_torch_takes_the_average_of_two_sets(tmp_path, raw, average, checkpoint):
    def filled(value):
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        return {value: tensor(KERNEL)} if isinstance(value, str) else value

    path = write_zip(tmp_path / "x", filled(checkpoint))
    for which, wanted, chosen in [(None, "ema", False), ("ema", "ema", True), ("raw", "raw", True)]:
        file = open_file(path, which)
        assert [key for key, found in file.tensors.items() if len(found.shape) == 4] == [wanted]
        assert file.chosen == chosen
        assert bool(file.note) == (which is None)
    note = open_file(path).note
    assert f"({average!r}) was taken" in note
    assert (repr(raw) if raw else "the top level") in note
    assert "which='raw'" in note
    assert list(open_file(path, average).tensors) == ["ema"]


def test_torch_refuses_to_choose_between_equals(tmp_path):
    path = write_zip(tmp_path / "x", {"student": {"w": tensor(KERNEL)}, "teacher": {"w": tensor(KERNEL)}})
    with pytest.raises(WeightsError, match=r"several sets of weights, 'student', 'teacher'.*which='student'"):
        open_file(path)
    assert open_file(path, "teacher").chosen
    with pytest.raises(
        WeightsError, match=r"no set of weights for which='ema'; there is 'student', 'teacher'"
    ):
        open_file(path, "ema")


@pytest.mark.parametrize("nest", ["model_state_dict", "params", "ema", "state_dict_ema", "anything", "a.b.c"])
def test_torch_finds_the_only_set_wherever_it_is(tmp_path, nest):
    value = {"w": tensor(KERNEL), "scalar": tensor(np.float32(1.0))}
    for key in reversed(nest.split(".")):
        value = {key: value, "epoch": 3, "optimizer": {"w": tensor(KERNEL)}, "loss": tensor([1.0])}
    file = open_file(write_zip(tmp_path / "x", value))
    assert list(file.tensors) == ["w", "scalar"]
    assert file.note == ""


@pytest.mark.parametrize(
    "beside, says",
    [
        ({"arch": "resnet50"}, {"arch": "resnet50"}),
        ({"args": argparse.Namespace(model="resnet18", lr=0.1)}, {"args.model": "resnet18"}),
        ({"hyper_parameters": {"arch": "resnet34"}}, {"hyper_parameters.arch": "resnet34"}),
        ({"model_name": "a"}, {"model_name": "a"}),
        ({"epoch": 3, "arch": 5}, {}),
    ],
)
@WRITERS
def test_torch_names_of_architectures(tmp_path, write, beside, says):
    file = open_file(write(tmp_path / "x", {"state_dict": {"w": tensor(KERNEL)}} | beside))
    assert file.says == says


def test_programs_of_torch_are_named_as_such(tmp_path):
    for entry, match in [
        ("x/code/__torch__/net.py", r"TorchScript, which is code.*torch\.jit\.load\(path\)\.state_dict\(\)"),
        ("x/constants.pkl", "TorchScript"),
        ("x/archive_format", r"torch\.export, which is code.*state_dict"),
    ]:
        with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x/data.pkl", b"x" * 1000)
            archive.writestr(entry, b"y" * 1000)
        assert_refused(tmp_path / "x.pt", match)


def test_whole_modules_are_named_as_such(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    for value in (module, {"model": module, "epoch": 3}):
        for new in (True, False):
            torch.save(value, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
            assert_refused(
                tmp_path / "x.pth", r"names 'torch\.nn.*Sequential'.* whole module .*state_dict\(\)"
            )


def test_torch_reads_the_first_rebuild_function_and_python_2(tmp_path):
    class Python2(OrderedDict):
        def __reduce__(self):
            return OrderedDict, ([[key, value] for key, value in self.items()],)

    state = Python2({"w": tensor(GRID, rebuild="_rebuild_tensor"), "b": tensor([1.0])})
    found = read_all(write_legacy(tmp_path / "x", state))
    np.testing.assert_array_equal(found["w"], GRID)
    np.testing.assert_array_equal(found["b"], [1.0])


@pytest.mark.parametrize("value", [[1, 2], {"epoch": 1}, {"state_dict": {"w": 1}}, "text", {1: None}])
def test_torch_without_a_state_dict(tmp_path, value):
    assert_refused(write_zip(tmp_path / "x", value), "no state dict")


def test_torch_big_endian_is_refused(tmp_path):
    assert_refused(write_zip(tmp_path / "zip", {"w": tensor(GRID)}, byteorder="big"), "big-endian")
    system = dict(SYSTEM, little_endian=False)
    assert_refused(write_legacy(tmp_path / "legacy", {"w": tensor(GRID)}, system=system), "big-endian")


@WRITERS
def test_torch_storage_must_have_the_declared_size(tmp_path, write):
    for numel in (23, 25, 2**61):
        view = FakeTensor(FakeStorage(GRID, numel=numel), (2,), (1,))
        assert_refused(write(tmp_path / "x", {"w": view}), "storage '0'|must have")


def test_opening_reads_no_data_and_reading_checks_it(tmp_path):
    path = write_zip(tmp_path / "x.pth", {"w": tensor(GRID), "b": tensor([3.25])})
    data = path.read_bytes()
    at = data.index(GRID.tobytes())
    path.write_bytes(data[:at] + b"\0" + data[at + 1 :] if data[at] else data[:at] + b"\1" + data[at + 1 :])
    tensors = open_tensors(path)
    assert {name: found.shape for name, found in tensors.items()} == {"w": (2, 3, 4), "b": (1,)}
    np.testing.assert_array_equal(tensors["b"].read(), [3.25])
    for _ in range(2):
        with pytest.raises(WeightsError, match=r"x\.pth: 'w'.*checksum"):
            tensors["w"].read()


def test_a_file_that_vanishes_or_shrinks_is_named(tmp_path):
    path = write_legacy(tmp_path / "x", {"w": tensor(GRID)})
    found = open_tensors(path)["w"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="shorter"):
        found.read()
    path.unlink()
    with pytest.raises(WeightsError, match="x: cannot be read"):
        found.read()


# --- safetensors ---


def test_safetensors_types(tmp_path):
    header, data, expected = {"__metadata__": {"format": "pt"}}, b"", {}
    codes = dict(F64="<f8", F32="<f4", F16="<f2", I64="<i8", I32="<i4", I16="<i2", I8="i1", U8="u1", BOOL="?")
    for code, stored in codes.items():
        expected[code] = np.array([[0, 1], [1, 0]] if code == "BOOL" else [[3, -3], [0, 100]]).astype(stored)
    expected["BF16"] = (np.float32([1.5, -2]).view("<u4") >> 16).astype("<u2")
    expected["empty"] = np.empty((0, 3), "<f4")
    for code, array in expected.items():
        end = len(data) + array.nbytes
        dtype = "F32" if code == "empty" else code
        header[code] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), end]}
        data += array.tobytes()
    found = open_tensors(write_safetensors(tmp_path / "x.bin", header, data))
    assert list(found) == list(expected)
    assert (found["BF16"].dtype, found["F16"].dtype, found["I8"].shape) == ("bfloat16", "float16", (2, 2))
    expected["BF16"] = np.float32([1.5, -2])
    for code, array in expected.items():
        read = found[code].read()
        assert read.dtype == (np.float32 if "F" in code or code == "empty" else np.int64)
        np.testing.assert_array_equal(read, array.astype(read.dtype))


def test_safetensors_of_the_library(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    arrays = {"conv.weight": GRID, "fc.bias": np.float16([1, 2]), "n": np.array(5), "z": np.zeros((0, 2))}
    library.save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = read_all(tmp_path / "x.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


# --- HDF5 ---


def test_h5_names_whatever_lies_between(tmp_path):
    layers = {
        "conv1_conv": {"conv1_conv/kernel:0": GRID, "conv1_conv/bias:0": GRID[0, 0]},
        "conv2_conv": {"conv2_conv_3/conv2_conv/kernel:0": GRID.astype(">f8")},
        "conv1_bn": {f"conv1_bn/{name}:0": GRID[0] for name in ("gamma", "beta")},
        "conv2_bn": {f"{name}": GRID[1] for name in ("moving_mean", "moving_variance")},
        "activation": {},
        "model_weights_1": {"model_weights_1/count:0": np.int32(3)},
    }
    expected = {
        "conv1_conv/kernel": GRID, "conv1_conv/bias": GRID[0, 0], "conv2_conv/kernel": GRID,
        "conv1_bn/gamma": GRID[0], "conv1_bn/beta": GRID[0], "conv2_bn/moving_mean": GRID[1],
        "conv2_bn/moving_variance": GRID[1], "model_weights_1/count": np.array(3),
    }  # fmt: skip
    for root in ("/", "/model_weights"):
        found = read_all(write_h5(tmp_path / "x", layers, root))
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert found[name].dtype == (np.int64 if name.endswith("count") else np.float32)
            np.testing.assert_array_equal(found[name], array)


def test_h5_that_keras_wrote(tmp_path):
    import keras

    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Conv2D(4, 3, name="conv1_conv")(inputs)
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="conv1_bn")(outputs))
    model.save(tmp_path / "model.h5")
    found = read_all(tmp_path / "model.h5")
    expected = {variable.path: variable.value.numpy() for variable in model.weights}
    assert found.keys() == expected.keys()
    assert len(found) == 6
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    model.save_weights(tmp_path / "model.weights.h5")
    assert_refused(tmp_path / "model.weights.h5", "layer_names")


def test_h5_models_inside_models_are_refused(tmp_path):
    weights = {"conv1/kernel:0": GRID, "conv2/kernel:0": GRID}
    assert_refused(write_h5(tmp_path / "x", {"backbone": weights}), "second 'backbone/kernel'")


# --- every format ---


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path, bad):
    values = np.float32([1, bad])
    write_zip(tmp_path / "zip", {"layer/w": tensor(values)})
    write_legacy(tmp_path / "legacy", {"layer/w": tensor(values, "float16")})
    write_h5(tmp_path / "h5", {"layer": {"w:0": values}})
    header = {"layer/w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    write_safetensors(tmp_path / "safetensors", header, values.tobytes())
    write_zip(tmp_path / "bfloat16", {"layer/w": tensor(values.view("<u4") >> 16, "bfloat16")})
    write_zip(tmp_path / "large", {"layer/w": tensor([1e300], "float64")})
    for path in sorted(tmp_path.iterdir()):
        assert list(open_tensors(path)) == ["layer/w"]
        assert_refused(path, "'?/?layer/w.*NaN or infinity", read_all)


def test_the_content_decides_not_the_name(tmp_path):
    header = {"w": {"dtype": "F32", "shape": [24], "data_offsets": [0, 96]}}
    paths = [
        write_zip(tmp_path / "a.h5", {"w": tensor(GRID)}),
        write_legacy(tmp_path / "b.safetensors", {"w": tensor(GRID)}),
        write_safetensors(tmp_path / "c.pth", header, GRID.tobytes()),
        write_h5(tmp_path / "d.pth", {"w": {"w:0": GRID}}),
    ]
    for path in paths:
        for given in (path, str(path), os.fsencode(path)):
            ((_, found),) = open_tensors(given).items()
            assert isinstance(found, Tensor)
            np.testing.assert_array_equal(found.read().ravel(), GRID.ravel())


@pytest.mark.parametrize(
    "content, match",
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "web page"),
        (b'\n{"error": "not found"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"weights", "no weight file"),
        (pickle.dumps({"w": 1}), "not one that torch.save wrote"),
        (b"PK\3\4", "zip"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x80\x02", "pickle is damaged"),
        (b"\2\0\0\0\0\0\0\0{}", "no tensors"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, match):
    (tmp_path / "given.pth").write_bytes(content)
    assert_refused(tmp_path / "given.pth", match)


def test_paths_without_a_file(tmp_path):
    assert_refused(tmp_path, "is a folder")
    assert_refused(tmp_path / "missing.pth", "no such file")
    assert issubclass(WeightsError, ValueError)


def test_a_keras_model_is_told_from_a_torch_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert_refused(tmp_path / "x.keras", "model of Keras")


# --- files of others ---


@pytest.fixture
def akamaster(shared):
    """Finds the file of a published CIFAR ResNet (github.com/akamaster/pytorch_resnet_cifar10)."""

    def find(depth):
        for path in shared.glob(f"weights/akamaster-resnet{depth}-*.th"):
            return path
        return pytest.skip(f"no weights/akamaster-resnet{depth}-*.th in {shared}")

    return find


@pytest.mark.parametrize("depth, trainable", [(20, 269_722), (32, 464_154)])
def test_akamaster_files(akamaster, depth, trainable):
    arrays = read_all(akamaster(depth))
    assert all(name.startswith("module.") for name in arrays)
    assert sum(array.size for name, array in arrays.items() if "running" not in name) == trainable
    assert arrays["module.conv1.weight"].shape == (16, 3, 3, 3)
    assert arrays["module.linear.weight"].shape == (10, 64)
    assert all(array.min() > 0 for name, array in arrays.items() if name.endswith("running_var"))


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])
def test_files_of_torch_itself(tmp_path, as_zip):
    torch = pytest.importorskip("torch")
    base = torch.randn(4, 6)
    state = {
        "plain": base, "transposed": base.T, "part": base[1:3, ::2], "scalar": torch.tensor(2.5),
        "count": torch.tensor(7), "half": base.half(), "bf16": base.bfloat16(), "double": base.double(),
        "bool": base > 0, "byte": torch.arange(5, dtype=torch.uint8), "none": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(3)), "channels_last": torch.randn(2, 3, 4, 5).contiguous(
            memory_format=torch.channels_last),
    }  # fmt: skip
    state.update(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict())
    checkpoint = {"state_dict": state, "epoch": 3}
    torch.save(checkpoint, tmp_path / "x", _use_new_zipfile_serialization=as_zip)
    loaded = torch.load(tmp_path / "x", weights_only=True)["state_dict"]
    found = open_tensors(tmp_path / "x")
    assert list(found) == list(loaded)
    for name, theirs in loaded.items():
        assert found[name].dtype == str(theirs.dtype).removeprefix("torch.")
        wide = theirs.detach().float() if theirs.is_floating_point() else theirs.long()
        np.testing.assert_array_equal(found[name].read(), wide.numpy(), err_msg=name)
        assert found[name].shape == tuple(theirs.shape)


def test_akamaster_as_torch_reads_it(akamaster):
    torch = pytest.importorskip("torch")
    path = akamaster(20)
    loaded = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    found = read_all(path)
    assert list(found) == list(loaded)
    for name, theirs in loaded.items():
        np.testing.assert_array_equal(found[name], theirs.numpy())
