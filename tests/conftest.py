"""Fixtures that several test files share."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared():
    """The folder of real data and checkpoints that is not part of the repository."""
    for folder in (os.environ.get("KERAS_RESNET_DATA"), ROOT.parent / "shared"):
        if folder and Path(folder, "data", "tfds").is_dir():
            return Path(folder)
    pytest.skip("no real data: set KERAS_RESNET_DATA to the folder that holds data/tfds")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def save_image(tmp_path, rng):
    """Write an image of random pixels: ``save_image("a/b.png", mode="RGB", size=(16, 16))``."""

    def save(name, mode="RGB", size=(16, 16), **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        bands = len(Image.new(mode, (1, 1)).getbands())
        pixels = rng.integers(0, 256, (size[1], size[0], bands), np.uint8)
        image = (
            Image.merge(mode, [Image.fromarray(pixels[..., i]) for i in range(bands)]) if bands > 1 else None
        )
        image = image or Image.fromarray(pixels[..., 0]).convert(mode)
        image.save(path, **options)
        return path

    return save


@pytest.fixture
def folder(save_image, tmp_path):
    """Two classes of six images each."""
    for name in ("cat", "dog"):
        for i in range(6):
            save_image(f"images/{name}/{i}.png")
    return tmp_path / "images"
