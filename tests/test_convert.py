"""Names, shapes and values of other libraries, there and back; their outputs where they can be had."""

import re
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file
from test_load_weights import assert_refused, assert_same, randomized, tiny
from test_table import shallow

from keras_resnet import VARIANTS, build_resnet, load_weights
from keras_resnet.inference.convert import save_as
from keras_resnet.resnet import build_variant
from keras_resnet.weights.convert import adapt_channels, find_layout, to_state_dict
from keras_resnet.weights.records import get_record, list_records

# A sample of what differs: stems, projections, attention, norms, biases, grouped kernels.
SAMPLE = [
    ("resnet18", "timm"),
    ("resnet50d", "timm"),
    ("resnetrs50", "timm"),
    ("resnet50_gn", "timm"),
    ("senet154", "timm"),
    ("ecaresnext26t_32x4d", "timm"),
    ("resnetblur50", "torchvision"),
    ("test_resnet", "timm"),
    ("resnet50v1", "timm"),
    ("resnetv2_18d", "timm_v2"),
    ("resnetv2_50x1_bit", "timm_v2"),
    ("resnetv2_50d_gn", "timm_v2"),
    ("preresnet164_cifar", "timm_v2"),
    ("wrn16_8_cifar", "timm_v2"),
    ("resnet20_cifar", "akamaster"),
    ("resnet50v1", "keras_v1"),
    ("resnet50v2_keras", "keras_v2"),
    ("seresnetaa50d", "keras_resnet"),
]


def short(name, **options):
    """The first two stages of `shallow`."""
    row = shallow(name, **options)
    blocks = row.block if isinstance(row.block, str) else row.block[:2]
    return replace(row, stages=row.stages[:2], block=blocks)


def small(name, classes=5, channels=3, include_top=True, **options):
    row = short(name, **options)
    return build_variant(row, num_classes=classes, input_shape=(32, 32, channels), include_top=include_top)


def kinds():
    """One variant for each way to name layers, with the layout of its records."""
    found = {}
    for name, row in VARIANTS.items():
        layouts = {get_record(record).layout for record in list_records(name)} or {"keras_resnet"}
        for layout in sorted(layouts):
            options = (row.block, row.stem, row.stem_pool == "conv", row.shortcut, row.attention)
            found.setdefault((layout, options, row.norm, row.conv_bias, row.preactivation), (name, layout))
    return list(found.values())


@pytest.mark.parametrize("name, layout", SAMPLE)
def test_round_trip_bit_for_bit(tmp_path, name, layout):
    model = randomized(small(name))
    state = to_state_dict(model, layout)
    assert len(state) == len(model.weights)
    assert all(array.flags.c_contiguous and array.dtype == np.float32 for array in state.values())
    save_file(state, tmp_path / "a.safetensors")
    assert_same(load_weights(small(name), tmp_path / "a.safetensors"), model)
    # As training saves it: parallel, with counters.
    counters = {f"{key}.num_batches_tracked": np.int64(3) for key in state} | {"n_averaged": np.int64(2)}
    parallel = {f"module.{key}": np.asarray(value) for key, value in (state | counters).items()}
    save_file(parallel, tmp_path / "b.safetensors")
    assert_same(load_weights(small(name, include_top=False), tmp_path / "b.safetensors"), model)


@pytest.mark.parametrize("name, layout", kinds())
def test_every_variant_has_the_layout_of_its_records(name, layout):
    model = small(name)
    keys = to_state_dict(model, layout)
    assert len(keys) == len(model.weights)
    assert to_state_dict(model, find_layout(model, keys)).keys() == keys.keys()


