"""What people bring to `evaluate`, `predict` and the others: the right answer or one line."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_resnet as kr
from keras_resnet import DataError, evaluate, export, finetune, fuse, gradcam, make_dataset, predict
from keras_resnet.data.names import match_classes
from keras_resnet.inference.artifacts import Artifact
from keras_resnet.inference.preparation import Preparation, prepare_encoded
from keras_resnet.metadata import attach_metadata, metadata_of
from keras_resnet.preprocessing import find_front
from keras_resnet.training.new_head import with_new_head
from keras_resnet.transform import Geometry

COLORS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
RGB = ("red", "green", "blue")


def color_model(names=RGB, size=8):
    """Tells the color of an image: its three outputs are red, green and blue."""
    x = inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = keras.layers.Dense(3, "softmax", name="head")(x)
    model = keras.Model(inputs, x, name="color")
    model.set_weights([np.eye(3, dtype=np.float32) * 50, np.zeros(3, np.float32)])
    return model if names is None else attach_metadata(model, class_names=names)


def write(folder, classes, side=8):
    """A folder of class folders with four images each, all of the color that is given."""
    rng = np.random.default_rng(0)
    for name, color in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(4):
            noise = rng.integers(0, 30, (side, side, 3))
            pixels = np.clip(np.array(color) * 0.8 + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_classes_in_another_order_are_matched_by_name(tmp_path):
    found = evaluate(color_model(), write(tmp_path / "d", COLORS), "all")
    assert (found.top1, found.count) == (1, 12)
    assert "in another order and were matched by name" in str(found)
    assert (np.diag(found.confusion) == 4).all()


def test_names_that_are_the_same_text_are_the_same(tmp_path):
    names = ("rot", "gru\u0308n ", "blau")
    folder = write(
        tmp_path / "d", {"blau": COLORS["blue"], "gr\u00fcn": COLORS["green"], "rot": COLORS["red"]}
    )
    assert evaluate(color_model(names), folder, "all").top1 == 1


def test_a_subset_of_the_classes_is_evaluated_and_said(tmp_path):
    folder = write(tmp_path / "d", {name: COLORS[name] for name in ("blue", "red")})
    found = evaluate(color_model(), folder, "all")
    assert found.top1 == 1
    assert found.note == "the data have 2 of the 3 classes of 'color', matched by name"


@pytest.mark.parametrize(
    "names", [("grass", "tomato"), ("grass", "sky", "tomato"), ("blue", "green", "tomato")]
)
def test_other_classes_are_refused_with_both_lists(tmp_path, names):
    folder = write(tmp_path / "d", dict.fromkeys(names, (9, 9, 9)))
    with pytest.raises(DataError, match=rf"{', '.join(names)}.*red, green, blue.*does not know"):
        evaluate(color_model(), folder, "all")
    with pytest.raises(DataError, match="does not know"):
        export(color_model(), tmp_path / "m", calibration=folder)
    assert not (tmp_path / "m").exists()


def test_without_names_the_number_is_compared_and_said(tmp_path):
    folder = write(tmp_path / "d", COLORS)
    found = evaluate(color_model(None), folder, "all")
    assert found.top1 == pytest.approx(1 / 3)  # green alone is at its place
    assert found.note == "'color' without class names: only the number of classes was compared"
    x, y = np.zeros((6, 8, 8, 3), np.uint8), np.array([0, 1, 2] * 2)
    assert "the data without class names" in evaluate(color_model(), (x, y), "all").note
    with pytest.raises(DataError, match="the data have 2 classes; 'color' has 3"):
        evaluate(color_model(), (x, y % 2), "all")
    # Ten digits are no frogs, although arrays with ten labels might be.
    with pytest.raises(DataError, match="the data have 10 classes"):
        match_classes(kr.get_record("keras_resnet/resnet20_cifar.cifar10").class_names, tuple("0123456789"))


def scales(images):
    """Pixels on scales that are not 0 to 255."""
    return {"0-1": images / 255, "-1-1": images / 127.5 - 1, "mean": images - 127.0, "16 bit": images * 257}


@pytest.mark.parametrize("scale", ["0-1", "-1-1", "mean", "16 bit"])
@pytest.mark.parametrize("door", ["evaluate", "gradcam", "fuse", "finetune"])
def test_pixels_on_another_scale_are_refused_at_every_door(scale, door):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype("float32")
    images, labels = scales(pixels)[scale], np.arange(8) % 3
    batches = keras.utils.pack_x_y_sample_weight(images, labels)
    dataset = tf.data.Dataset.from_tensor_slices(batches).batch(4)
    dataset.class_names, dataset.steps_per_epoch, dataset.crop_fraction = RGB, 2, 1.0
    network = kr.build_resnet(
        ((1, 8),), block="basic", stem="conv3", stem_filters=8, num_classes=3, input_shape=(8, 8, 3),
        normalization=(0.5, 0.2),
    )  # fmt: skip
    doors = {
        "evaluate": lambda: evaluate(network, dataset), "gradcam": lambda: gradcam(network, images),
        "fuse": lambda: fuse(network)(images), "finetune": lambda: finetune(network, dataset, epochs=1),
    }  # fmt: skip
    with pytest.raises(ValueError, match="takes pixels of 0 to 255"):
        doors[door]()


def test_a_dark_picture_is_a_picture():
    model = color_model()
    dark = np.zeros((4, 8, 8, 3), np.uint8)
    dark[..., 0] = 1
    labels = np.zeros(4, np.int64)
    assert evaluate(model, ((dark, labels), (dark, np.arange(4) % 3)), "held_out").count == 4
    assert fuse(model)(dark).shape == fuse(model)(dark.astype("int32")).shape == (4, 3)
    bicubic = np.full((2, 8, 8, 3), 255.0)
    bicubic[0, 0, 0], bicubic[1, 0, 0] = 270.5, -12.25
    assert fuse(model)(bicubic).shape == (2, 3)


@pytest.mark.parametrize("front", ["normalization", "rescaling", "both"])
def test_a_model_for_values_of_0_to_1_is_refused(front):
    x = inputs = keras.Input((8, 8, 3))
    if front != "rescaling":
        x = keras.layers.Normalization(mean=[0.5] * 3, variance=[0.04] * 3)(x)
    if front != "normalization":
        x = keras.layers.Rescaling(2.0, -1.0)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(10, "softmax")(x))
    with pytest.raises(ValueError, match=r"does not take pixels of 0 to 255: its normalization multiplies"):
        evaluate(model, "digits", image_size=8)
    x = keras.Input((8, 8, 1))
    pixels = keras.Model(x, model(keras.layers.Concatenate()([keras.layers.Rescaling(1 / 255)(x)] * 3)))
    assert evaluate(pixels, "digits").count == 359


def test_a_rescaling_behind_the_weights_is_no_normalization():
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(0.1)(x))
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(x))
    with pytest.raises(ValueError, match="does not normalise its input"):
        evaluate(model, (np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 2])), "all")


def corner_model(size=32, classes=2):
    """Tells the color of the pixel in the upper left corner: red or green."""
    x = inputs = keras.Input((size, size, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(x))
    model = keras.Model(inputs, keras.layers.Dense(classes, "softmax", name="head")(x), name="corner")
    kernel = np.zeros((size * size * 3, classes), np.float32)
    kernel[0, 0] = kernel[1, 1] = 50
    model.set_weights([kernel, np.zeros(classes, np.float32)])
    return model


@pytest.fixture
def framed(tmp_path):
    """Images whose border has one color and whose middle has the other, in two sizes."""
    for side in (32, 64):
        for name, border, middle in (("a", (255, 0, 0), (0, 255, 0)), ("b", (0, 255, 0), (255, 0, 0))):
            pixels = np.full((side, side, 3), border, np.uint8)
            pixels[side // 32 : -side // 32, side // 32 : -side // 32] = middle
            for i in range(2):
                path = tmp_path / str(side) / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels[side // 2, side // 2] = i  # no two files are the same
                Image.fromarray(pixels).save(path)
    return tmp_path


def doors(model, folder):
    """The accuracy on a folder by every door."""
    predicted = predict(model, str(folder), top=1)
    right = [
        p.classes[0][0] in (p.path.split("/")[-2], str("ab".index(p.path.split("/")[-2]))) for p in predicted
    ]
    return {"predict": float(np.mean(right)), "evaluate": evaluate(model, folder, "all").top1}


def test_the_border_is_seen_or_cut_alike_at_every_door(framed):
    model = corner_model()
    # Nobody said anything: an image of exactly the model's size is whole, others are cropped.
    assert doors(model, framed / "32") == {"predict": 1, "evaluate": 1}
    assert doors(model, framed / "64") == {"predict": 0, "evaluate": 0}
    attach_metadata(model, geometry=Geometry(crop_fraction=1.0))
    assert doors(model, framed / "64") == {"predict": 1, "evaluate": 1}
    attach_metadata(model, class_names=("a", "b"), geometry=Geometry(crop_fraction=0.8))
    assert doors(model, framed / "32") == doors(model, framed / "64") == {"predict": 0, "evaluate": 0}


def test_the_geometry_is_in_the_file_and_in_the_export(framed):
    model = attach_metadata(corner_model(), class_names=("a", "b"), geometry=Geometry(crop_fraction=1.0))
    file = framed / "m.keras"
    model.save(file)
    assert kr.open_model(file).geometry == Geometry(crop_fraction=1.0)
    assert doors(str(file), framed / "64") == {"predict": 1, "evaluate": 1}
    for fraction, right in ((1.0, [0, 1]), (0.8, [1, 0])):
        attach_metadata(model, geometry=Geometry(crop_fraction=fraction))
        served = export(model, framed / f"served{fraction}").path
        run = tf.saved_model.load(str(served)).signatures["serving_default"]
        files = [(framed / "64" / name / "0.png").read_bytes() for name in "ab"]
        found = run(tf.constant(files))["probabilities"].numpy()
        assert found.argmax(axis=1).tolist() == right


def test_an_export_keeps_images_of_the_right_size_whole_if_nobody_stated_a_crop(framed):
    served = export(corner_model(), framed / "served").path
    run = tf.saved_model.load(str(served)).signatures["serving_default"]
    for side, right in ((32, [0, 1]), (64, [1, 0])):
        files = [(framed / str(side) / name / "0.png").read_bytes() for name in "ab"]
        found = run(tf.constant(files))["probabilities"].numpy()
        assert found.argmax(axis=1).tolist() == right


def self_preparing():
    """The corner model behind a resize to 40 px whose middle 32 px are kept."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Resizing(40, 40, crop_to_aspect_ratio=True, antialias=True)(inputs, training=False)
    return keras.Model(inputs, corner_model()(keras.layers.Cropping2D(4)(x)), name="prepares")


