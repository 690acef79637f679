"""The table's rows check themselves."""

from dataclasses import replace

import pytest

from keras_resnet.variant import CHOICES, Variant
from keras_resnet.variants import VARIANTS


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(stages=()), r"stages .* non-empty .* got \(\)"),
        (dict(stages=5), r"stages .* got 5"),
        (dict(stages=((2, 64), 3)), r"\(reps, filters\)"),
        (dict(stages=((0, 64),)), r"stage 1 is \(0, 64\)"),
        (dict(stages=((2, 64), (2, -8))), r"stage 2 is \(2, -8\)"),
        (dict(stages=((2, 64), (True, 8))), r"stage 2 is \(True, 8\)"),
        (dict(stages=((2, 2.5),)), r"stage 1 is \(2, 2.5\)"),
        (dict(cardinality=48), "filters=64 is not divisible by cardinality=48"),
        (dict(cardinality=0), "cardinality=0"),
        (dict(block="tower"), "block='tower' is unknown"),
        (dict(block=("basic", "basic")), "names 2 blocks for 4 stages"),
        (dict(stem="deep"), "stem_filters=64: stem='deep' takes 3 positive integers"),
        (dict(stem_filters=(1, 2)), "takes 1 positive integer"),
        (dict(base_width=0), "base_width=0"),
        (dict(stages=((1, 8),), base_width=4), "filters=8 with base_width=4"),
        (dict(block="basic", cardinality=32), "cardinality=32 .* bottleneck"),
        (dict(block="basic", base_width=128), "base_width=128 .* bottleneck"),
        (dict(stem_filters=0), "stem_filters=0"),
    ],
)
def test_nonsense_is_refused_by_name_and_value(options, message):
    with pytest.raises(ValueError, match=message):
        Variant(**options)


@pytest.mark.parametrize("option", CHOICES)
def test_unknown_choice_lists_the_known_ones(option):
    with pytest.raises(ValueError, match=f"{option}='nonsense' is unknown; choose one of"):
        Variant(**{option: "nonsense"})


def test_a_row_cannot_be_changed():
    with pytest.raises(AttributeError):
        VARIANTS["resnet50"].block = "basic"
    assert replace(VARIANTS["resnet50"], block="basic").block == "basic"


def test_widths_follow_the_papers():
    assert VARIANTS["resnext50_32x4d"].width(64) == 128
    assert VARIANTS["resnext101_64x4d"].width(512) == 2048
    assert VARIANTS["wide_resnet50_2"].width(64) == 128
    assert VARIANTS["resnext29_8x64d_cifar"].width(64) == 512
    assert VARIANTS["resnet50"].out_channels(512) == 2048


def test_lists_of_stages_are_taken():
    assert Variant(stages=[[2, 64], [2, 128]]).stages == ((2, 64), (2, 128))
