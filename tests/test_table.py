"""What every row of the table promises; a new row is tested by being there."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import VARIANTS
from keras_resnet.resnet import build_variant
from keras_resnet.summary import stage_outputs

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("parameters.json").read_text())
LAYER_NAME = re.compile(
    r"image|stem_(conv|bn|relu|pool)(_pad|_dense)?"
    r"|stage[1-9]_block[1-9]\d*_(conv[123](_pad)?|(bn|relu)[123]|preact_(bn|relu)|proj_(conv|bn|pool|pad)|pool|add|out)"
    r"|head(_bn|_relu|_pool)?|predictions"
)


def each_variant(names=VARIANTS):
    """Every test of one variant on one worker, which then builds it once."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]


@pytest.fixture(scope="module", params=each_variant())
def built(request):
    name = request.param
    yield name, VARIANTS[name], getattr(keras_resnet, f"build_{name}")()
    keras.backend.clear_session()


def shallow(name, **options):
    """The same blocks in a network of two blocks a stage and fewer filters."""
    row = VARIANTS[name]
    fits = [d for d in (8, 4, 2, 1) if not any(f % d or f // d % row.cardinality for _, f in row.stages)]
    stages = tuple((min(reps, 2), filters // fits[0]) for reps, filters in row.stages)
    return replace(row, stages=stages, stem_filters=row.stem_filters // fits[0], **options)


def test_golden_file_has_the_table():
    assert set(GOLDEN) == set(VARIANTS)


def test_parameter_counts(built):
    name, _, model = built
    trainable = sum(math.prod(v.shape) for v in model.trainable_weights)
    assert [model.count_params(), trainable] == GOLDEN[name]


def test_output_and_name(built):
    name, row, model = built
    assert model.name == name
    assert model.input_shape == (None, row.image_size, row.image_size, 3)
    assert model.output_shape == (None, row.num_classes)
    assert isinstance(model, keras.Model)
    assert type(model).__name__ == "Functional"


def test_stage_shapes(built):
    _, row, model = built
    stride = 4 if row.stem == "conv7" else 1
    for number, (output, (_, filters)) in enumerate(
        zip(stage_outputs(model).values(), row.stages, strict=True), 1
    ):
        # keras.applications' V2 strides in the last block: every stage but the last one early.
        halvings = min(number, len(row.stages) - 1) if row.stride_block == "last" else number - 1
        side = row.image_size // stride // 2**halvings
        channels = filters * (1 if row.block == "basic" else 4)
        assert output.shape == (None, side, side, channels)


def test_projections_are_where_the_shape_changes(built):
    name, row, model = built
    found = {layer.name.partition("_proj")[0] for layer in model.layers if "_proj" in layer.name}
    first = 2 if row.block == "basic" and row.stem_filters == row.stages[0][1] else 1
    assert found == {f"stage{i}_block1" for i in range(first, len(row.stages) + 1)}, name


def test_layer_names(built):
    _, _, model = built
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    assert [name for name in names if not LAYER_NAME.fullmatch(name)] == []


def test_only_stock_layers(built):
    _, _, model = built
    assert {type(layer).__module__.partition(".")[0] for layer in model.layers} == {"keras"}


def test_normalisation_defaults(built):
    _, row, model = built
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in norms} == {0.9}
    assert {layer.epsilon for layer in norms} == {row.norm_epsilon}


def test_last_gamma_of_each_branch_starts_at_zero(built):
    _, row, model = built
    zero = {
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and not np.any(layer.gamma.numpy())
    }
    last = 2 if row.block == "basic" else 3
    blocks = {
        f"stage{s}_block{b}_bn{last}" for s, (reps, _) in enumerate(row.stages, 1) for b in range(1, reps + 1)
    }
    assert zero == (set() if row.preactivation else blocks)


def test_features(built):
    _, row, model = built
    numbers = (1, len(row.stages))
    outputs = keras_resnet.features(model, numbers).output
    assert list(outputs) == [f"stage{n}" for n in numbers]


@pytest.mark.parametrize("name", each_variant())
def test_gradients_reach_every_weight(name):
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    row = shallow(name, zero_init_last=False)
    model = build_variant(row, num_classes=3, input_shape=(2 * row.total_stride + 1,) * 2 + (3,))
    images = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True)[:, 0] ** 2)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_weights])
    silent = [
        v.path
        for v, g in zip(model.trainable_weights, gradients, strict=True)
        if g is None or not np.any(g.numpy())
    ]
    # A bias before a batch normalisation has none: the mean takes it out again.
    assert [path for path in silent if not (row.conv_bias == "all" and path.endswith("bias"))] == []
