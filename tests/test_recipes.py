"""Recipes: the record, its files, the table, and that each one trains."""

import inspect
import re
import shlex

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from conftest import ROOT

from keras_resnet import RECIPES, VARIANTS, DataError, Recipe, build_resnet, make_dataset, open_model, train
from keras_resnet.cli import _parser
from keras_resnet.training import compile as compiling
from keras_resnet.training import feed, fit
from keras_resnet.training.compile import make_optimizer
from keras_resnet.training.datasets import AUGMENTATION, held_out_dataset, phases, training_dataset
from keras_resnet.training.guards import checked_fit
from keras_resnet.training.losses import accuracy, sigmoid_cross_entropy, softmax_cross_entropy
from keras_resnet.training.recipe import describe, override, read_recipe
from keras_resnet.training.recipes import choose_recipe, find_recipe
from keras_resnet.training.schedules import tell

TINY = {"stages": ((1, 8),), "stem": "conv3", "stem_filters": 8, "stem_pool": None}
PLAIN = Recipe(epochs=2, batch_size=8, learning_rate=0.1)


@pytest.fixture
def arrays(rng):
    """Sixteen random images of 12x12 in two classes, to train on and to be tested on."""
    split = rng.integers(0, 256, (16, 12, 12, 3), np.uint8), np.arange(16) % 2
    return split, split


# The record.


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no recipe 'timm-a4'; did you mean 'timm-a\d'"):
        train(recipe="timm-a4")
    with pytest.raises(ValueError, match=r"no recipe 'x'; give a .yaml file, or one of digits, small"):
        train(recipe="x")
    with pytest.raises(ValueError, match="no variant 'resnet21_cifar'"):
        train("resnet21_cifar")
    with pytest.raises(ValueError, match="no variant 'resnet21_cifar'"):
        train("resnet21_cifar", settings={"architecture": {"block": "basic"}})
    with pytest.raises(ValueError, match="no field 'learning_rat'; did you mean 'learning_rate'"):
        train(settings={"learning_rat": 0.1})
    with pytest.raises(ValueError, match="a variant has no field 'stem_norms'; did you mean 'stem_norm'"):
        train(settings={"architecture": {"stem_norms": False}})


def test_a_warmup_shrinks_with_the_epochs_where_it_must():
    small = RECIPES["small"]
    assert override(small, {"epochs": 1}).warmup_epochs == small.warmup_epochs / small.epochs
    assert override(small, {"epochs": 3}).warmup_epochs == small.warmup_epochs
    assert override(small, {"epochs": 2, "warmup_epochs": 0.5}).warmup_epochs == 0.5


def test_the_boundaries_of_a_step_schedule_follow_the_epochs():
    he = RECIPES["he2015-cifar"]
    assert override(he, {"epochs": 60}).boundaries == (30, 45)
    assert override(he, {"epochs": 320}).boundaries == (160, 240)
    assert override(he, {"epochs": 60, "boundaries": [20, 40]}).boundaries == (20, 40)
    assert override(he, {"epochs": 160}).boundaries == (80, 120)
    assert override(he, {"batch_size": 64}).boundaries == (80, 120)
    assert override(RECIPES["cifar10-notebook"], {"epochs": 2}).boundaries == (0.5, 1, 1.5)
    growing = override(he, {"image_sizes": [[0, 16], [80, 32]]})
    assert override(growing, {"epochs": 60}).image_sizes == ((0, 16), (30, 32))
    # The boundaries have no meaning for other schedules.
    assert override(he, {"epochs": 60, "schedule": "cosine"}).schedule == "cosine"


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].schedule == "step"])
@pytest.mark.parametrize("epochs", [1, 2, 7, 60, 1000])
def test_a_step_schedule_falls_in_every_length(name, epochs):
    recipe = override(RECIPES[name], {"epochs": epochs, "steps_per_epoch": 100})
    rate = make_optimizer(recipe, 100)._learning_rate
    falls = len(recipe.boundaries)
    assert float(rate(0)) == pytest.approx(recipe.learning_rate)
    last = float(rate(100 * epochs - 1))
    assert last == pytest.approx(recipe.learning_rate * recipe.factor**falls, rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"boundaries": [80, 160]}, {"boundaries": [200]}, {"boundaries": []}, {"boundaries": [0, 80]},
        {"epochs": 60, "boundaries": [80, 120]},
    ],
)  # fmt: skip
def test_a_step_schedule_that_would_not_step(settings):
    with pytest.raises(ValueError, match=r"must be above 0 and below epochs=\d+ for schedule='step'"):
        override(RECIPES["he2015-cifar"], settings)


