"""Files made to do harm: each is refused by name, executes nothing, writes nothing, takes no memory."""

from __future__ import annotations

import copyreg
import io
import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib

import h5py
import numpy as np
import pytest
from test_readers import (
    GRID,
    MAGIC,
    SYSTEM,
    FakeStorage,
    FakeTensor,
    assert_refused,
    read_all,
    tensor,
    torch_pickle,
    write_h5,
    write_legacy,
    write_safetensors,
    write_zip,
)

import keras_resnet
from keras_resnet.weights.readers import WeightsError

TERA = 1 << 40
FLOATS = {"dtype": "F32", "shape": [24], "data_offsets": [0, 96]}
ENTRY, END = "<4s6H3L5H2L", "<4s4H2LH"


# --- pickles that execute something ---

RULE = (240, "os", "system")  # a code of the private range of copyreg
TORCH_GLOBALS = {
    "class": b"ctorch\nFloatStorage\n",
    "function": b"ctorch._utils\n_rebuild_tensor_v2\n",
    "ordered": b"ccollections\nOrderedDict\n",
}


def text(value):
    data = str(value).encode()
    return b"X" + struct.pack("<I", len(data)) + data


def exploits(marker):
    """Pickles of which each makes the file `marker` where ``pickle.loads`` opens it."""
    touch, system = text(f"touch '{marker}'"), b"cos\nsystem\n"
    call = system + touch + b"\x85R"
    # tuple(map(os.system, [touch])), of which the constructors do the work.
    mapped = b"cbuiltins\nmap\n" + system + b"](" + touch + b"e\x86\x81\x85"
    instance = b"ctypes\nSimpleNamespace\n)R}" + text("__setstate__") + system + b"sb"
    return {
        "reduce": b"\x80\x02" + call + b".",
        "mark": b"\x80\x02cbuiltins\neval\n(" + text(f"__import__('os').mkdir({str(marker)!r})") + b"tR.",
        "stack_global": b"\x80\x04" + text("os") + text("system") + b"\x93" + touch + b"\x85R.",
        "dotted": b"\x80\x04" + text("shutil") + text("os.system") + b"\x93" + touch + b"\x85R.",
        "inst": b"\x80\x02(" + touch + b"ios\nsystem\n.",
        "obj": b"\x80\x02(" + system + touch + b"o.",
        "newobj": b"\x80\x02cbuiltins\ntuple\n" + mapped + b"\x81.",
        "newobj_ex": b"\x80\x04cbuiltins\ntuple\n" + mapped + b"}\x92.",
        "build": b"\x80\x02" + instance + touch + b"b.",
        "extension": b"\x80\x02\x82\xf0" + touch + b"\x85R.",
        "nested": b"\x80\x02}" + text("state_dict") + b"}" + text("w") + b"(K\x01" + call + b"tss.",
        "as_argument": b"\x80\x02" + TORCH_GLOBALS["ordered"] + b"]]" + text("w") + b"a" + call + b"aa\x85R.",
        "memo": b"\x80\x02" + system + b"q\x000h\x00" + touch + b"\x85R.",
    }  # fmt: skip


EXPLOITS = pytest.mark.parametrize("name", exploits(""))


@pytest.fixture
def extension():
    copyreg.add_extension(RULE[1], RULE[2], RULE[0])
    yield
    copyreg.remove_extension(RULE[1], RULE[2], RULE[0])


