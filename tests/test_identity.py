"""Which network weights are of: nothing that fits by its names and shapes alone is loaded silently."""

import json
import re
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from test_convert import short
from test_load_weights import assert_refused, assert_same, randomized, save, tiny
from test_table import shallow

from keras_resnet import VARIANTS, build_resnet, build_resnet50, load_weights
from keras_resnet.cli import main
from keras_resnet.inference.artifacts import from_weights
from keras_resnet.resnet import build_variant
from keras_resnet.weights import load as module
from keras_resnet.weights.architecture import (
    differences,
    hidden_traits,
    hidden_traits_of,
    layers_of,
    shown_traits,
    shown_traits_of,
)
from keras_resnet.weights.claims import variant_called
from keras_resnet.weights.convert import to_state_dict
from keras_resnet.weights.keras_files import open_keras
from keras_resnet.weights.keymaps import layer_keys
from keras_resnet.weights.records import get_record, list_records


def distinct():
    """One variant for each combination of what names and shapes do not say."""
    found = {}
    for name, row in VARIANTS.items():
        traits = hidden_traits_of(row) | {"attention": row.attention, "norm": row.norm}
        found.setdefault(str(traits), name)
    return list(found.values())


SAMPLE = distinct()
ALL = [pytest.param(n, marks=[pytest.mark.slow] * (n not in SAMPLE)) for n in VARIANTS]


@pytest.mark.parametrize("name", ALL)
def test_the_graph_says_what_the_table_says(name, tmp_path):
    row = short(name) if name in SAMPLE else shallow(name)
    row = replace(row, kernel_initializer="zeros")
    layers = layers_of(build_variant(row, input_shape=(64, 64, 3), normalization=(0.5, 0.5), drop_path=0.1))
    assert hidden_traits(layers) == hidden_traits_of(row)
    assert shown_traits(layers) == shown_traits_of(row)
    keras.backend.clear_session()


@pytest.mark.parametrize("name", ["resnetblur50d", "resnetv2_50x1_bit", "seresnetaa50d", "resnet20_cifar"])
def test_a_file_says_what_its_graph_says(name, tmp_path):
    row = short(name)
    model = build_variant(row, input_shape=(64, 64, 3), dropout=0.1, drop_path=0.1)
    outer = keras.Sequential([keras.Input((64, 64, 3)), model, keras.layers.Dense(3)])
    for saved in (model, outer):
        saved.save(tmp_path / "a.keras")
        layers = open_keras(str(tmp_path / "a.keras"), str(tmp_path)).layers
        assert hidden_traits(layers) == hidden_traits_of(row)
        assert hidden_traits(layers_of(saved)) == hidden_traits_of(row)


# Networks that have the same weights as TWIN, by what sets them apart.
TWIN = dict(
    stages=((2, 16), (2, 32)), stem_filters=16, input_shape=(32, 32, 3), num_classes=3, block="bottleneck"
)
OTHERS = {
    "stride_conv": dict(stride_conv="conv1"),
    "stride_block": dict(stride_block="last"),
    "downsample": dict(downsample="avg"),
    "downsample_blur": dict(downsample="blur"),
    "stem_pool": dict(stem_pool="avg"),
    "stem_pool_blur": dict(stem_pool="blur"),
    "stem_pool_none": dict(stem_pool=None),
    "shortcut": dict(shortcut="pool_conv_norm"),
    "norm_epsilon": dict(norm_epsilon=1e-3),
    "standardize_weights": dict(standardize_weights=True),
}


def twin(**options):
    return build_resnet(**TWIN | options)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_files_of_keras_know_their_network(tmp_path, suffix, other):
    options = OTHERS[other]
    if other == "stride_block":  # both stages project then
        options = options | dict(stages=((1, 16), (1, 32), (1, 64)))
    plain = {key: value for key, value in options.items() if key == "stages"}
    field = other.removesuffix("_none").removesuffix("_blur")
    model, different = randomized(twin(**plain)), twin(**options)
    file = save(model, tmp_path / f"a{suffix}")
    assert_same(load_weights(twin(**plain, drop_path=0.2, normalization=(0.5, 0.5)), file), model)
    if other == "norm_epsilon" and suffix == ".weights.h5":
        return  # which holds no configuration
    message = assert_refused(different, file, rf"a{re.escape(suffix)} was saved of")
    if suffix == ".keras":
        assert f"{field}=" in message
    back = save(different, tmp_path / f"b{suffix}")
    assert_refused(model, back, rf"b{re.escape(suffix)} was saved of")