def test_a_model_that_prepares_its_images_gets_them_raw(framed):
    # It sees the middle of every image, and nobody cuts off more of it.
    model = self_preparing()
    assert doors(model, framed / "64") == doors(model, framed / "32") == {"predict": 0, "evaluate": 0}
    with pytest.raises(DataError, match="would be prepared twice"):
        evaluate(model, make_dataset(framed / "64", "all", training=False, image_size=32))
    with pytest.raises(DataError, match="image_size: 'prepares' resizes and crops its images itself"):
        evaluate(model, framed / "64", "all", image_size=32)


def test_what_a_run_knows_is_in_its_file(framed):
    run = kr.train(
        "resnet20_cifar", framed / "32", image_size=32, out=framed / "run",
        settings={"epochs": 1, "warmup_epochs": 0.0, "batch_size": 2},
    )  # fmt: skip
    # Training saw whole images: padded and cropped, never enlarged.
    assert metadata_of(run.model).geometry == Geometry(crop_fraction=1.0)
    (framed / "elsewhere").mkdir()
    moved = (framed / "run" / "model.keras").rename(framed / "elsewhere" / "m.keras")
    artifact = kr.open_model(moved)
    assert isinstance(artifact, Artifact)
    assert (artifact.class_names, artifact.geometry) == (("a", "b"), Geometry(crop_fraction=1.0))
    (framed / "elsewhere" / "classes.txt").write_text("b\na\n")
    with pytest.raises(ValueError, match=r"classes\.txt says b, a; m\.keras itself says a, b"):
        kr.open_model(moved)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("extents", [(100, 80), (31, 90), (40, 40)])