@pytest.mark.parametrize(
    "name, settings, words",
    [
        ("he2015-cifar", {"epochs": 60}, "60 epochs: learning rate 0.1, times 0.1 after epochs 30, 45"),
        (
            "small",
            {},
            "60 epochs: learning rate 0.1, rising in the first 2, falling to 0 along half a cosine",
        ),
        (
            "cifar-fast",
            {},
            "60 epochs: learning rate from 0.004 to 0.1, rising in the first 2, falling to 0",
        ),
        ("fashion-mnist-chapter", {}, "5 epochs: learning rate 0.05, constant"),
    ],
)
def test_a_schedule_in_words(name, settings, words):
    assert tell(override(RECIPES[name], settings)).startswith(words)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"epochs": 0}, "epochs=0 must be above 0"),
        ({"epochs": 2.5}, "epochs=2.5 is float; the field takes int"),
        ({"batch_size": True}, "batch_size=True is bool"),
        ({"flip": "yes"}, "flip='yes' is str; the field takes bool"),
        ({"epochs": 3, "warmup_epochs": 3}, "warmup_epochs=3.0 must be at least 0 and below epochs=3"),
        ({"crop": 3}, "crop=3 is int"),
        ({"learning_rate": "high"}, "learning_rate='high' is str; the field takes float"),
        ({"learning_rate": "nan"}, "learning_rate=nan must be a finite number"),
        ({"clip_norm": [1]}, r"clip_norm=\[1\] is list; the field takes float | None"),
        ({"boundaries": 10}, "boundaries=10 is int"),
        ({"boundaries": [10, 5]}, r"boundaries=\(10.0, 5.0\) must rise"),
        ({"image_sizes": [[0, 8, 1]]}, r"image_sizes=\[\[0, 8, 1\]\] is list"),
        ({"image_sizes": [[1, 8]]}, r"image_sizes=\(\(1, 8\),\) must begin with epoch 0"),
        ({"momentum": 1}, r"momentum=1.0 must be in \[0, 1\)"),
        ({"mixup": -1}, "mixup=-1.0 must be at least 0"),
        ({"optimizer": "adam"}, "optimizer='adam' is unknown; choose one of"),
        ({"schedule": "linear"}, "schedule='linear' is unknown; choose one of"),
        ({"jit_compile": "yes"}, "jit_compile='yes' is unknown"),
        ({"architecture": "basic"}, "architecture='basic' is str"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        override(RECIPES["digits"], settings)


def test_override_casts():
    settings = yaml.safe_load(
        "{learning_rate: 1, crop: null, weight_decay: 1e-4, boundaries: [3, 4.5], jit_compile: true, "
        "image_sizes: [[0, 8], [2, 16]], architecture: {stages: [[1, 8], [2, 16]]}}"
    )
    recipe = override(RECIPES["digits"], settings)
    assert type(recipe.learning_rate) is float
    assert recipe.crop is None
    assert recipe.weight_decay == 1e-4
    assert recipe.boundaries == (3.0, 4.5)
    assert recipe.image_sizes == ((0, 8), (2, 16))
    assert recipe.architecture == {"stages": ((1, 8), (2, 16))}
    assert recipe.jit_compile is True


@pytest.mark.parametrize("name", RECIPES)
def test_a_file_gives_back_what_was_described(name, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump(describe(RECIPES[name])))
    assert find_recipe(str(path)) == RECIPES[name]


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "No such file"),
        ("- 1", "expected fields of a recipe"),
        ("epochs: 1\nbatch_size: 2", "needs learning_rate too"),
        ("epochs: 1\nbatch_size: 2\nlearning_rate: 1\nepoch: 3", "no field 'epoch'; did you mean 'epochs'"),
        (
            "epochs: !!python/object/apply:os.system ['true']",
            "not readable: could not determine a constructor",
        ),
        ("epochs: [", "not readable"),
    ],
)
def test_bad_files(text, message, tmp_path):
    path = tmp_path / "my.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=f"my.yaml.*{message}"):
        read_recipe(path)