# As the libraries' own files have them.
KEYS = [
    ("resnet18", "timm", "conv1.weight bn1.running_var layer2.0.downsample.0.weight fc.bias"),
    ("resnet50d", "timm", "conv1.0.weight conv1.1.bias conv1.3.weight conv1.4.running_mean conv1.6.weight"),
    ("resnet50d", "timm", "bn1.weight layer1.0.downsample.1.weight layer2.0.downsample.2.running_mean"),
    (
        "resnetrs50",
        "timm",
        "maxpool.0.weight maxpool.1.running_mean layer2.1.se.fc1.bias layer1.0.se.fc2.weight",
    ),
    ("ecaresnet26t", "timm", "layer1.0.se.conv.weight layer1.1.bn3.weight"),
    ("resnetv2_50d_gn", "timm_v2", "stem.conv1.weight stem.norm1.weight stem.norm2.bias stem.conv3.weight"),
    (
        "resnetv2_50",
        "timm_v2",
        "stem.conv.weight stages.0.blocks.1.norm1.running_var norm.weight head.fc.bias",
    ),
    ("resnetv2_50", "timm_v2", "stages.1.blocks.0.downsample.conv.weight stages.1.blocks.0.norm3.weight"),
    ("resnet20_cifar", "akamaster", "conv1.weight layer2.1.bn2.running_mean linear.weight"),
    (
        "resnet50v1",
        "keras_v1",
        "conv1_conv/bias conv1_bn/gamma conv3_block1_0_bn/moving_mean predictions/kernel",
    ),
    ("resnet50v1", "keras_v1", "conv2_block2_3_conv/bias conv2_block2_3_bn/moving_variance"),
    ("resnet50v2_keras", "keras_v2", "conv1_conv/bias conv2_block1_preact_bn/gamma conv3_block1_0_conv/bias"),
    ("resnet50v2_keras", "keras_v2", "conv2_block1_2_bn/beta post_bn/moving_mean conv2_block1_3_conv/kernel"),
    ("resnet50_gn", "keras_resnet", "stage2_block1_proj_gn/gamma stem_conv/kernel head/bias"),
]


@pytest.mark.parametrize("name, layout, keys", KEYS)
def test_names_are_those_of_the_libraries(name, layout, keys):
    assert set(keys.split()) - to_state_dict(small(name), layout).keys() == set()


def test_shapes_are_those_of_the_libraries():
    shapes = {key: array.shape for key, array in to_state_dict(small("resnetv2_50x1_bit"), "timm_v2").items()}
    assert shapes["head.fc.weight"][2:] == (1, 1)
    assert shapes["head.fc.weight"][0] == 5
    assert shapes["stem.conv.weight"][1:] == (3, 7, 7)
    eca = to_state_dict(small("ecaresnet26t"))["layer1.0.se.conv.weight"]
    assert eca.shape[:2] == (1, 1)


def test_kernels_are_transposed():
    """Height stays height: transposed square kernels would fit as well."""
    model = randomized(small("resnet18"))
    state, stem = to_state_dict(model), model.get_layer("stem_conv").kernel.numpy()
    np.testing.assert_array_equal(state["conv1.weight"][4, 1], stem[:, :, 1, 4])
    np.testing.assert_array_equal(state["fc.weight"][3], model.get_layer("head").kernel.numpy()[:, 3])


def test_layouts_name_what_they_do_not_have():
    with pytest.raises(ValueError, match=r"the layout 'timm_v2' has no name for 'stem_bn'"):
        to_state_dict(small("resnet18"), "timm_v2")
    with pytest.raises(ValueError, match=r"there is no layout 'tim'; did you mean 'timm'"):
        to_state_dict(small("resnet18"), "tim")


def test_the_projection_of_option_b_is_called_shortcut():
    model = small("resnet20_cifar", shortcut="conv_norm")
    keys = to_state_dict(model, "akamaster")
    assert {k for k in keys if "layer2.0.shortcut" in k} == {
        "layer2.0.shortcut.0.weight",
        *(f"layer2.0.shortcut.1.{part}" for part in ("weight", "bias", "running_mean", "running_var")),
    }
    assert find_layout(model, keys) == "akamaster"


def test_a_key_with_and_without_prefix_is_refused(tmp_path):
    state = to_state_dict(small("resnet18"))
    save_file(state | {"module.conv1.weight": state["conv1.weight"]}, tmp_path / "a.safetensors")
    assert_refused(small("resnet18"), tmp_path / "a.safetensors", r"unused: module\.conv1\.weight")
    state = {f"module.{key}": value for key, value in state.items()} | {"conv1.weight": state["conv1.weight"]}
    save_file(state, tmp_path / "a.safetensors")
    assert_refused(small("resnet18"), tmp_path / "a.safetensors", r"holds 'conv1\.weight' twice")