def test_another_activation_is_another_network(tmp_path):
    def silu(layer):
        if isinstance(layer, keras.layers.ReLU):
            return keras.layers.Activation("silu", name=layer.name)
        return layer.from_config(layer.get_config())

    model = tiny()
    other = keras.models.clone_model(model, clone_function=silu)
    file = save(model, tmp_path / "a.keras")
    assert_refused(other, file, r"activation='silu' instead of 'relu'")
    assert_refused(other, save(model, tmp_path / "a.weights.h5"), r"is relu, that of the model activation")
    model.get_layer("stem_relu").negative_slope = 0.1
    assert_refused(model, file, r"activation='relu\+relu\*' instead of 'relu'")


# Records.

PAIRS = [
    ("resnet50", "keras/resnet50", "resnet50v1", "stride_conv='conv2' instead of 'conv1'"),
    ("resnet101", "keras/resnet101", "resnet101v1", "norm_epsilon=1e-05 instead of 1.001e-05"),
    (
        "resnet50v1",
        "torchvision/resnet50.imagenet1k_v1",
        "resnet50",
        "stride_conv='conv1' instead of 'conv2'",
    ),
    ("resnetaa50", "torchvision/resnet50.imagenet1k_v2", "resnet50", "downsample='avg' instead of 'stride'"),
    ("resnetblur50", "torchvision/resnet50.imagenet1k_v2", "resnet50", "stem_pool='blur' instead of 'max'"),
    ("resnet50", "timm/resnetaa50.a1h_in1k", "resnetaa50", "downsample='stride' instead of 'avg'"),
    ("resnet50d", "timm/resnetaa50d.sw_in12k_ft_in1k", "resnetaa50d", "stem_pool='max' instead of 'avg'"),
    ("resnetv2_50", "keras/resnet50v2", "resnet50v2_keras", "stride_block='first' instead of 'last'"),
    ("resnet50c", "timm/resnet50d.ra2_in1k", "resnet50d", "shortcut='conv_norm' instead of 'pool_conv_norm'"),
]


@pytest.mark.parametrize("variant, record, theirs, difference", PAIRS)
def test_records_of_another_network_are_refused_before_they_are_fetched(
    monkeypatch, variant, record, theirs, difference
):
    monkeypatch.delattr(module, "download")
    model = build_variant(replace(shallow(variant), kernel_initializer="zeros"), name=variant)
    message = assert_refused(model, record, rf"holds the weights of '{theirs}', and '{variant}' is another")
    assert difference in message
    assert f"take build_{theirs}(weights=" in message
    assert "\n" not in message


def test_the_builder_that_a_name_suggests_is_refused():
    with pytest.raises(ValueError, match=r"take build_resnet50v1\(weights='keras/resnet50v1'\)"):
        build_resnet50(weights="keras/resnet50", input_shape=(32, 32, 3))


def test_every_record_of_a_twin_is_told_apart():
    """Of two variants whose weights have the same names and shapes, something else differs."""
    shown = {name: shown_traits_of(row) for name, row in VARIANTS.items()}
    hidden = {name: hidden_traits_of(row) for name, row in VARIANTS.items()}
    twins = [(a, b) for a in VARIANTS for b in VARIANTS if a < b and shown[a] == shown[b]]
    assert ("resnet50", "resnetaa50") in twins
    assert len(twins) > 10
    assert [pair for pair in twins if not differences(*(hidden[name] for name in pair))] == []


# Bare files.


@pytest.fixture
def table(monkeypatch):
    """The rows of ResNet-50 and its kin, small; ``table(name)`` builds one."""
    for name in ("resnet50", "resnetaa50", "resnetblur50", "resnet50c", "resnet50d", "resnet50v1"):
        monkeypatch.setitem(VARIANTS, name, replace(shallow(name), image_size=64, num_classes=5))

    def build(variant, **options):
        return build_variant(VARIANTS[variant], **{"name": variant, "input_shape": (64, 64, 3)} | options)

    return build


def test_a_bare_file_is_loaded_silently_into_the_usual_network_only(table, tmp_path):
    source = randomized(table("resnet50"))
    save_file(to_state_dict(source), tmp_path / "net.safetensors")
    assert_same(load_weights(table("resnet50"), tmp_path / "net.safetensors"), source)
    for name, match in [
        ("resnetaa50", r"fits 'resnet50', 'resnetblur50' as well; it was taken for 'resnetaa50'"),
        ("resnetblur50", r"fits 'resnet50', 'resnetaa50' as well; it was taken for 'resnetblur50'"),
    ]:
        with pytest.warns(UserWarning, match=match) as caught:
            load_weights(table(name), tmp_path / "net.safetensors")
        assert caught[0].filename == __file__
    free = replace(VARIANTS["resnet50"], stride_conv="conv1")
    free = build_variant(free, input_shape=(64, 64, 3), name="mine")
    with pytest.warns(UserWarning, match=r"taken for 'mine' \(stride_conv='conv1' instead of 'conv2'\)"):
        load_weights(free, tmp_path / "net.safetensors")


