"""What every row of the table promises; a new row is tested by being there."""

import functools
import inspect
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
from keras_resnet.summary import _macs, shape_table, stage_outputs

# Parameters, those that are trained, multiply-adds.
GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("parameters.json").read_text())
_NORM = r"(bn|gn)"
LAYER_NAME = re.compile(
    rf"image|stem_(conv[123]?(_pad)?|{_NORM}[12]?|relu[12]?)"
    rf"|stem_pool(_(pad|dense|pairs|conv|conv_pad|relu|{_NORM}))?"
    rf"|stage[1-9]_block[1-9]\d*_(conv[123](_pad)?|{_NORM}[123]|relu[123]|preact_({_NORM}|relu)"
    rf"|proj_(conv|conv_pad|{_NORM}|pool|pad|avg)|pool|avg|blur(_pad|_pairs)?"
    r"|se(_pool|_conv1|_conv2)?|eca(_pool|_line|_conv|_gate)?|add|out)"
    rf"|head(_{_NORM}|_relu|_pool)?|predictions"
)
# What else than stock layers a row may hold.
REGISTERED = {
    "downsample": {"blur": "ReflectionPadding2D"},
    "standardize_weights": {True: "StandardizedConv2D"},
}


# Networks of so many blocks take up to a minute to build: whole in the slow tests, and cut to
# two blocks a stage in the others.
GIANT = 30


def is_giant(name):
    row = VARIANTS[name]
    return not row.pruned and sum(reps for reps, _ in row.stages) > GIANT


@pytest.fixture(
    scope="module", params=[pytest.param(n, marks=[pytest.mark.slow] * is_giant(n)) for n in VARIANTS]
)
def built(request):
    """A variant as its builder makes it, but with kernels of zeros, which cost no time."""
    name = request.param
    row = replace(VARIANTS[name], kernel_initializer="zeros")
    yield name, row, build_variant(row, name=name)
    keras.backend.clear_session()