# Other channels and classes.


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
@pytest.mark.parametrize(
    "name, layout, stem",
    [
        ("resnet18", "timm", "stem_conv"),
        ("resnet50d", "timm", "stem_conv1"),
        ("resnetv2_50x1_bit", "timm_v2", "stem_conv"),
        ("resnet50v2_keras", "keras_v2", "stem_conv"),
    ],
)
def test_other_channels(tmp_path, name, layout, stem, channels):
    source = randomized(small(name))
    save_file(to_state_dict(source, layout), tmp_path / "a.safetensors")
    model = small(name, channels=channels)
    message = assert_refused(model, tmp_path / "a.safetensors", r"1 difference:")
    assert "adapt=True would load it" in message
    with pytest.warns(UserWarning, match=r"a\.safetensors has a stem of 3 channels; .* of 'functional"):
        load_weights(model, tmp_path / "a.safetensors", adapt=True)
    kernel = source.get_layer(stem).kernel.numpy()
    order = [i % 3 for i in range(channels)]
    wanted = kernel[:, :, order] * np.float32(3 / channels) if channels > 1 else kernel.sum(2, keepdims=True)
    np.testing.assert_array_equal(model.get_layer(stem).kernel, wanted)
    assert_same(model, source, but=(f"{stem}/kernel",))


def test_only_channels_and_classes_adapt(tmp_path):
    file = tmp_path / "a.safetensors"
    state = to_state_dict(small("resnet18"))
    changes = {
        "conv1.weight": np.zeros((8, 3, 3, 3), np.float32),
        "layer1.0.conv1.weight": np.zeros((8, 4, 3, 3), np.float32),
        "fc.weight": np.zeros((5, 8), np.float32),
        "fc.bias": np.zeros(7, np.float32),
    }
    for key, value in changes.items():
        save_file(state | {key: value}, file)
        assert "adapt=True" not in assert_refused(
            small("resnet18"), file, re.escape(f"{key}: {value.shape} in")
        )
        assert_refused(small("resnet18"), file, re.escape(f"{key}: {value.shape} in"), adapt=True)
    half = {key: value for key, value in state.items() if key != "fc.bias"}
    save_file(half, file)
    assert_refused(small("resnet18"), file, r"missing: fc\.bias", adapt=True)
    del half["fc.weight"]
    save_file(half, file)
    assert_refused(small("resnet18"), file, r"missing: fc\.weight[^?]*adapt=True")
    with pytest.warns(UserWarning, match=r"no head of 5 classes"):
        load_weights(small("resnet18"), file, adapt=True)
    # "fc" is ignored where there is no head, "fcx" is not.
    save_file(half | {"fcx.weight": value}, file)
    assert_refused(small("resnet18", include_top=False), file, r"unused: fcx\.weight")


# Biases.


def test_biases_fold_into_the_moving_means(tmp_path):
    biased = randomized(small("resnet50v1"))
    for layout in ("timm", "keras_v1"):
        save_file(to_state_dict(biased, layout), tmp_path / "a.safetensors")
        model = small("resnet50v1", conv_bias="none")
        load_weights(model, tmp_path / "a.safetensors")
        for name in ("stem_{}", "stage1_block2_{}2", "stage2_block1_proj_{}"):
            bias = biased.get_layer(name.format("conv")).bias.numpy()
            mean = biased.get_layer(name.format("bn")).moving_mean.numpy()
            np.testing.assert_array_equal(model.get_layer(name.format("bn")).moving_mean, mean - bias)


