"""Parts that are frozen and unfrozen, in any order: what a `fit` changes."""

import itertools

import keras
import numpy as np
import pytest

from keras_resnet import build_resnet, freeze, recalibrate_bn, unfreeze
from keras_resnet.training.optimizers import SGD

PARTS = ["stem", "stage1", "stage2", "head"]


def network(**options):
    keras.utils.set_random_seed(0)
    options = dict(stages=((1, 8), (1, 16))) | options
    return build_resnet(
        block="basic", stem="conv3", stem_pool=None, stem_filters=8, input_shape=(8, 8, 3), num_classes=4,
        zero_init_last=False, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 8, 8, 3)).astype("float32"), np.arange(8) % 4


def mean_loss(labels, outputs):  # a function that no registry knows
    return keras.losses.sparse_categorical_crossentropy(labels, outputs)


def compiled(**options):
    model = network(**options)
    optimizer = SGD(0.1, momentum=0.9, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, mean_loss, metrics=["accuracy"])
    return model


def changed(model, batch):
    """The variables that a step of `fit` changes, ``"part/kind"``."""
    before = [v.numpy() for v in model.variables]
    model.fit(*batch, batch_size=8, verbose=0)
    pairs = zip(model.variables, before, strict=True)
    return {v.path for v, old in pairs if not np.array_equal(v.numpy(), old)}


def in_parts(model, names, *, norms=True):
    paths = {v.path for layer in model.layers for v in layer.weights if layer.name.startswith(tuple(names))}
    return {path for path in paths if norms or "_bn" not in path}


ACTIONS = {
    "freeze all": lambda model: freeze(model),
    "freeze stage1": lambda model: freeze(model, "stage1"),
    "unfreeze stage2": lambda model: unfreeze(model, "stage2"),
    "unfreeze stage1, not norms": lambda model: unfreeze(model, "stage1", norms=False),
    "unfreeze": lambda model: unfreeze(model),
}


def expected(order):
    """Parts that train, and those whose normalisations do, by hand."""
    trains, norms = set(PARTS), set(PARTS)
    for action in order:
        verb, _, rest = action.partition(" ")
        where = rest.split(",")[0]
        if verb == "freeze":
            last = 2 if where == "all" else PARTS.index(where)
            trains, norms = trains - set(PARTS[: last + 1]), norms - set(PARTS[: last + 1])
        else:
            parts = set(PARTS[PARTS.index(where) if where else 0 :])
            trains |= parts
            norms = norms - parts if "norms" in rest else norms | parts
    return trains, norms


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.mark.parametrize("order", [*itertools.permutations(ACTIONS, 3)], ids=" then ".join)
def test_flags_in_any_order(order, model):
    unfreeze(model)
    for action in order:
        assert ACTIONS[action](model) is model
    trains, norms = expected(order)
    layers = {layer.name for layer in model.layers if layer.trainable and layer.weights}
    assert layers == {
        layer.name
        for layer in model.layers
        if layer.weights
        and layer.name.split("_")[0] in trains
        and ("_bn" not in layer.name or layer.name.split("_")[0] in norms)
    }


@pytest.fixture(scope="module")
def traced(batch):
    """A model of one stage, on which a `fit` was traced: every test traces another."""
    model = compiled(stages=((1, 8),))
    assert changed(model, batch) == in_parts(model, ["stem", "stage1", "head"])
    return model, model.get_weights()


@pytest.mark.parametrize(
    "order", [*itertools.permutations(("freeze", "unfreeze", "recalibrate"))], ids=" then ".join
)
def test_fit_after_each_order(order, traced, batch):
    """The last call decides, also where a `fit` was traced before."""
    model, weights = traced
    norms = order[-1] == "unfreeze"
    model.set_weights(weights)
    unfreeze(model)
    for action in order:
        before = statistics(model)
        if action == "freeze":
            freeze(model, "stage1")
        elif action == "unfreeze":
            unfreeze(model, "stage1", norms=norms)
        else:
            recalibrated(model, batch)
        changes = {path for path, old in before.items() if not np.array_equal(statistics(model)[path], old)}
        assert changes == (set(before) if action == "recalibrate" else set())
    trains = ["head"] if order.index("freeze") > order.index("unfreeze") else ["stage1", "head"]
    assert changed(model, batch) == in_parts(model, trains, norms=norms)


def statistics(model):
    return {v.path: v.numpy() for v in model.variables if "moving" in v.path}


def recalibrated(model, batch):
    import tensorflow as tf

    # Other images than those of `fit`, which would leave their own statistics as they are.
    return recalibrate_bn(model, tf.data.Dataset.from_tensors(2 * batch[0] + 1), 1)


def test_a_model_that_is_frozen_as_a_whole(batch):
    model = compiled(stages=((1, 8),))
    model.trainable = False
    unfreeze(model, "head")
    assert changed(model, batch) == in_parts(model, ["head"])


def test_optimizer_is_kept(batch):
    model = compiled(stages=((1, 8),))
    model.fit(*batch, batch_size=4, verbose=0)
    before = {v.path: v.numpy() for v in model.optimizer.variables}
    freeze(model, "stem")
    after = {v.path: v.numpy() for v in model.optimizer.variables}
    assert 0 < len(after) < len(before)
    assert all(np.array_equal(value, before[path]) for path, value in after.items())
    assert int(model.optimizer.iterations) == 2
    bias, kernel = model.get_layer("head").bias, model.get_layer("head").kernel
    assert [model.optimizer._use_weight_decay(v) for v in (bias, kernel)] == [False, True]
    assert model.loss is mean_loss
    assert "accuracy" in model.evaluate(*batch, verbose=0, return_dict=True)


def test_parts_that_are_not_there():
    with pytest.raises(ValueError, match="no part 'stage3'; did you mean 'stage2'"):
        freeze(network(), "stage3")
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="has no stages"):
        unfreeze(plain)


def test_recalibration(batch):
    import tensorflow as tf

    model = freeze(network(), "stage1")
    flags = [layer.trainable for layer in model.layers]
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(5)  # five images and three
    weights = [v.numpy() for v in model.variables if "moving" not in v.path]
    recalibrate_bn(model, dataset, 2)
    inputs = keras.Model(model.input, model.get_layer("stem_bn").input)(batch[0])
    bn = model.get_layer("stem_bn")
    np.testing.assert_allclose(bn.moving_mean, np.mean(inputs, (0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(bn.moving_variance, np.var(inputs, (0, 1, 2)), rtol=1e-4)
    assert (bn.momentum, flags) == (0.9, [layer.trainable for layer in model.layers])
    for value, old in zip((v for v in model.variables if "moving" not in v.path), weights, strict=True):
        assert np.array_equal(value.numpy(), old)


def test_recalibration_needs_its_steps(batch):
    import tensorflow as tf

    model = network()
    dataset = tf.data.Dataset.from_tensors(batch)
    before = model.get_weights()
    with pytest.raises(ValueError, match="ends after 1 of 2 steps"):
        recalibrate_bn(model, dataset, 2)
    with pytest.raises(ValueError, match="steps=0"):
        recalibrate_bn(model, dataset, 0)
    for value, old in zip(model.get_weights(), before, strict=True):
        assert np.array_equal(value, old)
