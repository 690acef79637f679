"""The input: images a second of `make_dataset` and of torch's DataLoader with the same transforms."""

from __future__ import annotations

import importlib.util
import itertools
import os
import tempfile
from collections.abc import Callable

import numpy as np
from PIL import Image

from keras_resnet.benchmark.rounds import Row, take_turns
from keras_resnet.data.folder import image_files
from keras_resnet.data.pipeline import make_dataset
from keras_resnet.inference.references import import_library

_BATCH = 50
_TORCH = "torch DataLoader"


def run(photos=None, *, rounds: int = 5, images: int = 1000, workers: int | None = None) -> list[Row]:
    """Time the pipelines, each beside what it has to keep up with; ratios are within a pair.

    Training is decoding, random resized crop to 224 pixels and flip; evaluation is a resize to
    256, antialiased, and the central 224. The augmentation is that of timm's recipe A3 at 160
    pixels, beside the same crops and flips without RandAugment. The small images are 32 x 32 in
    memory, with padded crop and flip, in batches of 128.

    Args:
        photos: Folder of photographs, at any depth; by default, noise of 500 x 375 pixels.
        rounds: Rounds of each contender.
        images: Photographs in a round, and a fiftieth of the small images.
        workers: Processes of torch's loader; by default one for each core.

    Returns:
        Rows in groups: the first of each group has the ratio 1.
    """
    with tempfile.TemporaryDirectory() as folder:
        _fill(folder, photos, images)
        training = dict(image_size=224, crop="resized", flip=True)
        a3 = dict(image_size=160, crop="resized", flip=True)
        policy = dict(augment="randaugment", augment_magnitude=6.0)
        workers = workers or os.cpu_count() or 1
        groups = [
            {
                f"{_TORCH}, training": _torch(folder, True, images, workers),
                "training": _ours(folder, images, **training),
            },
            {
                f"{_TORCH}, evaluation": _torch(folder, False, images, workers),
                "evaluation": _ours(folder, images, training=False, image_size=224),
            },
            {
                "crops and flips of timm-a3": _ours(folder, images, **a3),
                "timm-a3": _ours(folder, images, **a3, **policy),
            },
            {"32 pixels in memory": _small(50 * images)},
        ]
        return list(itertools.chain(*(take_turns(group, rounds) for group in groups)))


def _fill(folder, photos, count):
    """A class folder with `count` files: links to the photographs in turn, or noise."""
    os.mkdir(f"{folder}/class")
    if photos is None:
        coarse = np.random.default_rng(0).integers(0, 256, (8, 50, 66, 3), np.uint8)
        photos = tempfile.mkdtemp(dir=folder, prefix=".")
        for i, pixels in enumerate(coarse):
            Image.fromarray(pixels).resize((500, 375)).save(f"{photos}/{i}.jpg", quality=90)
    found = sorted(image_files(os.fspath(photos)))
    if not found:
        raise ValueError(f"{photos}: there are no images in this folder.")
    for i in range(count):
        os.symlink(os.path.abspath(found[i % len(found)]), f"{folder}/class/{i:06d}.jpg")


def _ours(folder, images, **options) -> Callable[[], int]:
    options = {"training": True} | options
    dataset = make_dataset(folder, "all", batch_size=_BATCH, **options)
    return _turn(dataset.take(images // _BATCH))


def _small(images):
    pixels = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), np.uint8)
    dataset = make_dataset((pixels, np.arange(len(pixels)) % 10), batch_size=128, crop="pad", flip=True)
    return _turn(dataset.take(images // 128))


def _turn(batches):
    # A new iterator each time: one that lived on would work while the others are measured.
    return lambda: sum(len(labels) for _, labels in batches)


def _torch(folder, training, images, workers) -> Callable[[], int] | str:
    if not all(map(importlib.util.find_spec, ("torch", "torchvision"))):
        return "torch and torchvision are not both installed"
    torchvision = import_library("torchvision")
    import torch

    transforms = torchvision.transforms
    if training:
        steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
    else:
        steps = [transforms.Resize(256), transforms.CenterCrop(224)]
    photos = torchvision.datasets.ImageFolder(folder, transforms.Compose([*steps, transforms.PILToTensor()]))
    loader = torch.utils.data.DataLoader(
        photos, _BATCH, shuffle=training, num_workers=workers, persistent_workers=True, drop_last=True
    )
    return _turn(loader)