def in_zip(path, data, entries=()):
    """The zip format with `data` as its pickle, and other entries."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in entries:
            archive.writestr(name, content)
    return path


def in_legacy(path, data, keys=None, tail=b""):
    """The legacy format with `data` as its fourth pickle."""
    head = b"".join(pickle.dumps(item, 2) for item in (MAGIC, 1001, SYSTEM))
    path.write_bytes(head + data + (pickle.dumps([], 2) if keys is None else keys) + tail)
    return path


def bare(path, data):
    path.write_bytes(data)
    return path


def as_keys(path, data):
    return in_legacy(path, pickle.dumps({}, 2), keys=data)


CONTAINERS = pytest.mark.parametrize("contain", [in_zip, in_legacy, bare, as_keys])


@EXPLOITS
def test_the_exploits_work_where_pickles_are_loaded(tmp_path, name, extension):
    pickle.loads(exploits(tmp_path / "marker")[name])
    assert (tmp_path / "marker").exists()


@EXPLOITS
@CONTAINERS
def test_no_exploit_is_executed(tmp_path, name, contain, extension):
    assert_refused(contain(tmp_path / "x.pth", exploits(tmp_path / "marker")[name]))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "tail", [b"}" + text("dtype") + b"K\x01sb", b"N}" + text("__defaults__") + b"Ns\x86b", b")b"]
)
@pytest.mark.parametrize("kind", ["class", "function", "ordered"])
def test_attributes_of_what_a_pickle_names_cannot_be_set(tmp_path, kind, tail):
    assert_refused(in_zip(tmp_path / "x", b"\x80\x02" + TORCH_GLOBALS[kind] + tail + b"."), "sets attributes")


def test_state_of_a_dict_is_left_out(tmp_path):
    data, storages = torch_pickle({"w": tensor(GRID)})
    state = b"}(" + text("__class__") + b"K\x01" + text("items") + TORCH_GLOBALS["class"] + b"ub."
    path = in_zip(tmp_path / "x", data[:-1] + state, [("archive/data/0", storages["0"].data)])
    np.testing.assert_array_equal(read_all(path)["w"], GRID)


@pytest.mark.parametrize(
    "body, match",
    [
        (TORCH_GLOBALS["class"] + b")R", "calls"),
        (TORCH_GLOBALS["class"] + b")\x81", "calls"),
        (text("collections.OrderedDict") + b")R", "calls"),
        (b"})R", "calls"),
        (TORCH_GLOBALS["function"] + b"]R", "calls"),
        (TORCH_GLOBALS["function"] + b")R", "damaged"),
        (TORCH_GLOBALS["function"] + b"(K\x00K\x00))tR", "damaged"),
        (TORCH_GLOBALS["ordered"] + b"K\x01\x85R", "damaged"),
        (text("torch._utils") + text("_rebuild_tensor_v2.__globals__") + b"\x93", "__globals__"),
        (text("collections") + b"K\x01\x93", "names"),
        (b"ctorch.storage\n_load_from_bytes\n", "_load_from_bytes"),
        (b"cnumpy.core.multiarray\nscalar\n", "scalar"),
        (text("module") + b"N\x86Q", "no storage"),
        (b"Pmodule\n", "PERSID"),
        (b"S'\\d'\n", "STRING"),
        (b"(" + text("storage") + TORCH_GLOBALS["ordered"] + text("0") + text("cpu") + b"K\x01tQ", "no type"),
        (b"(" + text("storage") + TORCH_GLOBALS["class"] + b"K\x00" + text("cpu") + b"K\x01tQ", "no type"),
        (b"(" + text("storage") + TORCH_GLOBALS["class"] + text("0") + b"NJ\xff\xff\xff\xfftQ", "no type"),
        (b"(" + text("storage") + TORCH_GLOBALS["class"] + text("0") + b"NK\x01)tQ", "no storage"),
        (b"]" + text("w") + b"K\x01s", "dict"),
        (b"}K\x01a", "list"),
        (b"}(" + text("w") + b"u", "damaged"),
        (b"h\x05", "damaged"),
        (b"0", "POP"),
        (b"NN", "damaged"),
        (b"\x97", "NEXT_BUFFER"),
        (b"\xff", "damaged"),
    ],
)  # fmt: skip
def test_pickles_that_torch_does_not_write(tmp_path, body, match):
    for contain in (in_zip, in_legacy):
        assert_refused(contain(tmp_path / "x", b"\x80\x04" + body + b"."), match)


@pytest.mark.parametrize("keys", [["1"], [], ["0", "0"], ["0", "1"], [0], [["0"]], "0", {"0": 0}])
def test_legacy_lists_of_storages_that_lie(tmp_path, keys):
    data, storages = torch_pickle({"w": tensor(GRID)}, view=(None,))
    tail = (24).to_bytes(8, "little") + storages["0"].data
    path = in_legacy(tmp_path / "x", data, pickle.dumps(["0"], 2), tail)
    assert len(read_all(path)) == 1
    assert_refused(in_legacy(path, data, pickle.dumps(keys, 2), tail * 2), "list of its storages")


def test_storages_declared_in_two_ways(tmp_path):
    numbers = {"w": FakeStorage(GRID, key="0"), "v": FakeStorage(GRID, "int32", key="0")}
    state = {name: FakeTensor(storage, (1,), (1,)) for name, storage in numbers.items()}
    assert_refused(write_zip(tmp_path / "zip", state), "two ways")
    assert_refused(write_legacy(tmp_path / "legacy", state), "two ways")


# --- zip ---


@pytest.mark.parametrize("name", ["../outside", "archive/../../outside", "/{}/outside", "a\\..\\outside"])
def test_zip_names_that_lead_out(tmp_path, monkeypatch, name):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    data, storages = torch_pickle({"w": tensor(GRID)})
    entries = [("archive/data/0", storages["0"].data), (name.format(tmp_path), b"harm")]
    path = in_zip(inner / "x.pth", data, entries)
    before = sorted(tmp_path.rglob("*"))
    assert_refused(path, "leads out")
    assert sorted(tmp_path.rglob("*")) == before


def test_zip_storage_keys_name_entries_only(tmp_path):
    (tmp_path / "data").write_bytes(GRID.tobytes())
    for key in ("../../data", str(tmp_path / "data"), "../data.pkl"):
        data, _ = torch_pickle({"w": FakeTensor(FakeStorage(GRID, key=key), (24,), (1,))})
        assert_refused(in_zip(tmp_path / "x", data), "is missing")


def test_zip_entries_are_unique_plain_and_inside(tmp_path):
    data, storages = torch_pickle({"w": tensor(GRID)})
    path = in_zip(tmp_path / "x", data, [("archive/data/0", storages["0"].data)])
    good = path.read_bytes()
    at = good.rindex(b"PK\1\2")
    for offset, value, match in [
        (8, b"\1\0", "encrypted"), (10, b"\x08\0", "compressed"), (20, b"\1\0\0\0", "compressed"),
        (20, b"\0\0\0\x7f" * 2, "truncated"), (42, b"\1\0\0\0", "no header"),
        (42, b"\xff\xff\xff\x7f", "no header"),
    ]:  # fmt: skip
        path.write_bytes(good[: at + offset] + value + good[at + offset + len(value) :])
        assert_refused(path, match)
    path.write_bytes(good.replace(b"archive/data/0", b"archive/data.pk").replace(b"pkarchive", b"pk"))
    assert_refused(path)
    with pytest.warns(UserWarning, match="Duplicate name"):
        in_zip(path, data, [("archive/data.pkl", data), ("archive/data/0", storages["0"].data)])
    assert_refused(path, "twice")


def test_each_flipped_bit_of_a_zip_is_found_or_harmless(tmp_path):
    state = {"w": tensor(GRID), "b": tensor([1.0, 2.0])}
    path = write_zip(tmp_path / "x.pth", state)
    good, expected = path.read_bytes(), read_all(path)
    rng = np.random.default_rng(0)
    anywhere = rng.integers(len(good), size=400)
    at = good.index(GRID.tobytes())
    of_data = at + rng.integers(GRID.nbytes, size=50)
    refused = 0
    for position in [*anywhere, *of_data]:
        flipped = bytearray(good)
        flipped[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            found = read_all(path)
        except WeightsError as error:
            refused += os.fspath(path) in str(error)
            continue
        assert not at <= position < at + GRID.nbytes, "a changed weight was read"
        assert list(found) == list(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
    # The rest are dates, versions and attributes of entries, and what is no part of the weights.
    assert refused > 225


# --- HDF5 ---


def _soft(file, folder):
    file["conv/kernel:0"] = h5py.SoftLink("/hidden")
    file.attrs["hidden"] = 1


def _external(file, folder):
    file["conv/kernel:0"] = h5py.ExternalLink("secret.h5", "/data")


def _external_layer(file, folder):
    file["conv"] = h5py.ExternalLink("secret.h5", "/")


def _external_root(file, folder):
    file["model_weights"] = h5py.ExternalLink("secret.h5", "/")


def _raw(file, folder):
    external = [(str(folder / "secret.txt"), 0, 96)]
    file.create_dataset("conv/kernel:0", (24,), "f4", external=external)


def _virtual(file, folder):
    layout = h5py.VirtualLayout((24,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "data", (24,))
    file.create_group("conv").create_virtual_dataset("kernel:0", layout)


def _cycle(file, folder):
    group = file.create_group("conv")
    group["conv"] = group


def _deep(file, folder):
    file["/".join("abcdefghijklmnop")] = GRID


def _objects(file, folder):
    file["conv/kernel:0"] = np.array(["text", "more"], dtype=h5py.string_dtype())


def _references(file, folder):
    file["conv/kernel:0"] = np.array([file.ref], dtype=h5py.ref_dtype)


def _compound(file, folder):
    file["conv/kernel:0"] = np.zeros(3, "f4,f4")


def _complex(file, folder):
    file["conv/kernel:0"] = np.zeros(3, "c8")


def _nothing(file, folder):
    file["conv/kernel:0"] = h5py.Empty("f4")


def _type(file, folder):
    file["conv/kernel:0"] = np.dtype("f4")


def _loose(file, folder):
    file["kernel:0"] = GRID


def _filtered(file, folder):
    file.create_dataset("conv/kernel:0", data=GRID, compression="gzip")


HDF5 = {
    _soft: "link", _external: "link", _external_layer: "link", _external_root: "link", _raw: "external",
    _virtual: "virtual", _cycle: "linked twice", _deep: "too deep", _objects: "no array",
    _references: "no array", _compound: "no array", _complex: "no array", _nothing: "no array",
    _type: "neither", _loose: "in no layer", _filtered: "compressed",
}  # fmt: skip


@pytest.mark.parametrize("build, match", HDF5.items(), ids=[build.__name__[1:] for build in HDF5])
def test_hdf5_that_leads_elsewhere_or_is_no_array(tmp_path, build, match):
    (tmp_path / "secret.txt").write_bytes(b"secret" * 16)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data"], file["layer/kernel:0"] = GRID.ravel(), GRID
        file.attrs["layer_names"] = [b"layer"]
    path = write_h5(tmp_path / "x.h5", {"good": {"good/kernel:0": GRID}})
    assert len(read_all(path)) == 1
    with h5py.File(path, "a") as file:
        build(file, tmp_path)
    assert_refused(path, match)


# --- safetensors ---


@pytest.mark.parametrize(
    "header, match",
    [
        ({"w": dict(FLOATS, data_offsets=[0, 100])}, "takes 96"),
        ({"w": dict(FLOATS, data_offsets=[4, 100])}, "begins at"),
        ({"w": dict(FLOATS, shape=[25], data_offsets=[0, 100])}, "take 100 bytes"),
        ({"w": dict(FLOATS, shape=[23], data_offsets=[0, 92])}, "take 92 bytes"),
        ({"w": dict(FLOATS, data_offsets=[96, 0])}, "takes 96"),
        ({"w": dict(FLOATS, data_offsets=[-96, 0])}, "two non-negative"),
        ({"w": dict(FLOATS, data_offsets=[0.0, 96])}, "two non-negative"),
        ({"w": dict(FLOATS, data_offsets=[0, 96, 96])}, "two non-negative"),
        ({"w": dict(FLOATS, data_offsets=96)}, "two non-negative"),
        ({"w": FLOATS, "v": FLOATS}, "begins at"),
        ({"w": FLOATS, "v": dict(FLOATS, shape=[1], data_offsets=[92, 96])}, "begins at"),
        ({"w": dict(FLOATS, dtype="F64")}, "takes 192"),
        ({"w": dict(FLOATS, dtype="F16")}, "takes 48"),
        ({"w": dict(FLOATS, dtype="F8_E4M3")}, "dtype"),
        ({"w": dict(FLOATS, dtype=["F32"])}, "dtype"),
        ({"w": dict(FLOATS, shape=[-4, -6])}, "shape"),
        ({"w": dict(FLOATS, shape=[True, 24])}, "shape"),
        ({"w": dict(FLOATS, shape=[24.0])}, "shape"),
        ({"w": dict(FLOATS, shape=24)}, "shape"),
        ({"w": dict(FLOATS, shape=[1] * 40 + [24])}, "shape"),
        ({"w": dict(FLOATS, shape=[2**32, 2**32], data_offsets=[0, 2**64])}, "two non-negative"),
        ({"w": dict(FLOATS, shape=[2**62, 4], data_offsets=[0, 0])}, "takes"),
        ({"w": dict(FLOATS, more=1)}, "exactly"),
        ({"w": {"dtype": "F32"}}, "exactly"),
        ({"w": [24]}, "exactly"),
        (b'{"w": ' + json.dumps(FLOATS).encode() + b', "w": 1}', "twice"),
        (b'{"w": ' + b"[" * 100_000, "no JSON"),
        (b'{"w": ' + b"9" * 10_000 + b"}", "no JSON"),
        (b'{"w\xff": 1}', "no JSON"),
        (b"{", "no JSON"),
    ],
)
def test_safetensors_headers_that_lie(tmp_path, header, match):
    assert_refused(write_safetensors(tmp_path / "x", header, GRID.tobytes()), match)


@pytest.mark.parametrize("length", [0, 91, 188, 100 << 20, 2**63, 2**64 - 1])
def test_safetensors_lengths_that_lie(tmp_path, length):
    path = write_safetensors(tmp_path / "x", {"w": FLOATS}, GRID.tobytes())
    assert len(read_all(path)) == 1
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    assert_refused(path, "header")


# --- every format ---


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "h5"])
def test_truncated_files(tmp_path, kind):
    path, state = tmp_path / "x", {"w": tensor(GRID), "b": tensor([1.0, 2.0])}
    if kind == "zip":
        write_zip(path, state)
    elif kind == "legacy":
        write_legacy(path, state)
    elif kind == "h5":
        write_h5(path, {"conv": {"conv/kernel:0": GRID, "conv/bias:0": GRID[0, 0]}})
    else:
        write_safetensors(path, {"w": FLOATS}, GRID.tobytes())
    good = path.read_bytes()
    assert read_all(path)
    for length in sorted({len(good) * step // 100 for step in range(100)} | {len(good) - 1}):
        path.write_bytes(good[:length])
        assert_refused(path)


def _torch_bombs(folder):
    storage = FakeStorage(GRID)
    lying = FakeStorage(GRID, numel=TERA)
    write_legacy(folder / "legacy_stride", {"w": FakeTensor(storage, (TERA,), (0,))})
    write_zip(folder / "zip_stride", {"w": FakeTensor(storage, (TERA,), (0,))})
    write_legacy(folder / "legacy_numel", {"w": FakeTensor(lying, (TERA,), (1,))})
    write_zip(folder / "zip_numel", {"w": FakeTensor(lying, (TERA,), (1,))})
    pair = b"h\x00h\x00\x86q\x00"
    pairs = b"](" + (b"]" + text("w") + b"aNa") * 60_000 + b"eq\x00"
    repeated = TORCH_GLOBALS["ordered"] + b"q\x01" + pairs + b"h\x01h\x00\x85R" * 60_000
    pickles = {
        "instructions": b"}" * 4_000_000,
        "memo": b"Nr\xff\xff\xff\x7f.",
        "bytes": b"\x8e" + struct.pack("<Q", TERA),
        "text": b"\x8d" + struct.pack("<Q", 2**62),
        "number": b"\x8b" + struct.pack("<I", 2**31 - 1) + b"\1" * 1000,
        # One character beyond the first 65,536 makes each of the others take four bytes.
        "wide_text": b"X" + struct.pack("<I", 15_000_000) + b"a" * 14_999_996 + "😀".encode() + b".",
        "wider_text": b"X" + struct.pack("<I", 70_000_000) + b"a" * 69_999_996 + "😀".encode() + b".",
        "hash": b"Nq\x00" + pair * 200 + b"}h\x00Ns.",
        "copies": repeated + b".",
        "nested": b"N" + b"\x85" * 300_000 + b".",
    }
    for name, body in pickles.items():
        in_zip(folder / f"zip_{name}", b"\x80\x04" + body)
        if name not in ("instructions", "copies", "nested"):  # these take seconds
            in_legacy(folder / f"legacy_{name}", b"\x80\x04" + body)


def _zip_bombs(folder):
    with zipfile.ZipFile(folder / "deflated", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", bytes(300 << 20))
    entry = struct.pack(ENTRY, b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0) + b"a/b"
    for count in (70_000, 600_000):
        size = len(entry) * count
        end = struct.pack(END, b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, size, 30, 0)
        (folder / f"directory_{count}").write_bytes(b"PK\3\4".ljust(30, b"\0") + entry * count + end)


def _hdf5_bombs(folder):
    bombs = {
        "filled": dict(chunks=(1 << 20,), compression="gzip"), "sparse": dict(chunks=(1 << 20,)), "late": {},
    }  # fmt: skip
    for name, options in bombs.items():
        with h5py.File(write_h5(folder / f"h5_{name}", {"conv": {}}), "a") as file:
            file["conv"].create_dataset("kernel:0", (TERA,), "f4", **options)
    count, chunk = 400, zlib.compress(bytes(1 << 20))
    with h5py.File(write_h5(folder / "h5_compressed", {"conv": {}}), "a") as file:
        shape, chunks = (count << 18,), (1 << 18,)
        data = file["conv"].create_dataset("kernel:0", shape, "f4", chunks=chunks, compression="gzip")
        for index in range(count):
            data.id.write_direct_chunk((index << 18,), chunk)


def _safetensors_bombs(folder):
    huge = {"w": {"dtype": "F32", "shape": [TERA], "data_offsets": [0, 4 * TERA]}}
    write_safetensors(folder / "safetensors_shape", huge, GRID.tobytes())
    write_safetensors(folder / "safetensors_offsets", {"w": dict(FLOATS, shape=[TERA])}, GRID.tobytes())
    for size in (4, 40):
        body = b'{"w": [' + b"{}," * ((size << 20) // 3 - 10) + b"{}]}"
        write_safetensors(folder / f"safetensors_header_{size}", body)


# The package itself is left out, so that the measure is of the readers and not of TensorFlow.
SCRIPT = """
import json, pathlib, sys, time, types
for name, path in (("keras_resnet", sys.argv[1]), ("keras_resnet.weights", sys.argv[1] + "/weights")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from keras_resnet.weights.readers import WeightsError, open_tensors

def peak():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

found = {"modules": sorted(sys.modules), "start": peak()}
for path in sorted(pathlib.Path(sys.argv[2]).iterdir()):
    begin = time.process_time()
    try:
        for tensor in open_tensors(path).values():
            tensor.read()
        outcome = "was read"
    except WeightsError as error:
        outcome = "refused" if str(path) in str(error) else "refused without its name"
    found[path.name] = outcome, peak(), time.process_time() - begin
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
def test_bombs_take_neither_memory_nor_time(tmp_path):
    _torch_bombs(tmp_path)
    _zip_bombs(tmp_path)
    _hdf5_bombs(tmp_path)
    _safetensors_bombs(tmp_path)
    package = str(pathlib.Path(keras_resnet.__file__).parent)
    command = [sys.executable, "-W", "error", "-c", SCRIPT, package, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    modules, start = set(found.pop("modules")), found.pop("start")
    assert not modules & {"torch", "tensorflow", "keras"}
    assert len(found) == len(list(tmp_path.iterdir())) > 25
    for name, (outcome, peak, seconds) in found.items():
        assert outcome == "refused", name
        assert peak - start < 256 * 1024, f"{name} took {(peak - start) // 1024} MB"
        assert seconds < 15, f"{name} took {seconds:.1f} s"


# --- .npz ---


@pytest.fixture(scope="module")
def arrays():
    file, pixels = io.BytesIO(), np.arange(192, dtype=np.uint8).reshape(4, 4, 4, 3)
    np.savez_compressed(
        file, x_train=pixels, y_train=np.arange(4) % 2, x_test=pixels, y_test=np.arange(4) % 2
    )
    return file.getvalue()


def test_damaged_npz_files_are_read_or_refused_by_name(tmp_path, arrays, rng):
    path, refused = tmp_path / "x.npz", 0
    for _ in range(400):
        data = bytearray(arrays)
        for at in rng.integers(len(data), size=3):
            data[at] = rng.integers(256)
        path.write_bytes(data[: rng.integers(len(data)) if rng.integers(4) == 0 else None])
        try:
            keras_resnet.make_dataset(path, "test", batch_size=2)
        except keras_resnet.DataError as error:
            assert str(error).startswith(f"{path}: ") or "label" in str(error)
            assert "\n" not in str(error)
            refused += 1
    assert refused > 200


def test_npz_that_unpacks_to_much_more_is_refused(tmp_path, arrays):
    path = tmp_path / "x.npz"
    path.write_bytes(arrays)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("more.npy", "w") as entry:
        for _ in range(280):
            entry.write(bytes(2**20))
    with pytest.raises(keras_resnet.DataError, match=r"x\.npz: .* bytes unpack to 293,60\d,\d{3}$"):
        keras_resnet.make_dataset(path, "test", batch_size=2)


def test_one_array_named_npz_is_refused(tmp_path):
    with open(tmp_path / "x.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(
        keras_resnet.DataError, match="not a readable .npz of plain arrays: File is not a zip"
    ):
        keras_resnet.make_dataset(tmp_path / "x.npz")


def test_a_snapshot_that_is_no_regular_file(tmp_path):
    from keras_resnet.training import snapshots

    (tmp_path / "step_1").mkdir()
    os.mkfifo(tmp_path / "step_1" / snapshots.SUMS)
    with pytest.raises(OSError, match="it is a FIFO, not a regular file"):
        snapshots._open(tmp_path / "step_1")