def test_records_without_antialiasing_are_resized_without(tmp_path, extents, interpolation):
    pixels = np.random.default_rng(0).integers(0, 256, (*extents, 3), np.uint8)
    short = 40
    resized = [short * extent // min(extents) for extent in extents]
    top, left = (round((extent - 35) / 2) for extent in resized)
    wanted = tf.image.resize(pixels, resized, interpolation)[top : top + 35, left : left + 35]
    wanted = np.clip(np.rint(wanted), 0, 255)
    geometry = Geometry(crop_fraction=0.875, interpolation=interpolation, antialias=False)
    # By every way that leads to the network: a folder, a single file, and the served graph.
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / name / f"{name}.png", pnginfo=None)
    how = dict(crop_fraction=0.875, interpolation=interpolation, antialias=False)
    ((batch, _),) = make_dataset(tmp_path, "all", training=False, image_size=35, **how)
    served = Preparation(35, 40, interpolation, 3, how)
    graph = prepare_encoded((tmp_path / "a" / "a.png").read_bytes(), served)
    assert np.abs(batch[0].numpy() - wanted).max() <= 1
    assert np.abs(graph.numpy() - wanted).max() <= 2
    x = inputs = keras.Input((35, 35, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(x))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
    kernel = np.zeros((35 * 35 * 3, 2), np.float32)
    kernel[777, 1] = 1 / 255
    model.set_weights([kernel, np.zeros(2, np.float32)])
    attach_metadata(model, geometry=geometry)
    ((_, first), *_) = predict(model, str(tmp_path / "a" / "a.png"), top=2)[0].classes
    assert first == pytest.approx(1 / (1 + np.exp(-wanted.reshape(-1)[777] / 255)), abs=2e-3)


def preparing(size=24, resize=32, **options):
    """A network behind a resize to `resize` px whose middle `size` px are kept."""
    options = {"crop_to_aspect_ratio": True, "antialias": True} | options
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Resizing(resize, resize, **options)(inputs, training=False)
    before = round((resize - size) / 2)
    x = keras.layers.Cropping2D(((before, resize - size - before),) * 2)(x)
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(x))
    return keras.Model(inputs, keras.layers.Dense(3, "softmax", name="head")(x), name="preparing")


