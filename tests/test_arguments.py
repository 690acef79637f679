"""Arguments as people have them at hand: each is taken as what it means, or refused in one line."""

import re

import numpy as np
import pytest

import keras_resnet as kr
from keras_resnet import arguments
from keras_resnet.training.ema import EMA
from keras_resnet.training.recipe import override
from keras_resnet.training.recipes import RECIPES

ARRAYS = (np.zeros((8, 8, 8, 3), np.uint8), np.arange(8) % 2)


def tiny(**options):
    options = {"stages": ((1, 8), (1, 8)), "block": "basic", "stem": "conv3", "stem_pool": None} | options
    return kr.build_resnet(
        **{"input_shape": (8, 8, 3), "num_classes": 2, "normalization": (0.5, 0.25)} | options
    )


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.uint8(3), np.float32(3), np.array(3)])
def test_whole_numbers(value):
    found = arguments.whole("epochs", value)
    assert (found, type(found)) == (3, int)


NO_WHOLES = [
    "3",
    b"3",
    True,
    np.bool_(True),
    0,
    -1,
    2.5,
    float("nan"),
    float("inf"),
    10**30,
    1e300,
    None,
    [3],
    3j,
]


@pytest.mark.parametrize("value", NO_WHOLES, ids=repr)
def test_no_whole_numbers(value):
    with pytest.raises(ValueError, match="^epochs=.* must be a whole number "):
        arguments.whole("epochs", value)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), 0, np.int8(0)])
def test_rates(value):
    found = arguments.rate("dropout", value)
    assert (found, type(found)) == (float(value), float)


@pytest.mark.parametrize(
    "value", [1, 1.0, -0.1, "0.5", float("nan"), float("inf"), True, None, [0.5], 0.5j], ids=repr
)
def test_no_rates(value):
    with pytest.raises(ValueError, match=r"^dropout=.* must be a finite number in \[0, 1\)"):
        arguments.rate("dropout", value)


@pytest.mark.parametrize("value", [8, 8.0, (8, 8), [8, 8], np.array([8, 8]), np.int32(8), (np.int64(8), 8.0)])
def test_sides(value):
    assert arguments.side("image_size", value) == 8