def test_names_of_ours_do_not_show_the_averages_of_projections(table, tmp_path):
    source = randomized(table("resnet50d"))
    save_file(to_state_dict(source), tmp_path / "theirs.safetensors")
    assert_same(load_weights(table("resnet50d"), tmp_path / "theirs.safetensors"), source)
    save_file(to_state_dict(source, "keras_resnet"), tmp_path / "ours.safetensors")
    with pytest.warns(UserWarning, match=r"fits 'resnet50c' as well; it was taken for 'resnet50d'"):
        load_weights(table("resnet50d"), tmp_path / "ours.safetensors")


NAMES = [
    ("metadata", "architecture", "resnetaa50", "resnetaa50"),
    ("metadata", "arch", "timm/resnetaa50.a1h_in1k", "resnetaa50"),
    ("torch", "arch", "resnetblur50", "resnetblur50"),
    ("torch", "args", "tv_resnet50", "resnet50"),
    ("beside", "config.json", "resnetaa50", "resnetaa50"),
]


def write_named(path, state, place, key, name):
    if place == "torch":
        torch = pytest.importorskip("torch")
        state = {key: torch.from_numpy(value) for key, value in state.items()}
        said = {key: name} if key == "arch" else {key: {"model": name}}
        torch.save({"state_dict": state} | said, path)
        return
    save_file(state, path, metadata={key: name} if place == "metadata" else None)
    if place == "beside":
        (path.parent / "config.json").write_text(json.dumps({"architecture": name, "num_classes": 5}))


@pytest.mark.parametrize("place, key, name, variant", NAMES)
def test_files_that_name_their_architecture(table, tmp_path, place, key, name, variant):
    source = randomized(table(variant))
    write_named(tmp_path / "model.safetensors", to_state_dict(source), place, key, name)
    assert_same(load_weights(table(variant), tmp_path / "model.safetensors"), source)
    other = "resnet50" if variant != "resnet50" else "resnetaa50"
    assert_refused(
        table(other), tmp_path / "model.safetensors", rf"of '{variant}' \(.*{key}.*\); '{other}' is another"
    )


def test_a_name_that_is_not_ours_is_told(table, tmp_path):
    source = randomized(table("resnet50"))
    for name in ("resnet50_ibn_a", "resnet18"):
        save_file(to_state_dict(source), tmp_path / "a.safetensors", metadata={"arch": name})
        with pytest.warns(UserWarning, match=rf"says that it is of '{name}' .* taken for 'resnet50'"):
            load_weights(table("resnet50"), tmp_path / "a.safetensors")


def test_a_configuration_belongs_to_the_only_weights_in_its_folder(table, tmp_path):
    source = randomized(table("resnet50"))
    write_named(tmp_path / "a.safetensors", to_state_dict(source), "beside", "", "resnetaa50")
    assert_refused(table("resnet50"), tmp_path / "a.safetensors", "config.json beside it")
    (tmp_path / "b.safetensors").touch()
    load_weights(table("resnet50"), tmp_path / "a.safetensors")
    for text in ("[]", "{", '{"architectures": ["ResNet"]}', "[" * 100_000):
        (tmp_path / "b.safetensors").unlink(missing_ok=True)
        (tmp_path / "config.json").write_text(text)
        load_weights(table("resnet50"), tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "name, variant",
    [
        ("resnet50", "resnet50"),
        ("ResNet50", "resnet50"),
        ("timm/resnet50.a1_in1k", "resnet50"),
        ("tv_resnet34", "resnet34"),
        ("gluon_resnet50_v1b", "resnet50"),
        ("gluon_resnet101_v1s", "resnet101s"),
        ("ssl_resnext50_32x4d", "resnext50_32x4d"),
        ("ig_resnext101_32x8d", "resnext101_32x8d"),
        ("resnetv2_50x1_bitm", "resnetv2_50x1_bit"),
        ("resnet20", "resnet20_cifar"),
        ("vit_base_patch16_224", None),
        ("", None),
    ],
)
def test_names_of_other_libraries(name, variant):
    assert variant_called(name) == variant


def test_names_of_records_are_those_of_their_variants():
    records = [get_record(name) for name in list_records() if name.startswith(("timm/", "torchvision/"))]
    named = {record.name: variant_called(record.name.partition("/")[2]) for record in records}
    assert {name: v for name, v in named.items() if v != get_record(name).variant} == {}