def shallow(name, **options):
    """The same blocks in a network of two blocks a stage and fewer filters."""
    row = VARIANTS[name]
    divisor = next(d for d in (8, 4, 2, 1) if _can_be_divided(row, d))
    stages = tuple((min(reps, 2), filters // divisor) for reps, filters in row.stages)
    stem = row.stem_filters
    stem = tuple(f // divisor for f in stem) if isinstance(stem, tuple) else stem // divisor
    return replace(row, stages=stages, stem_filters=stem, pruned=None, **options)


def _can_be_divided(row, divisor):
    stem = row.stem_filters if isinstance(row.stem_filters, tuple) else (row.stem_filters,)
    filters = [f for _, f in row.stages]
    unit = divisor * (32 if row.norm == "group" else row.cardinality)
    return not any(f % unit for f in filters) and not any(
        f % (32 * divisor) for f in stem if row.norm == "group"
    )


def block_of(row, stage):
    return row.block if isinstance(row.block, str) else row.block[stage - 1]


def stem_channels(row):
    return row.stem_filters[-1] if isinstance(row.stem_filters, tuple) else row.stem_filters


def test_golden_file_has_the_table():
    assert set(GOLDEN) == set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_row_has_its_builder(name):
    builder = getattr(keras_resnet, f"build_{name}")
    assert builder.__name__ == f"build_{name}"
    assert inspect.signature(builder).parameters["name"].default == name
    assert inspect.signature(builder).parameters["num_classes"].default == VARIANTS[name].num_classes


def test_parameter_counts(built):
    name, _, model = built
    trainable = sum(math.prod(v.shape) for v in model.trainable_weights)
    assert [model.count_params(), trainable, shape_table(model)[-1].macs] == GOLDEN[name]


@pytest.mark.parametrize("name", list(filter(is_giant, VARIANTS)))
def test_parameter_counts_of_giants(name):
    """Blocks of a stage but the first and last are alike: three, and the second as often as it repeats."""
    row = replace(VARIANTS[name], kernel_initializer="zeros")
    cut = replace(row, stages=tuple((min(reps, 3), filters) for reps, filters in row.stages))
    model = build_variant(cut)
    counts = np.array(
        [
            model.count_params(),
            sum(math.prod(v.shape) for v in model.trainable_weights),
            shape_table(model)[-1].macs,
        ]
    )
    for stage, (reps, _) in enumerate(row.stages, start=1):
        block = [layer for layer in model.layers if layer.name.startswith(f"stage{stage}_block2_")]
        weights = [
            [v for layer in block for v in getattr(layer, kind)] for kind in ("weights", "trainable_weights")
        ]
        counts += max(0, reps - 3) * np.array(
            [*(sum(math.prod(v.shape) for v in kind) for kind in weights), sum(map(_macs, block))]
        )
    assert counts.tolist() == GOLDEN[name]


def test_output_and_name(built):
    name, row, model = built
    assert model.name == name
    assert model.input_shape == (None, row.image_size, row.image_size, 3)
    assert model.output_shape == (None, row.num_classes)
    assert isinstance(model, keras.Model)
    assert type(model).__name__ == "Functional"


def test_stage_shapes(built):
    _, row, model = built
    stride = 1 if row.stem == "conv3" else 4
    outputs = stage_outputs(model).values()
    for number, (output, (_, filters)) in enumerate(zip(outputs, row.stages, strict=True), 1):
        # keras.applications' V2 strides in the last block: every stage but the last one early.
        halvings = min(number, len(row.stages) - 1) if row.stride_block == "last" else number - 1
        side = row.image_size // stride // 2**halvings
        channels = (
            row.pruned[number - 1][0][2]
            if row.pruned
            else filters * (1 if block_of(row, number) == "basic" else 4)
        )
        assert output.shape == (None, side, side, channels)


def test_projections_are_where_the_shape_changes(built):
    name, row, model = built
    found = {layer.name.partition("_proj")[0] for layer in model.layers if "_proj" in layer.name}
    first = 2 if block_of(row, 1) == "basic" and stem_channels(row) == row.stages[0][1] else 1
    assert found == {f"stage{i}_block1" for i in range(first, len(row.stages) + 1)}, name


def test_layer_names(built):
    _, _, model = built
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    assert [name for name in names if not LAYER_NAME.fullmatch(name)] == []


def test_only_stock_layers_but_for_the_registered_ones(built):
    _, row, model = built
    ours = {
        type(layer).__name__ for layer in model.layers if type(layer).__module__.startswith("keras_resnet")
    }
    expected = {names[getattr(row, f)] for f, names in REGISTERED.items() if getattr(row, f) in names}
    assert ours == expected
    assert {type(layer).__module__.partition(".")[0] for layer in model.layers} <= {"keras", "keras_resnet"}


def norms(model):
    kinds = (keras.layers.BatchNormalization, keras.layers.GroupNormalization)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def test_normalisation_defaults(built):
    _, row, model = built
    batch = [layer for layer in norms(model) if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in batch} == (set() if row.norm == "group" else {0.9})
    assert {layer.epsilon for layer in norms(model)} == {row.norm_epsilon}


def test_last_gamma_of_each_branch_starts_at_zero(built):
    _, row, model = built
    zero = {layer.name.replace("_gn", "_bn") for layer in norms(model) if not np.any(layer.gamma.numpy())}
    blocks = {
        f"stage{s}_block{b}_bn{2 if block_of(row, s) == 'basic' else 3}"
        for s, (reps, _) in enumerate(row.stages, 1)
        for b in range(1, reps + 1)
    }
    assert zero == (set() if row.preactivation else blocks)


def test_features(built):
    _, row, model = built
    numbers = (1, len(row.stages))
    outputs = keras_resnet.features(model, numbers).output
    assert list(outputs) == [f"stage{n}" for n in numbers]


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_reach_every_weight(name):
    assert silent_weights(shallow(name, zero_init_last=False)) == []


@functools.cache  # many variants share a twin
def silent_weights(row):
    """The weights that no gradient reaches."""
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    model = build_variant(row, num_classes=3, input_shape=(2 * row.total_stride,) * 2 + (3,))
    images = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True)[:, 0] ** 2)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_weights])
    pairs = zip(model.trainable_weights, gradients, strict=True)
    silent = [v.path for v, g in pairs if g is None or not np.any(g.numpy())]
    # A bias before a batch normalisation has none: the mean takes it out again.
    return [path for path in silent if not (row.conv_bias == "all" and path.endswith("bias"))]