def test_a_copy_with_a_new_head_does_not_prepare_prepared_images():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 24, 24, 3), np.uint8)
    source = preparing()
    images = tf.data.Dataset.from_tensor_slices((pixels, np.arange(6) % 3)).batch(3)
    images.class_names, images.steps_per_epoch = RGB, 2
    copy = with_new_head(source, 3, (24, 24, 3))
    features = keras.Model(source.layers[2].output, source.layers[-2].output)
    np.testing.assert_allclose(
        keras.Model(copy.input, copy.get_layer("head").input).predict(pixels, verbose=0),
        features.predict(pixels.astype("float32"), verbose=0), atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [{"crop_to_aspect_ratio": False}, {"interpolation": "nearest"}, {"resize": (32, 40)}],
    ids=["stretches", "nearest", "not square"],
)
def test_an_export_takes_over_only_what_it_can_state(tmp_path, options):
    model = preparing(**{key: value for key, value in options.items() if key != "resize"})
    if "resize" in options:
        inputs = keras.Input((None, None, 3))
        x = keras.layers.Rescaling(1 / 255)(keras.layers.Resizing(32, 40, crop_to_aspect_ratio=True)(inputs))
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, keras.layers.Dense(3, "softmax")(x))
    with pytest.raises(ValueError, match="resizes images otherwise than by their short side"):
        export(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_crop_inside_of_a_network_of_one_size_is_not_its_preparation(tmp_path):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Cropping2D(4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(x)))
    assert find_front(model) is None
    made = export(model, tmp_path / "m")
    transform = json.loads((made.path / "assets.extra" / "transform.json").read_text())
    assert transform["center_crop"] == 32


def test_a_sequential_that_was_never_called_passes_every_door(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), *color_model().layers[1:]])
    folder = write(tmp_path / "d", COLORS)
    attach_metadata(model, class_names=RGB)
    assert evaluate(model, folder, "all").top1 == 1
    assert {p.classes[0][0] for p in predict(model, str(folder / "red"))} == {"red"}
    assert export(model, tmp_path / "m", calibration=folder).comparison.top1 == (1, 1)
    with_new_head(model, 2, (8, 8, 3))


def own_dataset(images, names=("a", "b", "c")):
    labels = np.arange(len(images)) % 3
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    dataset.class_names = list(names) if names else None
    return dataset


def test_finetune_takes_a_dataset_of_its_users_own():
    network = kr.build_resnet(
        ((1, 8),), block="basic", stem="conv3", stem_filters=8, num_classes=5, input_shape=(8, 8, 3),
        normalization=(0.5, 0.2),
    )  # fmt: skip
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    tuned = finetune(network, own_dataset(images), own_dataset(images), epochs=2)
    assert metadata_of(tuned).class_names == ("a", "b", "c")
    for wrong, message in (
        (own_dataset(images, None), "with the same class_names.*image_dataset_from_directory"),
        (own_dataset(images).repeat(), "class_names"),
        (own_dataset(images).unbatch(), r"single images, \(8, 8, 3\): batch it"),
    ):
        with pytest.raises(DataError, match=message):
            finetune(network, wrong, epochs=1)


def test_images_of_another_size_are_refused():
    dataset = own_dataset(np.zeros((12, 9, 9, 3), np.uint8), RGB)
    with pytest.raises(DataError, match=r"the images are \(9, 9\) pixels.*'color' takes \(8, 8\)"):
        evaluate(color_model(), dataset)
    with pytest.raises(DataError, match="single images"):
        evaluate(color_model(), dataset.unbatch())