# keras.applications.


def legacy(model, path):
    """The weights of `model` as a file of keras.applications."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = []
        for key, value in to_state_dict(model, "keras_v1").items():
            file[f"{key.split('/')[0]}/{key}:0"] = value
    return path


def test_files_of_keras_applications_are_of_its_networks(table, tmp_path):
    source = randomized(table("resnet50v1"))
    file = legacy(source, tmp_path / "a.h5")
    assert_refused(
        table("resnet50"), file, r"as keras\.applications does, which is 'resnet50v1'; .*stride_conv"
    )
    assert_refused(table("resnetaa50"), file, "another")
    save_file(to_state_dict(source, "keras_v1"), tmp_path / "a.safetensors")
    assert_refused(table("resnet50"), tmp_path / "a.safetensors", r"is 'resnet50v1'")
    # Names as they are, but the file says what it is of.
    own = randomized(table("resnet50"))
    save_file(to_state_dict(own, "keras_v1"), tmp_path / "b.safetensors", metadata={"arch": "resnet50"})
    assert_same(load_weights(table("resnet50"), tmp_path / "b.safetensors"), own)
    folded = replace(VARIANTS["resnet50v1"], conv_bias="none")
    load_weights(build_variant(folded, input_shape=(64, 64, 3)), file)


def test_a_file_of_keras_applications_is_turned_as_its_record_is(table, tmp_path, monkeypatch):
    source = randomized(table("resnet50v1"))
    file = legacy(source, tmp_path / "a.h5")
    monkeypatch.setattr(module, "download", lambda record: file)
    by_record = load_weights(table("resnet50v1"), "keras/resnet50")
    assert_same(load_weights(table("resnet50v1"), file), by_record)
    kernel = source.get_layer("stem_conv").kernel.numpy()
    np.testing.assert_allclose(by_record.get_layer("stem_conv").kernel, kernel[:, :, ::-1], rtol=1e-6)
    # A stem of other channels is not of colours.
    grey = randomized(table("resnet50v1", input_shape=(64, 64, 1)))
    again = load_weights(table("resnet50v1", input_shape=(64, 64, 1)), legacy(grey, tmp_path / "b.h5"))
    assert_same(again, grey)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize("nested", [False, True])
def test_networks_of_keras_applications_in_files_of_keras(table, tmp_path, suffix, nested):
    source = randomized(table("resnet50v1", include_top=False))
    names = layer_keys(source, "keras")
    theirs = keras.models.clone_model(
        source,
        clone_function=lambda layer: layer.from_config(
            layer.get_config() | {"name": names.get(layer.name, f"their_{layer.name}")}
        ),
    )
    theirs.set_weights(source.get_weights())
    if nested:
        top = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
        theirs = keras.Sequential([keras.Input((64, 64, 3)), theirs, *top])
    file = save(theirs, tmp_path / f"a{suffix}")
    wanted = load_weights(table("resnet50v1", include_top=False), legacy(source, tmp_path / "a.h5"))
    assert_same(load_weights(table("resnet50v1", include_top=False), file), wanted)
    assert_refused(table("resnet50", include_top=False), file, r"is 'resnet50v1'; .*stride_conv='conv2'")


# How images are prepared.


def scale_of(model):
    """Mean and standard deviation of the first layer."""
    layer = model.get_layer("normalize")
    std = 1 / (255 * np.asarray(layer.scale))
    return -np.asarray(layer.offset) * std, std


def test_the_same_weights_get_the_same_transform(table, tmp_path, monkeypatch):
    """As a record, as its file, and as a file of that layout with another name."""
    monkeypatch.setitem(VARIANTS, "resnet50v1", replace(VARIANTS["resnet50v1"], num_classes=1000))
    source = randomized(table("resnet50v1"))
    file = legacy(source, tmp_path / "mine.h5")
    monkeypatch.setattr(module, "download", lambda record: file)
    record = from_weights("resnet50v1", "keras/resnet50")
    bare = from_weights("resnet50v1", str(file))
    assert_same(bare.model, record.model)
    np.testing.assert_allclose(scale_of(bare.model), scale_of(record.model), rtol=1e-6)
    np.testing.assert_allclose(scale_of(bare.model)[1], 1 / 255, rtol=1e-6)
    assert bare.geometry == record.geometry == get_record("keras/resnet50").transform.geometry
    assert bare.model.input_shape == record.model.input_shape
    assert bare.note == ""


CONFIG = {
    "architecture": "resnet50",
    "pretrained_cfg": {
        "input_size": [3, 64, 64], "crop_pct": 0.95, "interpolation": "bicubic",
        "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4],
    },
}  # fmt: skip


def test_the_configuration_of_a_hub_says_how_images_are_prepared(table, tmp_path):
    save_file(to_state_dict(table("resnet50")), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    artifact = from_weights("resnet50", str(tmp_path / "model.safetensors"))
    np.testing.assert_allclose(scale_of(artifact.model), [[0.5, 0.4, 0.3], [0.2, 0.3, 0.4]], rtol=1e-6)
    assert (artifact.geometry.crop_fraction, artifact.geometry.interpolation) == (0.95, "bicubic")
    assert artifact.note == ""
    for key, value in [("mean", "black"), ("crop_pct", 7), ("interpolation", None), ("input_size", [])]:
        damaged = CONFIG | {"pretrained_cfg": CONFIG["pretrained_cfg"] | {key: value}}
        (tmp_path / "config.json").write_text(json.dumps(damaged))
        assert "does not say" in from_weights("resnet50", str(tmp_path / "model.safetensors")).note


def test_the_file_of_a_record_is_known_by_its_name_and_checksum(table, tmp_path, monkeypatch):
    content = tmp_path / "content"
    save_file(to_state_dict(table("resnet50")), content)
    name = "timm/resnet50.c1_in1k"
    record = get_record(name)
    known = tmp_path / record.file
    known.write_bytes(content.read_bytes())
    artifact = from_weights("resnet50", str(known))
    np.testing.assert_allclose(scale_of(artifact.model)[0], record.transform.mean, rtol=1e-6)
    assert artifact.geometry == record.transform.geometry
    assert artifact.note == ""
    # torchvision publishes a checksum, which this file has not.
    other = tmp_path / get_record("torchvision/resnet50.imagenet1k_v2").file
    other.write_bytes(content.read_bytes())
    assert "does not say" in from_weights("resnet50", str(other)).note


def test_what_is_supposed_is_said(table, tmp_path, monkeypatch, capsys):
    file = tmp_path / "a.safetensors"
    for name in ("resnet34", "resnetv2_50"):
        monkeypatch.setitem(VARIANTS, name, replace(shallow(name), image_size=64, num_classes=5))
    save_file(to_state_dict(table("resnet34")), file)
    artifact = from_weights("resnet34", str(file))
    np.testing.assert_allclose(scale_of(artifact.model)[0], (0.485, 0.456, 0.406), rtol=1e-6)
    assert artifact.note == (
        f"{file} does not say how images are prepared; they are normalized with mean (0.485, 0.456, 0.406) "
        "and std (0.229, 0.224, 0.225), which are ImageNet's."
    )
    save_file(to_state_dict(table("resnetv2_50"), "timm_v2"), file)
    artifact = from_weights("resnetv2_50", str(file))
    np.testing.assert_allclose(scale_of(artifact.model), 0.5, rtol=1e-6)
    assert "as for all published weights of 'resnetv2_50'" in artifact.note
    assert main(["convert", str(file), str(tmp_path / "a.keras"), "--model", "resnetv2_50"]) == 0
    assert f"note: {artifact.note}" in capsys.readouterr().err


def test_the_normalization_in_a_file_of_keras_is_kept(table, tmp_path):
    scale = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    table("resnet50", normalization=scale).save(tmp_path / "a.keras")
    artifact = from_weights("resnet50", str(tmp_path / "a.keras"))
    np.testing.assert_allclose(scale_of(artifact.model), scale, rtol=1e-5)
    assert artifact.note == ""


def test_the_set_is_chosen_on_the_command_line(table, tmp_path):
    torch = pytest.importorskip("torch")
    sets = {name: randomized(table("resnet50"), seed) for seed, name in enumerate(("model", "model_ema"))}
    states = {
        name: {key: torch.from_numpy(value) for key, value in to_state_dict(model).items()}
        for name, model in sets.items()
    }
    torch.save(states, tmp_path / "a.pth")
    with pytest.warns(UserWarning, match=r"moving average \('model_ema'\) was taken; which='raw'"):
        assert_same(load_weights(table("resnet50"), tmp_path / "a.pth"), sets["model_ema"])
    assert_same(load_weights(table("resnet50"), tmp_path / "a.pth", which="raw"), sets["model"])
    out = tmp_path / "a.weights.h5"
    assert main(["convert", str(tmp_path / "a.pth"), str(out), "--model", "resnet50", "--which", "raw"]) == 0
    assert_same(load_weights(table("resnet50"), out), sets["model"])
