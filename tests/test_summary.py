"""Stage tables and feature models."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import build_resnet, features, shape_table
from keras_resnet.summary import format_table


def small(**options):
    return build_resnet(
        stages=((1, 8), (2, 16)), block="basic", num_classes=3, input_shape=(32, 32, 3), **options
    )


def test_multiply_adds_by_hand():
    rows = {row.stage: row for row in shape_table(small())}
    assert rows["stem"].macs == 16 * 16 * 7 * 7 * 3 * 64
    projected = 8 * 8 * (9 * 64 * 8 + 9 * 8 * 8 + 64 * 8)
    assert rows["stage1"].macs == projected
    assert rows["head"].macs == 16 * 3
    assert rows["total"].macs == sum(row.macs for name, row in rows.items() if name != "total")


# torchvision publishes these (GFLOPS in its weights' metadata).
@pytest.mark.parametrize(
    "name, giga", [("resnet18", 1.814), ("resnet50", 4.089), ("wide_resnet50_2", 11.398)]
)
def test_multiply_adds_as_torchvision_counts_them(name, giga):
    total = shape_table(keras_resnet.build_model(name))[-1]
    assert round(total.macs / 1e9, 3) == giga


def test_parameters_add_up():
    model = small()
    rows = shape_table(model)
    assert sum(row.parameters for row in rows[:-1]) == rows[-1].parameters == model.count_params()


def test_open_sizes_have_no_multiply_adds():
    rows = shape_table(keras_resnet.build_resnet18(input_shape=(None, None, 3)))
    assert rows[-1].macs is None
    assert "? x ? x 64" in format_table(rows)


def test_table_is_aligned():
    lines = format_table(shape_table(small())).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines] == [
        "stage", lines[1], "input", "stem", "stage1", "stage2", "head", lines[-2], "total",
    ]  # fmt: skip


def test_features_share_weights_and_compute_the_stages():
    model = small()
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    outputs = features(model, (2, 1))(images)
    assert {name: tuple(x.shape) for name, x in outputs.items()} == {
        "stage2": (1, 4, 4, 16),
        "stage1": (1, 8, 8, 8),
    }
    pooled = keras.ops.mean(outputs["stage2"], axis=(1, 2))
    np.testing.assert_allclose(model.get_layer("head_pool").output.shape[1:], pooled.shape[1:])
    kernel, bias = model.get_layer("head").get_weights()
    logits = np.array(pooled) @ kernel + bias
    np.testing.assert_allclose(model(images), keras.ops.softmax(logits), atol=1e-6)


@pytest.mark.parametrize(
    "stages, message", [((1, 3), "has stage1, stage2; asked for stage3"), ((), "asked for none")]
)
def test_features_of_missing_stages(stages, message):
    with pytest.raises(ValueError, match=message):
        features(small(), stages)
