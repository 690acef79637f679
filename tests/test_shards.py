"""TFRecord shards: written, resumed, read in streams, and every damage named."""

import hashlib
import json
import os
import shutil
import struct
from functools import partial
from itertools import chain

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import DataError, check_data, cli, make_dataset, prepare_tfrecords
from keras_resnet.data import prepare, shards, tfrecords
from keras_resnet.data.errors import clear_errors
from keras_resnet.files import locked


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes, each of 20 grey images in train and 5 in val, whose grey level says which they are."""
    root = tmp_path_factory.mktemp("shards") / "images"
    for split, count in (("train", 20), ("val", 5)):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                level = 100 * label + 4 * i
                Image.new("RGB", (12, 18), (level,) * 3).save(root / split / name / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def finished(images):
    out = images.parent / "out"
    assert prepare_tfrecords(images, out, shard_size=16) == {"train": 40, "val": 10}
    return out


@pytest.fixture
def prepared(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "prepared")


def read(folder, split="train", **options):
    options = dict(image_size=8, batch_size=5, training=False) | options
    with clear_errors():
        return [(x[:, 0, 0, 0].tolist(), y.tolist()) for x, y in make_dataset(folder, split, **options)
                .map(lambda x, y: (x, y)).as_numpy_iterator()]  # fmt: skip


def test_every_image_is_stored_once_and_training_images_in_random_order(finished):
    assert sorted(p.name for p in finished.iterdir()) == [
        "manifest.json", *(f"train-0000{i}.tfrecord" for i in range(3)), "val-00000.tfrecord",
    ]  # fmt: skip
    dataset = make_dataset(finished, "held_out", batch_size=4)
    assert (dataset.num_examples, dataset.class_names) == (10, ("cat", "dog"))
    levels, labels = (list(chain(*column)) for column in zip(*read(finished), strict=True))
    assert sorted(levels) == sorted(100 * label + 4 * i for label in range(2) for i in range(20))
    assert [level >= 100 for level in levels] == [label == 1 for label in labels]
    assert len(set(labels[:8])) == 2
    assert list(chain(*(y for _, y in read(finished, "val")))) == [0] * 5 + [1] * 5


def test_stream_can_start_at_any_step_and_visits_every_image(finished):
    def batches(start, count):
        dataset = make_dataset(finished, image_size=8, batch_size=5, seed=3, start_step=start).take(count)
        return [x[:, 0, 0, 0].tolist() for x, _ in dataset.as_numpy_iterator()]

    whole = batches(0, 16)
    assert len(set(chain(*whole[:8]))) == len(set(chain(*whole[8:]))) == 40
    assert whole[:8] != whole[8:]
    assert batches(11, 5) == whole[11:]


def test_parts_of_a_stream_make_up_its_batches(finished):
    def levels(share, split="train"):
        options = {"image_size": 8, "batch_size": 10, "seed": 3, "share": share}
        dataset = make_dataset(finished, split, **options).take(4)
        return [x[:, 0, 0, 0].tolist() for x, _ in dataset.as_numpy_iterator()]

    whole, parts = levels((0, 1)), [levels((part, 2)) for part in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole
    assert levels((1, 2), "held_out") == [levels((0, 1), "held_out")[0][1::2]]


def test_short_side_makes_large_images_smaller_only(images, tmp_path):
    def sizes(name):
        (shard,) = (tmp_path / name).glob("val-*")
        records = tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()
        features = [tf.train.Example.FromString(record).features.feature for record in records]
        assert features[0]["file_name"].bytes_list.value[0] == b"val/cat/00.png"
        return {shards.decode_image(f["image"].bytes_list.value[0], "").shape for f in features}

    prepare_tfrecords(images, tmp_path / "small", short_side=6)
    assert sizes("small") == {(9, 6, 3)}
    prepare_tfrecords(images, tmp_path / "same", short_side=12)
    assert sizes("same") == {(18, 12, 3)}
    with pytest.raises(DataError, match="short_side=0 must be a whole number from 1 to 4096"):
        prepare_tfrecords(images, tmp_path / "none", short_side=0)


def test_folder_without_splits_gets_two(images, tmp_path):
    sizes = prepare_tfrecords(images / "train", tmp_path / "out")
    assert sizes["train"] + sizes["held_out"] == 40
    for split in ("train", "held_out"):
        found = make_dataset(images / "train", split, batch_size=4).num_examples
        assert make_dataset(tmp_path / "out", split, batch_size=4).num_examples == found == sizes[split]
    with pytest.raises(DataError, match="no split 'val'; choose one of held_out, "):
        make_dataset(tmp_path / "out", "val")


def test_interrupted_work_goes_on_and_finished_shards_are_verified(images, finished, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(done, total):
        assert total == 50
        if done == 32:
            raise Stop

    out, written, write = tmp_path / "out", [], prepare._write_shard
    monkeypatch.setattr(
        prepare, "_write_shard", lambda out, file, *a: written.append(file) or write(out, file, *a)
    )
    with pytest.raises(Stop):
        prepare_tfrecords(images, out, shard_size=16, progress=stop)
    assert written == ["train-00000.tfrecord", "train-00001.tfrecord"]
    with pytest.raises(DataError, match="out: there is no such folder|no class folders"):
        make_dataset(out)
    flip_bit(out / written[0])
    with pytest.raises(DataError, match="holds other images or other options; give a new folder"):
        prepare_tfrecords(images, out, shard_size=8)
    prepare_tfrecords(images, out, shard_size=16)
    assert written[2:] == ["train-00000.tfrecord", "train-00002.tfrecord", "val-00000.tfrecord"]
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {
        p.name: p.read_bytes() for p in finished.iterdir()
    }
    prepare_tfrecords(images, out, shard_size=16)
    assert len(written) == 5


def test_strange_out_folder_is_refused(images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(DataError, match="out: the folder is not empty"):
        prepare_tfrecords(images, tmp_path / "out")


def test_what_was_left_at_the_very_beginning_does_not_count(images, tmp_path):
    (tmp_path / "out").mkdir()
    for name in (".part-unfinished.json", ".lock-unfinished.json", "lock"):
        (tmp_path / "out" / name).write_text("")
    assert prepare_tfrecords(images, tmp_path / "out", shard_size=16) == {"train": 40, "val": 10}
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith((".", "lock"))]


def test_one_process_prepares_a_folder(images, tmp_path):
    (tmp_path / "out").mkdir()
    with (
        locked(tmp_path / "out/lock", tmp_path / "out"),
        pytest.raises(ValueError, match=rf"out is in use by process {os.getpid()} on"),
    ):
        prepare_tfrecords(images, tmp_path / "out")


def test_bad_image_stops_with_its_name(images, tmp_path):
    root = shutil.copytree(images, tmp_path / "images")
    (root / "val/dog/03.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"val/dog/03\.png: neither JPEG"):
        prepare_tfrecords(root, tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()


def flip_bit(path, at=0.5):
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 4
    path.write_bytes(data)


def record_ends(path):
    data, ends = path.read_bytes(), [0]
    while ends[-1] < len(data):
        ends.append(ends[-1] + 16 + int.from_bytes(data[ends[-1] : ends[-1] + 8], "little"))
    return ends


def rewrite(path, **features):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(16):
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def feature(*values):
    kind = "bytes_list" if isinstance(values[0], bytes) else "int64_list"
    lists = {"bytes_list": tf.train.BytesList, "int64_list": tf.train.Int64List}
    return tf.train.Feature(**{kind: lists[kind](value=values)})


def declare(path, length):
    """A header of any length with the right checksum, in place of the second record's."""
    data, start = path.read_bytes(), record_ends(path)[1]
    header = struct.pack("<Q", length)
    path.write_bytes(data[:start] + header + struct.pack("<I", masked_crc(header)) + data[start + 12 :])