def test_biases_that_do_not_fold_are_refused(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file(to_state_dict(small("resnet50_gn", conv_bias="all")), file)
    assert_refused(small("resnet50_gn"), file, r"unused: layer1\.0\.conv1\.bias")
    # The stem of a preactivation network for CIFAR feeds a batch norm and besides it a shortcut; the
    # first convolution of a block feeds a batch norm only, the last one an addition.
    save_file(to_state_dict(small("preresnet110_cifar", conv_bias="all"), "timm_v2"), file)
    message = assert_refused(small("preresnet110_cifar"), file, r"unused: stem\.conv\.bias")
    assert "stages.0.blocks.0.conv2.bias" in message
    assert "conv1.bias" not in message


def test_missing_biases_are_missing(tmp_path):
    save_file(to_state_dict(small("resnet18")), tmp_path / "a.safetensors")
    model = small("resnet18", conv_bias="all")
    assert_refused(model, tmp_path / "a.safetensors", r"missing: conv1\.bias \(8,\)")


# keras.applications.


def write_legacy(model, path):
    """As Keras 2 wrote weights: a group for each layer, lists of names in attributes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{w.name}:0" for w in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group.create_dataset(name, data=weight.numpy())


@pytest.fixture(scope="module", params=["ResNet50", "ResNet50V2"])
def theirs(request):
    build = getattr(keras.applications, request.param)
    model = build(weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None)
    randomized(model)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            # So that no activation vanishes or grows from layer to layer.
            layer.kernel.assign(layer.kernel.numpy() * np.sqrt(150 / np.prod(layer.kernel.shape[:3])))
    return model


@pytest.mark.parametrize("form", ["weights", "model"])
def test_files_of_keras_applications(theirs, tmp_path, form):
    """Keras 3 still writes the model form."""
    file = tmp_path / "a.h5"
    write_legacy(theirs, file) if form == "weights" else theirs.save(file)
    options = dict(num_classes=10, input_shape=(64, 64, 3), classifier_activation=None, weights=file)
    if theirs.name == "resnet50":
        options |= dict(stride_conv="conv1", norm_epsilon=1.001e-5)
        models = [build_resnet(**options)]
        if form == "weights":
            models.append(build_resnet(conv_bias="all", **options))
    else:
        models = [build_variant(VARIANTS["resnet50v2_keras"], **options)]
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    # ResNet50 takes BGR, ours RGB.
    expected = np.array(theirs(images[..., ::-1] if theirs.name == "resnet50" else images))
    assert np.ptp(expected, axis=1).min() > 0.1 * np.abs(expected).max()
    for model in models:
        np.testing.assert_allclose(
            np.array(model(images)), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )


# torch, where it is installed.


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50d", "seresnet50", "resnetrs50", "resnet50_gn", "resnetv2_50x1_bit"]
)
def test_timm_takes_our_state_dict(name, tmp_path):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    net = timm.create_model(name, num_classes=10).eval()
    row = VARIANTS[name]
    model = build_variant(row, num_classes=10, input_shape=(64, 64, 3), classifier_activation=None)
    randomized(model)
    for variable in model.weights:
        if variable.name == "kernel" and len(variable.shape) == 4:
            fan_in = np.prod(variable.shape[:3])
            variable.assign(variable.numpy() * np.sqrt(150 / fan_in))
    layout = "timm_v2" if row.preactivation else "timm"
    state = {key: torch.from_numpy(value) for key, value in to_state_dict(model, layout).items()}
    net.load_state_dict(state, strict=True)
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    with torch.no_grad():
        expected = net(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(np.array(model(images)), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    for legacy in (True, False):
        torch.save(
            {"state_dict": net.state_dict()}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy
        )
        other = build_variant(row, num_classes=10, input_shape=(64, 64, 3), weights=tmp_path / "a.pth")
        assert_same(other, model)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_channels_adapt_as_in_timm(channels):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    kernel = np.random.default_rng(0).normal(size=(7, 7, 3, 8)).astype("float32")
    wanted = timm.models.adapt_input_conv(channels, torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
    got = adapt_channels(kernel, channels)
    np.testing.assert_allclose(got, wanted.numpy().transpose(2, 3, 1, 0), rtol=1e-6, atol=1e-6)


def test_float16_is_for_what_has_it_and_holds_it(tmp_path):
    model = randomized(tiny())
    save_as(model, tmp_path / "half.safetensors", "keras_resnet", float16=True)
    again = load_weights(tiny(), tmp_path / "half.safetensors")
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy().astype(np.float16).astype(np.float32))
    with pytest.raises(ValueError, match=r"model\.keras: weights are rounded to float16 in \.safetensors"):
        save_as(model, tmp_path / "model.keras", float16=True)
    model.weights[0].assign(model.weights[0] * 0 - 7e4)
    with pytest.raises(ValueError, match=r"stem_conv/kernel is beyond the range of float16"):
        save_as(model, tmp_path / "high.safetensors", "keras_resnet", float16=True)
    assert [path.name for path in tmp_path.iterdir()] == ["half.safetensors"]


@pytest.mark.parametrize("name", ["a.safetensors", "a.keras", "a.weights.h5"])
def test_files_may_be_read_by_whom_the_user_lets(name, tmp_path):
    (tmp_path / "plain").touch()
    save_as(tiny(), tmp_path / name, "keras_resnet")
    assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode
