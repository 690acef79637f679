"""Batches: what is in them, in which order, from any start."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import DataError, make_dataset
from keras_resnet.data import images, sources, transforms
from keras_resnet.data.plan import Plan
from keras_resnet.data.transforms import AREA, ASPECT, LEFT, TOP


def take(dataset, count):
    return [(x.copy(), y.copy()) for x, y in dataset.take(count).as_numpy_iterator()]


def same(a, b):
    return all(
        np.array_equal(p, q) for one, two in zip(a, b, strict=True) for p, q in zip(one, two, strict=True)
    )


ARRAYS = (
    np.arange(40 * 6 * 6 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 6, 6, 3),
    np.arange(40) % 3,
)
AUGMENTED = dict(batch_size=8, crop="pad", crop_padding=2, flip=True)


def test_digits():
    train, test = make_dataset("digits", batch_size=64), make_dataset("digits", "held_out", batch_size=64)
    assert (train.num_examples, test.num_examples) == (1438, 359)
    assert train.class_names == tuple("0123456789")
    assert train.steps_per_epoch == 22
    images = np.concatenate([x for x, _ in test.as_numpy_iterator()])
    assert images.shape == (359, 8, 8, 1)
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert len(set(np.unique(images))) == 17


@pytest.mark.parametrize("start", [0, 3, 7, 12])
def test_training_can_start_at_any_step(start):
    whole = take(make_dataset(ARRAYS, seed=3, **AUGMENTED), 15)
    assert same(take(make_dataset(ARRAYS, seed=3, start_step=start, **AUGMENTED), 15 - start), whole[start:])


def test_same_seed_same_batches_other_seed_others():
    once, twice, other = (take(make_dataset(ARRAYS, seed=s, **AUGMENTED), 6) for s in (1, 1, 2))
    assert same(once, twice)
    assert not same(once, other)


def test_each_epoch_is_another_permutation_with_other_crops():
    images = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    dataset = make_dataset((images, np.arange(40)), batch_size=8)
    epochs = [np.concatenate([y for _, y in take(dataset.skip(5 * e), 5)]) for e in range(3)]
    for order in epochs:
        assert sorted(order) == list(range(40))
    assert len({order.tobytes() for order in epochs}) == 3
    crops = make_dataset(
        (np.arange(36, dtype=np.uint8).reshape(1, 6, 6, 1), [0]), **AUGMENTED | dict(batch_size=1)
    )
    assert len({x.tobytes() for x, _ in take(crops, 8)}) > 4


def test_images_and_labels_stay_together():
    images = np.repeat(np.arange(40, dtype=np.uint8), 9).reshape(40, 3, 3, 1)
    for x, y in take(make_dataset((images, np.arange(40)), batch_size=8), 10):
        np.testing.assert_array_equal(x[:, 0, 0, 0], y)


def test_evaluation_is_one_pass_in_order_with_the_rest():
    dataset = make_dataset(ARRAYS, training=False, batch_size=16)
    batches = take(dataset, 10)
    assert [len(y) for _, y in batches] == [16, 16, 8]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), ARRAYS[0])
    assert int(dataset.cardinality()) == dataset.steps_per_epoch == 3


def test_training_has_no_end_and_leaves_out_the_rest():
    dataset = make_dataset(ARRAYS, batch_size=16)
    assert dataset.steps_per_epoch == 2
    assert [len(y) for _, y in take(dataset, 7)] == [16] * 7


def test_keras_arrays_and_their_splits(tmp_path):
    x, y = ARRAYS
    pairs = ((x[:30], y[:30, None]), (x[30:], y[30:, None]))
    np.savez(tmp_path / "a.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    for data in (pairs, str(tmp_path / "a.npz")):
        assert make_dataset(data, batch_size=4).num_examples == 30
        assert make_dataset(data, "held_out", batch_size=4).num_examples == 10
        assert make_dataset(data, "test", batch_size=4).class_names == ("0", "1", "2")
    grey = make_dataset((x[..., 0], y), batch_size=4)
    assert grey.element_spec[0].shape == (4, 6, 6, 1)


def broken_arrays():
    x, y = ARRAYS
    return {
        "label 7": ((x, np.where(np.arange(40) == 5, -1, y)), "label -1 of image 5"),
        "float labels": ((x, y / 2), "dtype float64; expected one integer an image"),
        "one-hot": ((x, np.eye(3, dtype=int)[y]), r"labels.argmax\(axis=1\)"),
        "too few labels": ((x, y[:-1]), "40 images, but 39 labels"),
        "0 to 1": ((x / 255, y), "images are float64 from 0 to 1; expected uint8"),
        "NaN": ((np.where(x == 7, np.nan, x), y), r"NaN or infinite pixels \(image 0\)"),
        "int64": ((x.astype(int), y), "images are int64; expected uint8"),
        "channels first": (
            (x.transpose(0, 3, 1, 2), y),
            r"look channels first; use images.transpose\(0, 2, 3, 1\)",
        ),
        "objects": ((x.astype(object), y), "arrays of Python objects"),
        "flat": ((x.reshape(40, -1), y), r"images have shape \(40, 108\)"),
        "empty": ((x[:0], y[:0]), "the dataset is empty"),
        "three": ((x, y, y), "got 3 items"),
    }


@pytest.mark.parametrize("case", broken_arrays())
def test_bad_arrays_are_refused(case):
    data, message = broken_arrays()[case]
    with pytest.raises(DataError, match=message):
        make_dataset(data, batch_size=4)


def test_label_above_the_classes_is_refused():
    with pytest.raises(DataError, match="label 2 of image 2 is wrong.*below the 2 classes"):
        sources.array_source(*ARRAYS, ["a", "b"])


def test_pickles_are_never_read(tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    keys = dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), np.array([Bomb()], dtype=object))
    np.savez(tmp_path / "bomb.npz", **keys)
    with pytest.raises(DataError, match=r"bomb\.npz: not a readable \.npz"):
        make_dataset(tmp_path / "bomb.npz")
    assert not (tmp_path / "executed").exists()


def test_bad_npz(tmp_path):
    np.savez(tmp_path / "some.npz", x_train=np.zeros(1))
    with pytest.raises(DataError, match=r"some\.npz: lacks y_train, x_test, y_test; it has x_train"):
        make_dataset(tmp_path / "some.npz")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "some.npz").read_bytes()[:50])
    with pytest.raises(DataError, match=r"torn\.npz: not a readable"):
        make_dataset(tmp_path / "torn.npz")
    with pytest.raises(DataError, match=r"nowhere\.npz: there is no such file"):
        make_dataset("nowhere.npz")


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(batch_size=41), "batch_size=41 is above the 40 images of split 'train'"),
        (dict(batch_size=0), "batch_size=0"),
        (dict(crop="random"), "crop='random' is unknown"),
        (dict(split="held_out"), "these arrays has no split 'held_out'; choose one of all, train"),
        (dict(seed=-1), "seed=-1"),
        (dict(start_step=-1), "start_step=-1"),
        (dict(image_size=0), "image_size=0"),
        (dict(crop_fraction=1.5), "crop_fraction=1.5"),
        (dict(augment="autoaugment"), "augment='autoaugment' is unknown"),
        (dict(augment_magnitude=11), r"augment_magnitude=11 must be a finite number in \[0, 10\]"),
        (dict(augment_ops=0), "augment_ops=0 must be a whole number from 1 to 100"),
        (dict(color_jitter=-0.1), "color_jitter=-0.1"),
        (dict(erase=1.5), r"erase=1.5 must be a finite number in \[0, 1\]"),
        (dict(repeats=0), "repeats=0 must be a whole number of at least 1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        make_dataset(ARRAYS, **options)


def test_steps_beyond_the_data_go_on_into_the_next_epoch():
    assert len(take(make_dataset(ARRAYS, batch_size=8, start_step=1000), 12)) == 12


# Transforms.


def test_resize_and_crop_equals_pillow(rng):
    pixels = np.asarray(Image.fromarray(rng.integers(0, 256, (12, 9, 3), np.uint8)).resize((301, 400)))
    for size, fraction in ((64, 1.0), (64, 0.875), (224, 0.875)):
        short = int(size / fraction)
        resized = Image.fromarray(pixels).resize((short, int(short * 400 / 301)), Image.Resampling.BILINEAR)
        left, top = round((resized.width - size) / 2), round((resized.height - size) / 2)
        expected = np.asarray(resized.crop((left, top, left + size, top + size))).astype(int)
        ours = transforms.resize_and_crop(tf.constant(pixels), size, fraction).numpy()
        assert abs(ours - expected).max() <= 1


def test_resize_and_crop_of_a_thread_needs_no_memory():
    assert transforms.resize_and_crop(tf.ones((1, 10_000, 3), tf.uint8), 224, 0.875).shape == (224, 224, 3)
    assert transforms.resize_and_crop(tf.ones((1, 1, 3), tf.uint8), 224, 0.875).numpy().min() == 1


def numbers(count, seed=0, epoch=0):
    return transforms.uniforms(seed, epoch, tf.constant(0, tf.int64), count, 64)


def test_uniforms_are_uniform_and_do_not_hang_on_the_batches():
    u = numbers(500, 5, 1).numpy()
    assert abs(u.mean() - 0.5) < 0.01
    assert len(np.unique(u[:, 3])) > 490
    np.testing.assert_array_equal(transforms.uniforms(5, 1, tf.constant(490, tf.int64), 7, 64), u[490:497])
    assert not np.array_equal(u, numbers(500, 5, 2))
    assert not np.array_equal(u, numbers(500, 6, 1))


def test_flip_mirrors_half_of_the_images():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    flipped = transforms.flip(tf.constant(np.tile(image, (200, 1, 1, 1))), numbers(200)).numpy()
    mirrored = sum(np.array_equal(f, image[:, ::-1]) for f in flipped)
    kept = sum(np.array_equal(f, image) for f in flipped)
    assert mirrored + kept == 200
    assert 70 < mirrored < 130


def test_pad_crop_reaches_every_offset():
    image = np.arange(1, 10, dtype=np.uint8).reshape(3, 3, 1)
    crops = transforms.pad_crop(tf.constant(np.tile(image, (300, 1, 1, 1))), numbers(300), 1).numpy()
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    assert {c.tobytes() for c in crops} == {
        padded[i : i + 3, j : j + 3].tobytes() for i in range(3) for j in range(3)
    }


def test_batches_and_single_images_are_cropped_and_flipped_alike(monkeypatch):
    monkeypatch.setattr(Plan, "_augmentations", lambda plan, u: [])
    u = numbers(40)
    together, _ = Plan(6, crop="pad", crop_padding=2, flip=True).of_a_batch(tf.constant(ARRAYS[0]), None, u)
    prepare = Plan(6, crop="pad", crop_padding=2, flip=True, color_jitter=0.1).of_one_image(
        sources.array_source(*ARRAYS, "abc")
    )
    single = [prepare((x, tf.constant(0, tf.int64)), row)[0] for x, row in zip(ARRAYS[0], u, strict=True)]
    np.testing.assert_array_equal(together, tf.stack(single))


@pytest.mark.parametrize(
    "options",
    [
        dict(image_size=4),
        dict(image_size=4, crop_fraction=0.8, interpolation="bicubic"),
        dict(image_size=4, augment="trivialaugment"),
    ],
    ids=str,
)
def test_images_in_memory_are_shrunk_once(monkeypatch, options):
    calls, shrink = [], Plan.shrink
    monkeypatch.setattr(Plan, "shrink", lambda self, pixels: calls.append(1) or shrink(self, pixels))
    once = take(make_dataset(ARRAYS, **AUGMENTED | options), 12)
    assert len(calls) == len(ARRAYS[0])
    monkeypatch.setattr(Plan, "shrinks", lambda self, shape: False)
    assert same(once, take(make_dataset(ARRAYS, **AUGMENTED | options), 12))


@pytest.mark.parametrize(
    "options", [dict(image_size=6), dict(image_size=9), dict(image_size=4, crop="resized")]
)
def test_other_images_are_not_shrunk(monkeypatch, options):
    monkeypatch.setattr(Plan, "shrink", lambda self, pixels: 1 / 0)
    assert take(make_dataset(ARRAYS, batch_size=8, **options), 1)[0][0].shape[1] == options["image_size"]


@pytest.mark.parametrize("channels, colour", [(3, [124, 116, 104]), (1, [114])])
def test_erase_overwrites_a_rectangle_in_some_images(channels, colour):
    images = tf.fill((200, 24, 30, channels), tf.constant(9, tf.uint8))
    masks = (transforms.erase(images, numbers(200), 0.3).numpy() != 9).all(-1)
    erased = masks[masks.any((1, 2))]
    assert 40 < len(erased) < 80
    for mask in erased:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert 0.015 < mask.mean() < 0.35
    assert erased.any(0).mean() > 0.95
    out = transforms.erase(images, numbers(200), 1.0).numpy()
    assert np.unique(out[(out != 9).all(-1)], axis=0).tolist() == [colour]


def boxes(width, height, count=300):
    for u in numbers(count).numpy().tolist():
        yield images.random_box(width, height, u[3:13], u[13:23], u[1], u[2])


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (1, 1), (1, 500), (500, 1), (3, 900)])
def test_random_box_lies_in_any_image(shape):
    for left, top, width, height in boxes(*shape):
        assert left >= 0
        assert top >= 0
        assert 0 < width <= shape[0] - left
        assert 0 < height <= shape[1] - top


def test_random_box_covers_area_and_aspect():
    left, top, width, height = np.array(list(boxes(200, 200))).T
    areas, aspects = width * height / 200**2, width / height
    assert 0.07 < areas.min() < 0.12
    assert areas.max() > 0.85
    assert 0.7 < aspects.min() < 0.8 < 1.2 < aspects.max() < 1.45
    assert abs((left / (201 - width)).mean() - 0.5) < 0.05
    assert (left == 0).any()
    left, top, width, height = np.array(list(boxes(5, 5))).T
    assert ((width < 5) & (left + width == 5)).any()
    assert ((height < 5) & (top + height == 5)).any()


def test_repeated_augmentation():
    arrays = (ARRAYS[0], np.arange(40))
    options = AUGMENTED | dict(batch_size=6, repeats=3)
    batches = take(make_dataset(arrays, seed=3, **options), 8)
    for x, y in batches[:6]:
        assert [y[0]] * 3 + [y[3]] * 3 == y.tolist()
        assert len({image.tobytes() for image in x}) > 2
    assert len({y for _, labels in batches[:6] for y in labels}) == 12
    assert same(take(make_dataset(arrays, seed=3, start_step=4, **options), 4), batches[4:])


def test_folder_training_pipeline(folder):
    dataset = make_dataset(folder, image_size=12, batch_size=5, crop="resized", flip=True)
    assert dataset.element_spec[0].shape == (5, 12, 12, 3)
    assert same(take(dataset, 4)[2:], take(make_dataset(
        folder, image_size=12, batch_size=5, crop="resized", flip=True, start_step=2), 2))  # fmt: skip


def test_closing_an_iterator_does_not_wait_for_autotuning():
    batches = make_dataset("digits", "held_out", batch_size=8)
    assert batches.options().autotune.enabled is False


# Random parts of large images, in every format.


def textured(side):
    """A picture with more detail than its crops can show."""
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (side // 4, side // 4, 3), np.uint8)).resize((side, side))


def quarter_turned(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return dict(exif=exif), image.transpose(Image.Transpose.ROTATE_90)


@pytest.mark.parametrize(
    "kind", ["png", "bmp", "webp", "jpg", "rotated.jpg", "progressive.jpg", "rotated.png"]
)
def test_random_parts_are_antialiased_whatever_the_format(tmp_path, kind):
    whole = image = textured(903)
    options = {}
    if "rotated" in kind:
        options, image = quarter_turned(image)
    (tmp_path / "class").mkdir()
    file = tmp_path / "class" / f"x.{kind}"
    image.save(file, **options | dict(lossless=True, quality=95, subsampling=0, progressive="prog" in kind))
    found = take(make_dataset(tmp_path, "all", training=True, batch_size=1, image_size=56, seed=3,
                              crop="resized"), 24)  # fmt: skip
    differences, sides = [], []
    for epoch, (crop, _) in enumerate(found):  # of one image each
        (u,) = transforms.uniforms(3, epoch, 0, 1, Plan(56).numbers).numpy().tolist()
        left, top, width, height = images.random_box(903, 903, u[AREA], u[ASPECT], u[TOP], u[LEFT])
        part = whole.crop((left, top, left + width, top + height))
        expected = np.asarray(part.resize((56, 56), Image.Resampling.BILINEAR)).astype(int)
        differences.append(abs(crop[0] - expected).mean())
        sides.append(min(width, height))
    assert max(sides) > 8 * 56
    # Of parts that are not antialiased it is 32 to 45 grey levels.
    assert max(differences) < 2