def masked_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def truncate(path, size):
    path.write_bytes(path.read_bytes()[:size])


SHARD = "train-00001.tfrecord"
AT_OPEN = {
    "missing": (lambda p: p.unlink(), "the shard cannot be read: No such file"),
    "empty": (lambda p: truncate(p, 0), "0 bytes where the manifest says"),
    "truncated in a record": (lambda p: truncate(p, record_ends(p)[7] + 9), "bytes where the manifest says"),
    "truncated at a boundary": (lambda p: truncate(p, record_ends(p)[7]), "bytes where the manifest says"),
    "longer": (lambda p: p.write_bytes(p.read_bytes() + bytes(9)), "bytes where the manifest says"),
}
# Damage that leaves the size as it is, or a manifest that was made to fit.
LIES = {f"length 2**{bits}": (partial(declare, length=2**bits), "declares") for bits in (31, 36, 40, 48, 62)}
AT_READ = {
    "bit flip in a length": (flip_bit, "declares"),
    "bit flip in a record": (partial(flip_bit, at=0.53), "damaged; `keras-resnet check-data` finds"),
    "bit flip at the start": (lambda p: flip_bit(p, 0), "declares"),
    "huge length": (lambda p: p.write_bytes(b"\xff" * 8 + p.read_bytes()[8:]), "declares"),
    "zeros": (lambda p: p.write_bytes(bytes(p.stat().st_size)), "damaged"),
    "at a boundary": (lambda p: truncate(p, record_ends(p)[7]), "damaged"),
    "in a length": (lambda p: truncate(p, record_ends(p)[7] + 5), "declares"),
    "no label": (lambda p: rewrite(p, image=feature(b"x")), "one integer `label`"),
    "no image": (lambda p: rewrite(p, label=feature(1)), "not one `image` of bytes"),
    "label of bytes": (lambda p: rewrite(p, image=feature(b"x"), label=feature(b"1")), "one integer `label`"),
    "two images": (lambda p: rewrite(p, image=feature(b"x", b"y"), label=feature(1)), "not one `image`"),
    "label 7": (lambda p: rewrite(p, image=feature(b"x"), label=feature(7)), "label 7 is wrong"),
    "no picture": (lambda p: rewrite(p, image=feature(b"x"), label=feature(1)), "a record: neither JPEG"),
} | LIES  # fmt: skip


