"""Published weights as one row of data each: where they lie, and how their figure was measured.

The rows are in ``records.json``, one a line. Names are ``<source>/<model>.<tag>`` as the
source has them: ``torchvision/resnet50.imagenet1k_v2``, ``timm/resnet50d.ra2_in1k``; those of
keras.applications are ``keras/<variant>``, and those that lie in this package
``keras_resnet/<variant>.<tag>``. Standard library only.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources

from keras_resnet.nearest import suggest
from keras_resnet.transform import INTERPOLATIONS, Geometry

DATASETS = {"imagenet": "ImageNet", "cifar10": "CIFAR-10"}
LAYOUTS = ("torchvision", "timm", "timm_v2", "keras_v1", "keras_v2", "keras_resnet")

# What a file's name follows in the URL of weights that come with this package.
PACKAGED = "package:"

# The names that keras.applications itself gives to the networks.
ALIASES = {f"keras/resnet{depth}": f"keras/resnet{depth}v1" for depth in (50, 101, 152)} | {
    f"keras/resnet{depth}v2": f"keras/resnet{depth}v2_keras" for depth in (50, 101, 152)
}


@dataclass(frozen=True, kw_only=True)
class Transform:
    """How an image becomes the network's input; raises ``ValueError`` for an unknown choice.

    The short side is resized to `resize` pixels, the middle `size` x `size` pixels are kept,
    values are scaled to 0-1, then ``(value - mean) / std``.

    Attributes:
        size: side of the input, in pixels.
        crop_fraction: `size` over the short side before the crop, at most 1.
        interpolation: ``"bilinear"`` or ``"bicubic"``.
        antialias: shrink with a filter as wide as the scale, as Pillow does (half a point to a
            point of top-1, mlcommons/inference#201); OpenCV and TensorFlow's default do not.
        mean: of red, green and blue on the 0-1 scale, in this order even if `bgr`.
        std: of red, green and blue on the 0-1 scale.
        bgr: the network takes blue, green, red; the channels are reversed last.
    """

    size: int
    crop_fraction: float
    interpolation: str
    antialias: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False

    def __post_init__(self):
        _check("interpolation", self.interpolation, INTERPOLATIONS)
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction={self.crop_fraction!r} must be above 0 and at most 1.")

    @property
    def resize(self) -> int:
        """The short side before the crop, in pixels; rounded down, as timm does."""
        return math.floor(self.size / self.crop_fraction)

    @property
    def geometry(self) -> Geometry:
        """The resize and crop alone."""
        return Geometry(
            size=self.size, crop_fraction=self.crop_fraction, interpolation=self.interpolation,
            antialias=self.antialias,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Record:
    """One file of published weights; raises ``ValueError`` for an unknown layout.

    Attributes:
        name: ``<source>/<model>.<tag>``.
        variant: the architecture, a name of `keras_resnet.VARIANTS`.
        url: of the file, http or https; or ``package:`` and its name in this package.
        layout: how its tensors are named and laid out; one of `LAYOUTS`.
        transform: the one with which `top1` was measured; so `transform.size` is its test size.
        num_classes: 1000 (ImageNet-1k), 11821 (timm's subset of ImageNet-22k), 21843
            (ImageNet-21k) or 10 (CIFAR-10).
        licence: SPDX identifier, lower-case.
        commercial: ``False`` if the licence forbids commercial use.
        sha256: of the file in hex, or its first eight digits, which torchvision's file names
            hold; ``None`` where it is not published.
        md5: of the file in hex, which is what keras.applications publishes; else ``None``.
        revision: git revision of the Hugging Face repository, else ``None``.
        top1: published accuracy in percent, on ImageNet-1k's validation or CIFAR-10's test
            split; ``None`` if not known.
        top1_source: where `top1` was read.
        data: what `top1` and the classes belong to; one of `DATASETS`.
        class_names: in the order of the network's outputs; empty where not known.
    """

    name: str
    variant: str
    url: str
    layout: str
    transform: Transform
    num_classes: int
    licence: str
    commercial: bool
    sha256: str | None = None
    md5: str | None = None
    revision: str | None = None
    top1: float | None = None
    top1_source: str | None = None
    data: str = "imagenet"
    class_names: tuple[str, ...] = ()

    def __post_init__(self):
        _check("layout", self.layout, LAYOUTS)
        _check("data", self.data, DATASETS)

    @property
    def source(self) -> str:
        """Who publishes it: ``"torchvision"``, ``"timm"``, ``"keras"`` or ``"keras_resnet"``."""
        return self.name.partition("/")[0]

    @property
    def file(self) -> str:
        """A file name that no other record of the source has."""
        file = self.url.removeprefix(PACKAGED).rpartition("/")[2]
        # Every repository on Hugging Face calls its file so.
        return f"{self.name.partition('/')[2]}.safetensors" if file == "model.safetensors" else file


def get_record(name: str) -> Record:
    """The record called `name`; keras.applications' own names, ``"keras/resnet50"``, work too.

    Raises:
        ValueError: there is no such record; the message lists the nearest names.
    """
    records = _records()
    known = ALIASES.get(name, name)
    if known not in records:
        hint = suggest(name, [*records, *ALIASES], "list_records() lists those there are.", n=4)
        raise ValueError(f"weights={name!r}: there is no such record; {hint}")
    return records[known]


def list_records(variant: str | None = None) -> list[str]:
    """The names of all records, or of those of one `variant` (none: an empty list)."""
    return [record.name for record in _records().values() if variant in (None, record.variant)]


def best_record(variant: str, data: str = "imagenet") -> Record:
    """The record that ``weights="imagenet"`` or ``weights="cifar10"`` means for `variant`.

    Of the weights for ImageNet-1k (or CIFAR-10) whose licence allows commercial use, those with
    the highest published top-1; of equals, the one whose name sorts first.

    Raises:
        ValueError: there is none.
    """
    candidates = [
        record
        for record in map(get_record, list_records(variant))
        if record.commercial and record.top1 is not None and record.data == data
    ]
    if not candidates:
        raise ValueError(_nothing_for(variant, data))
    return min(candidates, key=lambda record: (-record.top1, record.name))


def resolve(weights, variant: str):
    """The name of the `best_record` for the name of a dataset; other weights as they are."""
    known = isinstance(weights, str) and weights in DATASETS
    return best_record(variant, weights).name if known else weights


@functools.cache
def _records() -> dict[str, Record]:
    text = resources.files(__package__).joinpath("records.json").read_text(encoding="utf-8")
    return {row["name"]: _record(row) for row in json.loads(text)}


def _record(row):
    transform = row["transform"]
    lists = {key: tuple(transform[key]) for key in ("mean", "std")}
    names = tuple(row.get("class_names", ()))
    return Record(**row | {"transform": Transform(**transform | lists), "class_names": names})


def _nothing_for(variant, data):
    message = f"variant={variant!r} has no {DATASETS[data]} weights that are free for commercial use"
    if names := list_records(variant):
        return f"{message}; by name there are: {', '.join(names)}."
    return f"{message}, nor any others; build it with weights=None."


def _check(name, value, allowed):
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {allowed}.")