# The table.


def test_recipe_for_the_data():
    cases = (("digits", 8), ("cifar10", 32), ("folder", 224))
    assert [choose_recipe(*case) for case in cases] == ["digits", "small", "photographs"]
    # `train` relies on it before it knows the size.
    held_out = ("image_size", "image_sizes", "test_image_size", "test_crop_fraction", "interpolation", "data")
    assert len({tuple(getattr(RECIPES[choose_recipe(*c)], n) for n in held_out) for c in cases}) == 1


def test_every_recipe_opens_with_its_command():
    source = (ROOT / "keras_resnet/training/recipes.py").read_text()
    opened = re.findall(r"# keras-resnet (train.*)\n((?:    # .*\n)+)    \"(.+?)\": Recipe", source)
    assert [name for _, _, name in opened] == list(RECIPES)
    for command, comment, name in opened:
        assert (_parser().parse_args(shlex.split(command)).recipe or "digits") == name
        assert re.search("Measured|Not measured here", " ".join(comment.split("#")))


def test_recipes_name_variants():
    assert {recipe.model for recipe in RECIPES.values()} - {None} <= set(VARIANTS)


def test_he2015_takes_64000_steps():
    recipe = RECIPES["he2015-cifar"]
    schedule = compiling.make_optimizer(recipe, recipe.steps_per_epoch)._learning_rate
    assert schedule.steps == 64_000
    rates = [float(schedule(step)) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


# What they are made of.


@pytest.fixture
def eagerly():
    """Without graphs, whose tracing takes most of the time of two steps."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(name, arrays, tmp_path, monkeypatch, eagerly):
    monkeypatch.setattr(fit, "draw_run", lambda *_: None)
    recipe = RECIPES[name]
    settings = dict(
        architecture=recipe.architecture | TINY, epochs=2, steps_per_epoch=1, batch_size=8,
        warmup_epochs=min(recipe.warmup_epochs, 1.0), image_size=8,
        test_image_size=12 if recipe.test_image_size else 8,
    )  # fmt: skip
    run = train(recipe.model or "resnet20_cifar", arrays, name, out=tmp_path / "run", settings=settings)
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert all(np.isfinite(list(row.values())).all() for row in run.history)
    assert run.model.input_shape[1] == settings["test_image_size"]
    assert (tmp_path / "run/model_as_trained.keras").exists() == bool(recipe.ema)


def test_growing_images(arrays, tmp_path, monkeypatch, capsys):
    sizes = []
    making = feed.training_dataset

    def spy(data, recipe, size, seed, start_step=0, **where):
        sizes.append((size, start_step))
        return making(data, recipe, size, seed, start_step, **where)

    monkeypatch.setattr(feed, "training_dataset", spy)
    recipe = override(PLAIN, dict(architecture=TINY, epochs=3, image_sizes=((0, 8), (1, 12)), ema=0.9))
    run = train("resnet20_cifar", arrays, recipe, out=tmp_path / "run")
    assert sizes == [(8, 0), (12, 2)]
    assert [row["epoch"] for row in run.history] == [1, 2, 3]
    assert "jit_compile=False: " in capsys.readouterr().out.splitlines()[0]
    again = open_model(tmp_path / "run").model
    assert again.input_shape == (None, 12, 12, 3)
    kernel = [open_model(tmp_path / f"run/{n}.keras").model.weights[0] for n in ("model", "model_as_trained")]
    assert np.abs(kernel[0] - kernel[1]).max() > 0
    assert phases(recipe) == [(0, 1, 8), (1, 3, 12)]
    assert phases(PLAIN) == [(0, 2, None)]


def test_augmentation_reaches_the_pipeline(arrays, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "keras_resnet.training.datasets.make_dataset", lambda *_, **options: seen.update(options)
    )
    training_dataset(arrays, override(PLAIN, dict(augment="randaugment", erase=0.5, flip=True)), 8, 3, 7)
    assert {"augment": "randaugment", "erase": 0.5, "flip": True}.items() <= seen.items()
    assert (seen["seed"], seen["start_step"], seen["image_size"]) == (3, 7, 8)
    assert not {"repeats", "color_jitter", "crop"} & set(seen)
    held_out_dataset(arrays, RECIPES["torchvision-v2"])
    assert (seen["image_size"], seen["crop_fraction"]) == (224, 224 / 232)


def test_augmentation_has_the_defaults_of_the_pipeline():
    parameters = inspect.signature(make_dataset).parameters
    assert {n: parameters[n].default for n in AUGMENTATION} == {n: getattr(Recipe, n) for n in AUGMENTATION}


def test_labels_are_soft_where_the_recipe_says_so(arrays):
    hard = training_dataset(arrays, PLAIN, 8, 0)
    soft = training_dataset(arrays, override(PLAIN, {"label_smoothing": 0.1}), 8, 0)
    assert (hard.element_spec[1].shape, soft.element_spec[1].shape) == ((8,), (8, 2))
    images, labels = next(soft.as_numpy_iterator())
    np.testing.assert_array_equal(images, next(hard.as_numpy_iterator())[0])
    assert np.unique(labels).tolist() == pytest.approx([0.05, 0.95])


def test_losses_and_accuracy(rng):
    logits = rng.normal(size=(6, 5)).astype(np.float32)
    hard, soft = np.arange(6) % 5, rng.dirichlet(np.ones(5), 6).astype(np.float32)
    for labels, shares in ((hard, np.eye(5)[hard]), (soft, soft)):
        log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        wanted = -(shares * log_softmax).sum(axis=1)
        np.testing.assert_allclose(softmax_cross_entropy(tf.constant(labels), logits), wanted, rtol=1e-5)
        binary = shares * np.log1p(np.exp(-logits)) + (1 - shares) * np.log1p(np.exp(logits))
        np.testing.assert_allclose(
            sigmoid_cross_entropy(tf.constant(labels), tf.constant(logits)), binary.mean(axis=1), rtol=1e-5
        )
        right = shares.argmax(axis=1) == logits.argmax(axis=1)
        np.testing.assert_array_equal(accuracy(tf.constant(labels), tf.constant(logits)), right)


@pytest.mark.parametrize("decay_all", [False, True])
def test_decay_spares_biases_and_normalisation(decay_all):
    network = build_resnet(**TINY, input_shape=(8, 8, 3))
    recipe = override(PLAIN, {"weight_decay": 1e-4, "decay_all": decay_all})
    logits = compiling.compile_logits(network, recipe, 10)
    decayed = {v.name for v in logits.trainable_variables if logits.optimizer._use_weight_decay(v)}
    assert decayed == ({"kernel", "gamma", "beta", "bias"} if decay_all else {"kernel"})


def test_compiled_as_the_recipe_says():
    network = build_resnet(**TINY, input_shape=(8, 8, 3))
    recipe = override(PLAIN, dict(optimizer="lamb", clip_norm=2.0, accumulate=4, jit_compile=True))
    logits = compiling.compile_logits(network, recipe, 10, any_size=True)
    optimizer = logits.optimizer
    assert (optimizer.global_clipnorm, optimizer.gradient_accumulation_steps) == (2.0, 4)
    assert logits.jit_compile is True
    assert logits.input_shape == (None, None, None, 3)
    assert [a is b for a, b in zip(logits.variables, network.variables, strict=True)] == [True] * len(
        network.variables
    )
    x = np.ones((1, 8, 8, 3), np.float32)
    np.testing.assert_allclose(tf.nn.softmax(logits(x)), network(x), atol=1e-6)


@pytest.mark.parametrize("batches", [0, 5])
@pytest.mark.parametrize("known", [True, False])
def test_data_that_end_too_early_are_an_error(batches, known):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    dataset = tf.data.Dataset.from_tensors((tf.ones((1, 2)), tf.ones((1, 1)))).repeat(batches)
    dataset = dataset if known else dataset.filter(lambda *_: True)
    words = (
        f"has {batches} batches, and 8 steps need" if known else "empty or ends before the last of 4 steps"
    )
    with pytest.raises(DataError, match=words):
        checked_fit(model, dataset, steps_per_epoch=4, epochs=2, verbose=0)