@pytest.mark.parametrize(
    "value, message",
    [
        ((8, 6), "image_size=(8, 6) must be one side in pixels, such as 224: images are square."),
        ((8, 8, 3), "must be one side in pixels"),
        (("8", "8"), "must be one side in pixels"),
        (1_000_000, "must be a whole number from 1 to 4096."),
        ("8", "must be a whole number from 1 to 4096, not text."),
        (0, "image_size=0 must be"),
    ],
)
def test_no_sides(value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        arguments.side("image_size", value)
    with pytest.raises(ValueError, match=re.escape(message)):
        kr.make_dataset(ARRAYS, batch_size=4, image_size=value)
    with pytest.raises(ValueError, match=re.escape(message)):
        override(RECIPES["small"], {"image_size": value})


@pytest.mark.parametrize("value", [(8, 8, 3), [8, 8, 3], np.array([8, 8, 3]), (8.0, np.int64(8), 3)])
def test_input_shapes(value):
    assert tiny(input_shape=value).input_shape == (None, 8, 8, 3)


@pytest.mark.parametrize(
    "value, message",
    [
        ((8, 8), "such as (224, 224, 3): the channels are missing."),
        ((None, 8, 8, 3), "such as (224, 224, 3): leave out the batch."),
        (8, "must be (height, width, channels)"),
        ("8x8x3", "must be (height, width, channels)"),
        ((8, 8, None), "with channels known"),
        ((8, 8, 0), "channels=0 must be a whole number"),
        ((3, 8, 8), "has its channels first; the models are channels last: give (8, 8, 3)."),
        ((8, 8.5, 3), "width=8.5 must be a whole number"),
        ((8, "8", 3), "width='8' must be a whole number from 1 to 65536, not text."),
        ((-8, 8, 3), "height=-8 must be"),
        ((True, 8, 3), "height=True must be"),
        ((10**9, 8, 3), "height=1000000000 must be"),
        ((8, 8, 10**9), "channels=1000000000 must be"),
    ],
)
def test_no_input_shapes(value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny(input_shape=value)


@pytest.mark.parametrize(
    "value",
    [
        (0.5, 0.25),
        [0.5, 0.25],
        ((0.5,) * 3, np.full(3, 0.25)),
        np.array([[0.5] * 3, [0.25] * 3]),
        (np.float32(0.5), 0.25),
    ],
)
def test_normalizations(value):
    layer = tiny(normalization=value).get_layer("normalize")
    np.testing.assert_allclose(np.ones(3) * 255 * layer.scale + layer.offset, 2)


@pytest.mark.parametrize(
    "value, message",
    [
        ((123.7, 58.4), "mean of normalization is 123.7, which is on the scale of 0 to 255"),
        (((0.485, 0.456, 0.406), (58.4, 57.1, 57.4)), "std of normalization is 58.4, which is on the scale"),
        ((0.5, 0), "std of normalization=0 must be a finite number in (0, 1]"),
        ((0.5, float("nan")), "std of normalization=nan must"),
        ((float("nan"), 0.5), "mean of normalization=nan must"),
        ((0.5, -0.25), "std of normalization=-0.25 must"),
        ((-0.5, 0.25), "mean of normalization=-0.5 must"),
        (("0.5", 0.25), "mean of normalization='0.5' must be a finite number in [0, 1], not text."),
        (((0.5, 0.5), 0.25), "2 values for an input of 3 channels"),
        (((0.5, 0.25),) * 3, "normalization=((0.5, 0.25), (0.5, 0.25), (0.5, 0.25)) must be (mean, std)"),
        (0.5, "must be (mean, std)"),
        ("imagenet", "normalization='imagenet' must be (mean, std)"),
        (True, "must be (mean, std)"),
    ],
)  # fmt: skip
def test_no_normalizations(value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny(normalization=value)


@pytest.mark.parametrize(
    "options",
    [
        {"num_classes": np.int64(2)}, {"num_classes": 2.0}, {"dropout": np.float32(0.5)},
        {"drop_path": np.float64(0.5)}, {"stages": np.array([[1, 8], [1, 8]])}, {"stem_filters": np.int32(8)},
        {"cardinality": np.int64(1)}, {"norm_epsilon": np.float32(1e-5)}, {"include_top": np.bool_(True)},
    ],
    ids=repr,
)  # fmt: skip
def test_values_of_numpy_build_a_model_that_is_saved(options, tmp_path):
    model = tiny(**options)
    model.save(tmp_path / "m.keras")
    assert model.output_shape == (None, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"num_classes": True}, {"num_classes": "2"}, {"num_classes": 0}, {"dropout": 1.0}, {"dropout": "0.5"},
        {"drop_path": 1}, {"drop_block": -0.1}, {"include_top": "no"}, {"preprocess": "yes"},
        {"norm_epsilon": 0}, {"norm_momentum": 1.0}, {"se_ratio": 0}, {"cardinality": "32"},
        {"stages": ((10**9, 8),)}, {"stages": ((1, 10**10),)}, {"stem_filters": 10**9},
    ],
    ids=repr,
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_name(options):
    (name,) = options
    with pytest.raises(ValueError, match=name if name != "stages" else "stage 1"):
        tiny(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": np.int64(4)}, {"batch_size": 4.0}, {"seed": np.int32(2**31 - 1)},
        {"image_size": (8, 8)}, {"crop_fraction": np.float32(1)}, {"flip": np.bool_(True)},
        {"crop": "pad", "crop_padding": np.int8(2)}, {"start_step": np.int64(3)}, {"erase": np.float64(0.5)},
    ],
    ids=repr,
)  # fmt: skip
def test_values_of_numpy_make_a_dataset(options):
    images, labels = next(iter(kr.make_dataset(ARRAYS, **{"batch_size": 4} | options)))
    assert (images.shape, labels.shape) == ((4, 8, 8, 3), (4,))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": "4"}, {"batch_size": True}, {"batch_size": 2.5}, {"batch_size": None}, {"seed": None},
        {"seed": -1}, {"seed": 2**31}, {"seed": "0"}, {"crop_fraction": 0}, {"crop_fraction": float("nan")},
        {"crop_fraction": "1"}, {"flip": "yes"}, {"erase": True}, {"crop": ["pad"]}, {"augment": 3},
        {"color_jitter": float("inf")}, {"repeats": 1.5}, {"crop_padding": -1}, {"interpolation": None},
    ],
    ids=repr,
)  # fmt: skip
def test_a_dataset_refuses_what_cannot_be_meant(options):
    (name,) = options
    with pytest.raises(kr.data.errors.DataError, match=f"^{name}="):
        kr.make_dataset(ARRAYS, **options)


