"""A folder of images to TFRecord shards."""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_resnet.arguments import side, whole
from keras_resnet.data.contents import Unused
from keras_resnet.data.decode import MAX_PIXELS, decode_image, read_file, show
from keras_resnet.data.errors import DataError
from keras_resnet.data.folder import Folder, open_folder
from keras_resnet.data.holdout import hold_out
from keras_resnet.data.shards import FORMAT, MANIFEST, Shard, check_shard, digest, is_prepared
from keras_resnet.data.workers import threads
from keras_resnet.files import locked, open_regular, written_aside

_UNFINISHED = "unfinished.json"
_LOCK = "lock"
_QUALITY = 95


def prepare_tfrecords(
    root,
    out,
    *,
    short_side: int | None = None,
    shard_size: int = 1024,
    layout: str | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write a folder of class folders as TFRecord shards, which `make_dataset` reads in streams.

    Every image is decoded once, in threads; the bytes of those that are not made smaller are kept.
    The split "train" is stored in random order. A folder without splits gets "train" and
    "held_out", about a fifth of it. What is interrupted continues where it was when called again with the
    same arguments: finished shards are verified and kept.

    Args:
        root: The folder of images; see `make_dataset`.
        out: The folder to write to: new, empty, or left unfinished by the same call.
        short_side: Images whose short side is longer are resized to this many pixels (bicubic) and
            stored as JPEG of quality 95.
        shard_size: Images in a shard.
        layout: "splits" or "classes": what the folders in `root` are; see `make_dataset`.
        max_pixels: Images of more pixels are refused, and smaller ones that would take much more memory
            than so small a file should; by default 2**26 (64 Mpixel).
        progress: Called with (images done, images in all).

    Returns:
        How many images each split has.

    Raises:
        DataError: an image cannot be read, or `out` holds something else.
    """
    try:
        shard_size, max_pixels = whole("shard_size", shard_size), whole("max_pixels", max_pixels)
        short_side = None if short_side is None else side("short_side", short_side)
    except ValueError as error:
        raise DataError(str(error)) from None
    root, out = os.fspath(root), os.fspath(out)
    unused = Unused()
    splits = open_folder(root, layout, unused)
    if line := unused.summary():
        warnings.warn(line, stacklevel=2)
    if list(splits) in (["all"], ["train"]):
        (every,) = splits.values()
        splits = {"train": hold_out(every, False), "held_out": hold_out(every, True)}
    sizes = {name: len(folder.paths) for name, folder in splits.items()}
    os.makedirs(out, exist_ok=True)
    encode = partial(_example, root=root, short_side=short_side, max_pixels=max_pixels)
    with locked(os.path.join(out, _LOCK), out):
        state = _open_state(out, _fingerprint(root, splits, short_side, shard_size))
        _write_shards(out, splits, sizes, state, shard_size, encode, progress)
    return sizes


def _write_shards(out, splits, sizes, state, shard_size, encode, progress):
    done, shards = 0, {name: [] for name in splits}
    with threads() as pool:
        for name, folder in splits.items():
            order = np.arange(sizes[name])
            if name == "train":
                np.random.default_rng(0).shuffle(order)
            for number, start in enumerate(range(0, len(order), shard_size)):
                part, file = folder.take(order[start : start + shard_size]), f"{name}-{number:05d}.tfrecord"
                shard = Shard(**state["shards"][file]) if file in state["shards"] else None
                if shard is None or check_shard(out, shard):
                    shard = _write_shard(out, file, part, encode, pool)
                    state["shards"][file] = asdict(shard)
                    _write_json(out, _UNFINISHED, state)
                shards[name].append(shard)
                done += len(part.paths)
                if progress:
                    progress(done, sum(sizes.values()))
    _write_manifest(out, splits, shards, state["fingerprint"])


def _open_state(out, fingerprint):
    """What an earlier call has finished: the shards by name."""
    state = {"fingerprint": fingerprint, "shards": {}}
    name = MANIFEST if is_prepared(out) else _UNFINISHED
    path = os.path.join(out, name)
    if not os.path.exists(path):
        # What is left of a call that was killed at its very beginning is nobody's.
        if set(os.listdir(out)) - {_LOCK, f".part-{_UNFINISHED}", f".lock-{_UNFINISHED}"}:
            raise DataError(f"{show(out)}: the folder is not empty; give a new one.")
        _write_json(out, _UNFINISHED, state)
        return state
    try:
        with open_regular(path) as file:
            found = json.load(file)
        if found["fingerprint"] != fingerprint:
            raise DataError(f"{show(out)}: holds other images or other options; give a new folder.")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{show(path)}: cannot be read: {error!r}; give a new folder.") from error
    if name == MANIFEST:
        return state | {"shards": {s["file"]: s for part in found["splits"].values() for s in part["shards"]}}
    return found


def _fingerprint(root, splits, short_side, shard_size):
    """What decides the contents of the shards, as a SHA-256."""
    summary = hashlib.sha256(f"{FORMAT} {short_side} {shard_size}".encode())
    for name, folder in splits.items():
        summary.update(repr((name, folder.class_names, folder.labels)).encode())
        for path in folder.paths:
            summary.update(os.fsencode(os.path.relpath(path, root)) + b"\0%d\0" % os.path.getsize(path))
    return summary.hexdigest()


def _write_shard(out, file, part: Folder, encode, pool) -> Shard:
    path = os.path.join(out, file)
    examples = pool.map(encode, part.paths, part.labels)
    try:
        with tf.io.TFRecordWriter(path + ".part") as writer:
            for example in examples:
                writer.write(example)
        shard = Shard(file, len(part.paths), os.path.getsize(path + ".part"), digest(path + ".part"))
        os.replace(path + ".part", path)
    except (tf.errors.OpError, OSError) as error:
        raise DataError(f"{show(path)}: cannot be written: {error}") from error
    return shard


def _example(path, label, root, short_side, max_pixels):
    data = _shrunk(read_file(path, max_pixels), show(path), short_side, max_pixels)
    name = os.fsencode(os.path.relpath(path, root))

    def of_bytes(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    number = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
    feature = {"image": of_bytes(data), "label": number, "file_name": of_bytes(name)}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def _shrunk(data, name, short_side, max_pixels):
    image = Image.fromarray(decode_image(data, name, max_pixels=max_pixels))
    side = min(image.size)
    if short_side is None or side <= short_side:
        return data
    size = tuple(round(extent * short_side / side) for extent in image.size)
    file = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _write_manifest(out, splits, shards, fingerprint):
    manifest = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "classes": next(iter(splits.values())).class_names,
        "splits": {},
    }
    for name, folder in splits.items():
        labels = Counter(folder.labels)
        counts = [labels[i] for i in range(len(folder.class_names))]
        manifest["splits"][name] = {"counts": counts, "shards": list(map(asdict, shards[name]))}
    _write_json(out, MANIFEST, manifest)
    if os.path.exists(unfinished := os.path.join(out, _UNFINISHED)):
        os.remove(unfinished)


def _write_json(folder, name, value):
    with written_aside(os.path.join(folder, name)) as part, open(part, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
