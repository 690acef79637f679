"""The published weights: every row is plausible, and the figures are those of the sources."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from keras_resnet.variants import VARIANTS
from keras_resnet.weights.records import ALIASES, best_record, get_record, list_records, resolve

NAMES = list_records()
MEANS = {
    (0.485, 0.456, 0.406): (0.229, 0.224, 0.225),
    (0.5, 0.5, 0.5): (0.5, 0.5, 0.5),
    (123.68 / 255, 116.779 / 255, 103.939 / 255): (1 / 255, 1 / 255, 1 / 255),
}
# Name: (digits in the file name, resize, top-1 in percent), from torchvision 0.28.
TORCHVISION = {
    "resnet18.imagenet1k_v1": ("f37072fd", 256, 69.758),
    "resnet34.imagenet1k_v1": ("b627a593", 256, 73.314),
    "resnet50.imagenet1k_v1": ("0676ba61", 256, 76.130),
    "resnet50.imagenet1k_v2": ("11ad3fa6", 232, 80.858),
    "resnet101.imagenet1k_v1": ("63fe2227", 256, 77.374),
    "resnet101.imagenet1k_v2": ("cd907fc2", 232, 81.886),
    "resnet152.imagenet1k_v1": ("394f9c45", 256, 78.312),
    "resnet152.imagenet1k_v2": ("f82ba261", 232, 82.284),
    "resnext50_32x4d.imagenet1k_v1": ("7cdf4587", 256, 77.618),
    "resnext50_32x4d.imagenet1k_v2": ("1a0047aa", 232, 81.198),
    "resnext101_32x8d.imagenet1k_v1": ("8ba56ff5", 256, 79.312),
    "resnext101_32x8d.imagenet1k_v2": ("110c445d", 232, 82.834),
    "resnext101_64x4d.imagenet1k_v1": ("173b62eb", 232, 83.246),
    "wide_resnet50_2.imagenet1k_v1": ("95faca4d", 256, 78.468),
    "wide_resnet50_2.imagenet1k_v2": ("9ba9bcbe", 232, 81.602),
    "wide_resnet101_2.imagenet1k_v1": ("32ee1156", 256, 78.848),
    "wide_resnet101_2.imagenet1k_v2": ("d733dc28", 232, 82.510),
}
# Of timm's resnet.py and resnetv2.py; the others of its variants are published untrained.
WITH_WEIGHTS = """
resnet10t resnet14t resnet18 resnet18d resnet34 resnet34d resnet26 resnet26t resnet26d
resnet50 resnet50c resnet50d resnet50s resnet101 resnet101c resnet101d resnet101s
resnet152 resnet152c resnet152d resnet152s resnet200d wide_resnet50_2 wide_resnet101_2 resnet50_gn
resnext50_32x4d resnext50d_32x4d resnext101_32x4d resnext101_32x8d resnext101_32x16d
resnext101_32x32d resnext101_64x4d ecaresnet26t ecaresnet50d ecaresnet50d_pruned ecaresnet50t
ecaresnetlight ecaresnet101d ecaresnet101d_pruned ecaresnet269d seresnet50 seresnet152d
seresnext26d_32x4d seresnext26t_32x4d seresnext50_32x4d seresnext101_32x4d seresnext101_32x8d
seresnext101d_32x8d seresnext101_64x4d senet154 resnetblur50 resnetaa50 resnetaa50d resnetaa101d
seresnextaa101d_32x8d seresnextaa201d_32x8d resnetrs50 resnetrs101 resnetrs152 resnetrs200
resnetrs270 resnetrs350 resnetrs420 test_resnet resnetv2_18 resnetv2_18d resnetv2_34 resnetv2_34d
resnetv2_50 resnetv2_101 resnetv2_50d_gn resnetv2_50x1_bit resnetv2_50x3_bit resnetv2_101x1_bit
resnetv2_101x3_bit resnetv2_152x2_bit resnetv2_152x4_bit
"""


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("keras_resnet/")])
def test_every_published_record_is_plausible(name):
    record = get_record(name)
    transform = record.transform
    assert record.name == name
    assert re.fullmatch(r"(torchvision|timm|keras)/[a-z0-9_]+(\.[a-z0-9_]+)?", name)
    assert re.fullmatch(r"[a-z0-9_]+", record.variant)
    assert record.url.startswith("https://")
    assert 160 <= transform.size <= 480
    assert 0.87 < transform.crop_fraction <= 1
    assert transform.size <= transform.resize <= 352 or transform.crop_fraction == 1
    assert MEANS[transform.mean] == transform.std
    assert record.num_classes in (1000, 11821, 21843)
    assert record.licence in ("apache-2.0", "bsd-3-clause", "mit", "cc-by-nc-4.0")
    assert record.commercial == ("-nc-" not in record.licence)
    assert (record.top1 is None) == (record.num_classes != 1000)
    assert (record.top1 is None) == (record.top1_source is None)
    assert record.top1 is None or 40 < record.top1 < 90
    assert transform.bgr == (record.layout == "keras_v1")
    assert transform.antialias == (record.source != "keras")
    assert (record.data, record.class_names) == ("imagenet", ())


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("timm/")])
def test_timm_records_are_called_as_timm_calls_them(name):
    record = get_record(name)
    model, _, tag = name.removeprefix("timm/").partition(".")
    assert model == record.variant
    assert tag
    assert record.url == f"https://huggingface.co/{name}/resolve/{record.revision}/model.safetensors"
    assert record.file == f"{model}.{tag}.safetensors"
    assert record.layout == ("timm_v2" if model.startswith("resnetv2_") else "timm")
    assert record.sha256 is record.md5 is None
    if "_in12k" in tag and "_ft_" not in tag:
        assert record.num_classes == 11821
    elif tag == "goog_in21k":
        assert record.num_classes == 21843
    else:
        assert record.num_classes == 1000


def test_torchvision_is_complete():
    assert set(list_records()) >= {f"torchvision/{name}" for name in TORCHVISION}
    assert sum(name.startswith("torchvision/") for name in NAMES) == len(TORCHVISION) == 17


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_facts(name):
    record = get_record(f"torchvision/{name}")
    digits, resize, top1 = TORCHVISION[name]
    model = name.partition(".")[0]
    assert record.variant == model
    assert record.file == f"{model}-{digits}.pth"
    assert record.url == f"https://download.pytorch.org/models/{record.file}"
    assert record.sha256 == digits
    assert (record.layout, record.source) == ("torchvision", "torchvision")
    assert (record.transform.resize, record.transform.size) == (resize, 224)
    assert record.transform.interpolation == "bilinear"
    assert record.top1 == top1


@pytest.mark.parametrize(
    "variant, file, top1, size",
    [
        ("resnet50v1", "resnet50", 74.9, 224),
        ("resnet101v1", "resnet101", 76.4, 224),
        ("resnet152v1", "resnet152", 76.6, 224),
        ("resnet50v2_keras", "resnet50v2", 76.0, 299),
        ("resnet101v2_keras", "resnet101v2", 77.2, 299),
        ("resnet152v2_keras", "resnet152v2", 78.0, 299),
    ],
)
def test_keras_facts(variant, file, top1, size):
    from keras.src.applications.resnet import BASE_WEIGHTS_PATH, WEIGHTS_HASHES

    record = get_record(f"keras/{variant}")
    assert get_record(f"keras/{file}") is record
    assert record.variant == variant
    assert record.variant in VARIANTS
    assert record.url == f"{BASE_WEIGHTS_PATH}{file}_weights_tf_dim_ordering_tf_kernels.h5"
    assert (record.md5, record.sha256) == (WEIGHTS_HASHES[file][0], None)
    assert record.layout == ("keras_v2" if file.endswith("v2") else "keras_v1")
    assert (record.top1, record.transform.size) == (top1, size)


def test_transforms_agree_with_keras_applications():
    import numpy as np
    from keras.applications import resnet, resnet_v2

    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype("float32")
    for name, theirs in (("keras/resnet50", resnet), ("keras/resnet50v2", resnet_v2)):
        transform = get_record(name).transform
        ours = (pixels / 255 - np.array(transform.mean)) / np.array(transform.std)
        ours = ours[..., ::-1] if transform.bgr else ours
        np.testing.assert_allclose(ours, theirs.preprocess_input(pixels.copy()), atol=1e-4)


@pytest.mark.parametrize(
    "name, top1, size",
    [
        ("resnet18.a1_in1k", 73.16, 288),
        ("resnet34.a2_in1k", 77.15, 288),
        ("resnet50.a3_in1k", 78.05, 224),
        ("resnet101.a1_in1k", 82.33, 288),
        ("resnet152.a2_in1k", 82.61, 288),
        ("resnext50_32x4d.a3_in1k", 79.26, 224),
        ("wide_resnet50_2.racm_in1k", 82.26, 288),
        ("resnet50d.a1_in1k", 81.47, 288),
        ("seresnet50.a1_in1k", 81.11, 288),
        ("resnetv2_50.a1h_in1k", 81.41, 288),
        ("resnetv2_101.a1h_in1k", 83.00, 288),
        ("seresnext50_32x4d.racm_in1k", 82.19, 288),
        ("resnet200d.ra2_in1k", 83.98, 320),
        ("resnet18d.ra4_e3600_r224_in1k", 76.01, 288),
        ("resnet34.ra4_e3600_r224_in1k", 78.97, 288),
        ("resnet50d.ra4_e3600_r224_in1k", 81.84, 288),
        ("resnetv2_152x4_bit.goog_in21k_ft_in1k", 84.94, 480),
    ],
)
def test_published_figures_of_timm(name, top1, size):
    record = get_record(f"timm/{name}")
    assert record.top1 == pytest.approx(top1, abs=0.0051)  # the table has two decimals
    assert record.transform.size == size


@pytest.mark.parametrize(
    "name, resize, interpolation, mean",
    [
        ("resnet50.a1_in1k", 288, "bicubic", 0.485),
        ("resnet50.a3_in1k", 235, "bicubic", 0.485),
        ("resnet50.tv2_in1k", 232, "bilinear", 0.485),
        ("resnet50.ra_in1k", 303, "bicubic", 0.485),
        ("resnet50d.ra4_e3600_r224_in1k", 288, "bicubic", 0.5),
        ("resnetv2_50.a1h_in1k", 288, "bicubic", 0.5),
    ],
)
def test_transforms_of_timm(name, resize, interpolation, mean):
    transform = get_record(f"timm/{name}").transform
    assert (transform.resize, transform.interpolation, transform.mean[0]) == (
        resize,
        interpolation,
        mean,
    )


def test_no_name_and_no_file_twice():
    rows = json.loads(resources.files("keras_resnet.weights").joinpath("records.json").read_text())
    assert [row["name"] for row in rows] == NAMES
    for key in (lambda r: r.name, lambda r: r.url, lambda r: (r.source, r.file.lower())):
        assert len({key(get_record(name)) for name in NAMES}) == len(NAMES)


def test_a_row_is_a_line_and_the_file_is_small():
    text = resources.files("keras_resnet.weights").joinpath("records.json").read_text()
    assert text.count("\n") == len(NAMES) + 2
    assert len(text) < 120_000


def test_every_timm_variant_with_weights_is_there():
    variants = {get_record(name).variant for name in NAMES if name.startswith("timm/")}
    assert variants == set(WITH_WEIGHTS.split())


@pytest.mark.parametrize(
    "variant, name",
    [
        ("resnet18", "timm/resnet18.a1_in1k"),
        ("resnet50", "timm/resnet50.a1_in1k"),  # fb_swsl_ig1b may not be used commercially
        ("resnext101_32x8d", "torchvision/resnext101_32x8d.imagenet1k_v2"),  # nor may fb_swsl here
        ("resnext101_64x4d", "torchvision/resnext101_64x4d.imagenet1k_v1"),
        ("resnet50v1", "keras/resnet50v1"),
        ("resnetaa50d", "timm/resnetaa50d.sw_in12k_ft_in1k"),  # sw_in12k has other classes
    ],
)
def test_the_best_record(variant, name):
    best = best_record(variant)
    assert best.name == name
    rivals = map(get_record, list_records(variant))
    assert all(r.top1 <= best.top1 for r in rivals if r.commercial and r.num_classes == 1000)


def test_of_equals_the_first_name_is_best(monkeypatch):
    rows = [
        replace(get_record("timm/resnet18.a1_in1k"), name=f"timm/resnet18.{tag}", top1=73.0)
        for tag in ("z", "a", "b")
    ]
    monkeypatch.setattr("keras_resnet.weights.records._records", lambda: {row.name: row for row in rows})
    assert best_record("resnet18").name == "timm/resnet18.a"


@pytest.mark.parametrize("data, shown", [("imagenet", "ImageNet"), ("cifar10", "CIFAR-10")])
@pytest.mark.parametrize("variant", ["resnet32_cifar", "resnext101_32x32d", "nonsense"])
def test_no_best_record_names_the_variant(variant, data, shown):
    with pytest.raises(ValueError, match=f"variant='{variant}' has no {shown} weights"):
        best_record(variant, data)


@pytest.mark.parametrize("weights", [None, "a.pth", "cifar100", Path("imagenet"), ["imagenet"]], ids=str)
def test_only_names_of_data_mean_the_best_record(weights):
    assert resolve(weights, "resnet18") is weights
    assert resolve("imagenet", "resnet18") == best_record("resnet18").name


def test_weights_that_are_not_free_are_named():
    with pytest.raises(ValueError, match=r"there are: timm/resnext101_32x32d\.fb_wsl_ig1b_ft_in1k"):
        best_record("resnext101_32x32d")


@pytest.mark.parametrize(
    "name, near",
    [
        ("TORCHVISION/RESNET50.IMAGENET1K_V2", "torchvision/resnet50.imagenet1k_v2"),
        ("timm/resnet50d.ra2in1k", "timm/resnet50d.ra2_in1k"),
        ("keras/resnet50v3", "keras/resnet50v1"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name, near):
    with pytest.raises(ValueError, match=f"{re.escape(repr(name))}.*did you mean.*{re.escape(near)}"):
        get_record(name)


def test_a_name_like_nothing_says_where_the_list_is():
    with pytest.raises(ValueError, match=r"weights='!': there is no such record; list_records\(\)"):
        get_record("!")


def test_records_by_variant():
    assert list_records("resnet152")[:2] == [f"torchvision/resnet152.imagenet1k_v{v}" for v in (1, 2)]
    assert all(get_record(name).variant == "resnet152" for name in list_records("resnet152"))
    assert list_records("resnet32_cifar") == []
    assert not ALIASES.keys() & set(NAMES)


@pytest.mark.parametrize(
    "change", [dict(interpolation="cubic"), dict(crop_fraction=1.2), dict(crop_fraction=0)]
)
def test_a_transform_of_nonsense_is_refused(change):
    (option, value), transform = *change.items(), get_record(NAMES[0]).transform
    with pytest.raises(ValueError, match=f"{option}={value!r}"):
        replace(transform, **change)


@pytest.mark.parametrize("change", [dict(layout="caffe"), dict(data="mnist")])
def test_an_unknown_choice_is_refused(change):
    ((option, value),) = change.items()
    with pytest.raises(ValueError, match=f"{option}='{value}' is unknown; choose one of"):
        replace(get_record(NAMES[0]), **change)


def test_records_cost_no_framework():
    code = "import sys, keras_resnet.weights.download; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