def test_a_recipe_takes_values_of_numpy_and_refuses_wrong_types_however_it_is_made():
    recipe = override(
        RECIPES["digits"], {"epochs": np.int64(5), "learning_rate": np.float32(0.5), "image_size": (8, 8)}
    )
    assert (recipe.epochs, recipe.learning_rate, recipe.image_size) == (5, 0.5, 8)
    assert [type(v) for v in (recipe.epochs, recipe.learning_rate)] == [int, float]
    assert type(RECIPES["digits"])(epochs=2.0, batch_size=4, learning_rate=1).epochs == 2
    with pytest.raises(ValueError, match="epochs='3' is str; the field takes int"):
        type(RECIPES["digits"])(epochs="3", batch_size=4, learning_rate=1)


@pytest.mark.parametrize("top, batch_size", [(np.int64(1), 2.0), (1.0, np.int16(2))])
def test_predict_takes_values_of_numpy(top, batch_size, save_image):
    (found,) = kr.predict(
        tiny(),
        save_image("a.png"),
        top=top,
        batch_size=batch_size,
    )
    assert len(found.classes) == 1


@pytest.mark.parametrize(
    "options", [{"top": 0}, {"top": "1"}, {"top": True}, {"batch_size": 0}, {"batch_size": 1.5}]
)
def test_predict_refuses_what_cannot_be_meant(options, save_image):
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name}="):
        kr.predict(tiny(), save_image("a.png"), **options)


@pytest.mark.parametrize(
    "make, options",
    [
        (kr.Checkpoint, {"keep": 1}), (kr.Checkpoint, {"keep": "2"}), (kr.Checkpoint, {"every": 0}),
        (kr.Checkpoint, {"every": 1.5}), (kr.Checkpoint, {"minutes": 0}), (kr.Checkpoint, {"minutes": "1"}),
        (EMA, {"decay": 1}), (EMA, {"decay": "0.9"}), (EMA, {"every": 0}),
    ],
)  # fmt: skip
def test_callbacks_refuse_what_cannot_be_meant(make, options, tmp_path):
    (name,) = options
    required = {"folder": tmp_path} if make is kr.Checkpoint else {"decay": 0.9}
    with pytest.raises(ValueError, match=f"^{name}="):
        make(**required | options)
    assert kr.Checkpoint(tmp_path, keep=np.int64(3), every=2.0, minutes=np.float32(1)).keep == 3


def test_features_takes_a_stage_or_several():
    model = tiny()
    assert list(kr.features(model, 2).output) == ["stage2"]
    assert list(kr.features(model, np.array([1, 2])).output) == ["stage1", "stage2"]
    with pytest.raises(ValueError, match="'1' must be a whole number"):
        kr.features(model, "12")


@pytest.mark.parametrize(
    "value", ["runs/my-run", None, "resnet50", np.zeros((1, 8, 8, 3))], ids=lambda v: type(v).__name__
)
@pytest.mark.parametrize(
    "call",
    [
        kr.features, kr.shape_table, kr.freeze, kr.unfreeze,
        lambda model: kr.gradcam(model, np.zeros((1, 8, 8, 3))), lambda model: kr.finetune(model, ARRAYS),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused_with_the_remedy(call, value):
    with pytest.raises(ValueError, match=r"^model=.* must be a Keras model; open_model\(path\)\.model opens"):
        call(value)


@pytest.mark.parametrize("value", [["resnet18"], 18, None, tiny])
def test_a_name_is_text(value):
    with pytest.raises(ValueError, match="^name=.* must be a name, such as 'resnet10t'"):
        kr.build_model(value)


def test_predict_refuses_arrays_with_the_remedy():
    with pytest.raises(ValueError, match=r"not ndarray; fuse\(model\)\.predict\(images\) takes arrays"):
        kr.predict(tiny(), np.zeros((2, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("name", ["training", "download", "flip"])
def test_text_is_no_flag(name):
    with pytest.raises(ValueError, match=f"^{name}='no' must be True or False"):
        kr.make_dataset(ARRAYS, batch_size=4, **{name: "no"})
