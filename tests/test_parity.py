"""The zoo computes what timm, keras.applications and torchvision compute with the same weights."""

import importlib.util
import math
from dataclasses import replace

import keras
import numpy as np
import pytest
import twins
from test_table import shallow

from keras_resnet import to_state_dict
from keras_resnet.graphs import functional_model
from keras_resnet.inference import verify as module
from keras_resnet.inference.references import import_library, references
from keras_resnet.inference.verify import LOGITS_BAR, STAGES_BAR, Difference, format_differences, verify
from keras_resnet.resnet import build_variant
from keras_resnet.summary import stage_outputs
from keras_resnet.variants import VARIANTS
from keras_resnet.weights.convert import assign, find_layout, slots
from keras_resnet.weights.synthetic import synthetic_tensor

GOLDEN = twins.read_golden()
has_timm = all(importlib.util.find_spec(name) for name in ("torch", "torchvision", "timm"))
needs_timm = pytest.mark.skipif(
    not has_timm, reason='needs torch, torchvision and timm: pip install "keras-resnet-zoo[convert]"'
)


@pytest.fixture(autouse=True)
def clear():
    yield
    keras.backend.clear_session()


# Without the other libraries: golden outputs of shallow twins.


def test_golden_outputs_cover_the_table():
    cifar = {name for name, row in VARIANTS.items() if row.stem == "conv3"}
    assert set(GOLDEN) == set(VARIANTS) - cifar - set(references("keras"))
    both = {str(size) for size in twins.SIZES}
    # timm's averages in branches take even sizes only.
    assert {name for name in GOLDEN if set(GOLDEN[name]) != both} == {
        name for name, row in VARIANTS.items() if row.downsample == "avg"
    }
    assert all("64" in sizes for sizes in GOLDEN.values())


def with_synthetic_weights(row, layout):
    """The network of a row that takes any size, with weights under the names of `layout`."""
    row = replace(row, kernel_initializer="zeros")
    model = build_variant(
        row, num_classes=twins.CLASSES, input_shape=(None, None, 3), classifier_activation=None
    )
    tensors = {slot.key: synthetic_tensor(slot.key, slot.shape) for slot in slots(model, layout)}
    assign(model, module.as_tensors(tensors), "synthetic weights")
    return model, tensors


def outputs_of(model, size):
    outputs = functional_model(model.input, {**stage_outputs(model), "logits": model.output})
    return twins.numbers({key: np.array(value) for key, value in outputs(twins.images(size)).items()})


def assert_same_numbers(found, golden):
    logits = np.array(golden["logits"])
    assert abs(found["logits"] - logits).max() <= 1e-4 * abs(logits).max()
    stages = np.array(golden["stages"])
    errors = abs(np.array(found["stages"]) - stages).max(axis=1)
    assert (errors <= 1e-4 * abs(stages).max(axis=1)).all()


@pytest.mark.parametrize("name", GOLDEN)
def test_twin_computes_what_timm_computes(name):
    layout = "timm_v2" if VARIANTS[name].preactivation else "timm"
    model, _ = with_synthetic_weights(twins.twin(name), layout)
    for size, golden in GOLDEN[name].items():
        assert_same_numbers(outputs_of(model, int(size)), golden)


@pytest.mark.parametrize(
    "name, changes",
    [
        ("resnet18", dict(norm_epsilon=1e-3)),
        ("resnetv2_18", dict(stem_pool="max_zero")),
        ("resnetv2_50x1_bit", dict(stem_pool="max")),
        ("resnetv2_50x1_bit", dict(standardize_weights=False)),
        ("resnet50", dict(stride_conv="conv1")),
        ("resnetblur18", dict(downsample="stride")),
        ("resnetblur18", dict(stem_pool="max")),
    ],
)
def test_another_network_has_other_numbers(name, changes):
    layout = "timm_v2" if VARIANTS[name].preactivation else "timm"
    model, _ = with_synthetic_weights(replace(twins.twin(name), **changes), layout)
    with pytest.raises(AssertionError):
        assert_same_numbers(outputs_of(model, 75), GOLDEN[name]["75"])


@pytest.mark.parametrize("name", ["resnet20_cifar", "resnet1202_cifar"])
def test_akamaster_names_round_trip(name):
    model, tensors = with_synthetic_weights(shallow(name), "akamaster")
    assert {"conv1.weight", "layer3.1.bn2.running_var", "linear.bias"} <= set(tensors)
    assert find_layout(model, tensors) == "akamaster"
    back = to_state_dict(model, "akamaster")
    assert back.keys() == tensors.keys()
    assert all(np.array_equal(back[key], tensors[key]) for key in back)