@pytest.mark.parametrize("case", AT_OPEN)
def test_wrong_size_is_found_when_the_folder_is_opened(prepared, case):
    damage, message = AT_OPEN[case]
    damage(prepared / SHARD)
    with pytest.raises(DataError, match=rf"^\S+{SHARD}: .*{message}"):
        make_dataset(prepared)
    assert make_dataset(prepared, "val", batch_size=4).num_examples == 10
    (problem,) = check_data(prepared).problems
    assert problem.startswith(f"{prepared / SHARD}: ")


def fit_manifest(folder, sha256):
    manifest, data = json.loads((folder / "manifest.json").read_text()), (folder / SHARD).read_bytes()
    shard = manifest["splits"]["train"]["shards"][1]
    shard["bytes"] = len(data)
    if sha256:
        shard["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("case", AT_READ)
def test_other_damage_is_found_before_the_shard_is_read(prepared, case):
    damage, message = AT_READ[case]
    damage(prepared / SHARD)
    fit_manifest(prepared, sha256=False)
    with pytest.raises(DataError, match=rf"^\S+{SHARD}: damaged: its SHA-256 is \w{{64}}, not"):
        read(prepared)
    (problem,) = check_data(prepared).problems
    assert "SHA-256" in problem
    fit_manifest(prepared, sha256=True)
    with pytest.raises(DataError, match=rf"^\S+{SHARD}: .*({message})"):
        read(prepared)


def test_a_changed_image_with_the_right_checksum_is_found(prepared):
    records = list(tf.data.TFRecordDataset(str(prepared / SHARD)).as_numpy_iterator())
    changed = records[3].replace(b"\x89PNG", b"\x88PNG")
    with tf.io.TFRecordWriter(str(prepared / SHARD)) as writer:
        for record in [*records[:3], changed, *records[4:]]:
            writer.write(record)
    with pytest.raises(DataError, match=rf"{SHARD}: damaged: its SHA-256"):
        read(prepared)


def test_a_shard_is_checked_once_for_every_dataset(prepared, monkeypatch):
    checked, check = [], tfrecords.check_records
    monkeypatch.setattr(tfrecords, "check_records", lambda *a: checked.append(a[0]) or check(*a))
    iterator = iter(make_dataset(prepared, image_size=8, batch_size=8))
    for _ in range(20):
        next(iterator)
    assert sorted(checked) == [os.fsencode(prepared / f"train-0000{i}.tfrecord") for i in range(3)]


def test_a_shard_that_is_no_regular_file(prepared):
    (prepared / SHARD).unlink()
    os.mkfifo(prepared / SHARD)
    with pytest.raises(DataError, match=rf"{SHARD}: the shard cannot be read: it is a FIFO"):
        make_dataset(prepared)


def with_shard(**changes):
    shard = {"file": "train-00000.tfrecord", "images": 3, "bytes": 9, "sha256": "0" * 64} | changes
    return UNEVEN | {"splits": {"train": {"shards": [shard], "counts": [3]}}}


UNEVEN = {"format": shards.FORMAT, "classes": ["a"], "splits": {"train": {"shards": [], "counts": [3]}}}


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not a manifest"),
        ("[]", "not a manifest"),
        pytest.param("[" * 10**5, "not a manifest", id="deep"),
        (json.dumps(UNEVEN | {"classes": "ab"}), "not a manifest"),
        ('{"format": "x"}', "the format is 'x'"),
        (json.dumps(UNEVEN), "the counts of split 'train' do not add up"),
        ("[" * 100_000, "not a manifest"),
        (json.dumps(with_shard(images="3")), "images of a shard is '3'"),
        (json.dumps(with_shard(bytes=1.5)), "bytes of a shard is 1.5"),
        (json.dumps(with_shard(file="../../secret")), "the shard '../../secret' of 3 images is none of this"),
        (json.dumps(with_shard(images=-3)), "of -3 images is none of this folder"),
        (json.dumps(with_shard(more=1)), "not a manifest"),
    ],
)
def test_bad_manifest(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=message):
        make_dataset(tmp_path)


def test_commands(images, tmp_path, capsys):
    assert cli.main(["prepare", str(images), str(tmp_path / "out"), "--short-side", "10"]) == 0
    assert capsys.readouterr().out == "train: 40 images\nval: 10 images\n"
    assert cli.main(["check-data", str(tmp_path / "out")]) == 0
    assert "train: 40 images, 2 classes\n      20  cat" in capsys.readouterr().out
    flip_bit(next((tmp_path / "out").glob("val-*")))
    assert cli.main(["check-data", str(tmp_path / "out")]) == 1
    assert np.isin("SHA-256", capsys.readouterr().out.split())