def test_synthetic_tensors_stay_as_they_are():
    kernel = synthetic_tensor("conv1.weight", (64, 3, 7, 7))
    assert kernel.dtype == np.float32
    assert abs(kernel).max() <= math.sqrt(3 / 147)
    assert kernel.std() == pytest.approx(math.sqrt(1 / 147), rel=0.01)
    assert synthetic_tensor("conv1/kernel", (7, 7, 3, 64)).std() == pytest.approx(kernel.std(), rel=0.02)
    for key in ("bn1.weight", "bn1.running_var", "bn/gamma", "bn/moving_variance"):
        assert 0.75 <= synthetic_tensor(key, (999,)).min() <= synthetic_tensor(key, (999,)).max() <= 1.25
    for key in ("bn1.bias", "bn1.running_mean", "bn/beta", "bn/moving_mean", "fc.bias"):
        assert -0.25 <= synthetic_tensor(key, (999,)).min() < 0 < synthetic_tensor(key, (999,)).max() <= 0.25
    assert not np.array_equal(synthetic_tensor("bn1.bias", (9,)), synthetic_tensor("bn2.bias", (9,)))


# Live, beside the other libraries.


@pytest.mark.parametrize("name", ["resnet50v1", "resnet50v2_keras"])
def test_same_as_keras_applications(name):
    (difference,) = verify([name], against="keras", sizes=(64, 75))
    assert difference.passed, format_differences([difference])


def perturbing(layer):
    """`assign`, and then the last weight of one layer larger by a hundredth."""

    def perturbed(model, *arguments):
        assign(model, *arguments)
        variable = model.get_layer(layer).weights[-1]
        variable.assign(variable.numpy() * np.float32(1.01))

    return perturbed


@pytest.mark.parametrize("layer", ["stem_bn", "stage4_block3_conv3", "head"])
def test_a_weight_that_is_off_fails(layer, monkeypatch):
    monkeypatch.setattr(module, "assign", perturbing(layer))
    (difference,) = verify(["resnet50v1"], against="keras", sizes=(64,))
    assert not difference.passed
    assert not difference.back
    assert difference.logits > LOGITS_BAR
    assert (difference.stages > STAGES_BAR) == (layer != "head")


@needs_timm
@pytest.mark.parametrize(
    "name", ["resnet18", "resnetv2_18", "test_resnet", "seresnext26t_32x4d", "ecaresnet26t", "resnetblur18"]
)
def test_same_as_timm(name):
    (difference,) = verify([name])
    assert difference.passed, format_differences([difference])
    assert difference.note == ""


@needs_timm
def test_same_as_torchvision():
    (difference,) = verify(["resnet18"], against="torchvision")
    assert difference.passed, format_differences([difference])


@needs_timm
def test_sizes_that_timm_cannot_take_are_noted():
    (difference,) = verify(["resnetaa34d"], sizes=(64, 75))
    assert difference.passed
    assert difference.note == "timm cannot take 75 px"
    (difference,) = verify(["resnetaa34d"], sizes=(75,))
    assert not difference.passed


@needs_timm
def test_a_perturbed_weight_fails_beside_timm(monkeypatch):
    monkeypatch.setattr(module, "assign", perturbing("stage2_block1_bn1"))
    (difference,) = verify(["resnet18"], sizes=(64,))
    assert not difference.passed


@pytest.mark.skipif(has_timm, reason="torch, torchvision and timm are installed")
@pytest.mark.parametrize("against", ["timm", "torchvision"])
def test_missing_libraries_name_the_extra(against):
    with pytest.raises(ImportError, match=r"keras-resnet-zoo\[convert\]"):
        import_library(against)


# What `verify` says.


def test_unknown_names_are_refused_at_once():
    with pytest.raises(ValueError, match="keras has no 'resnet18'"):
        verify(["resnet18"], against="keras")
    with pytest.raises(ValueError, match="against='mxnet' is unknown"):
        verify(["resnet18"], against="mxnet")


def test_references_are_variants():
    for against, count in (("torchvision", 10), ("keras", 6)):
        assert len(references(against)) == count
        assert set(references(against)) <= set(VARIANTS)


def test_weights_that_do_not_convert_are_a_failure(monkeypatch):
    deeper = replace(VARIANTS["resnet50v1"], stages=((3, 64), (4, 128), (6, 256), (4, 512)))
    monkeypatch.setitem(VARIANTS, "resnet50v1", deeper)
    (difference,) = verify(["resnet50v1"], against="keras", sizes=(64,))
    assert not difference.passed
    assert "missing: conv5_block4_1_conv/kernel" in difference.note


def test_table_of_differences():
    good = Difference("resnet18", "timm", 1e-6, 2e-6, True, 1.23)
    bad = replace(good, name="resnet34", stages=math.inf, note="timm cannot take 97 px")
    assert good.passed
    assert not any(
        replace(good, **{f: v}).passed for f, v in (("logits", 2e-4), ("stages", 2e-4), ("back", False))
    )
    assert format_differences([good, bad]).splitlines() == [
        "variant   against   logits   stages  weights back  seconds          note",
        "resnet18  timm     1.0e-06  2.0e-06           yes      1.2  passed",
        "resnet34  timm     1.0e-06      inf           yes      1.2  FAILED  timm cannot take 97 px",
    ]
