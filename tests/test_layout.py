"""Folders are splits or classes by their names and by what they hold."""

import os

import pytest
from PIL import Image

from keras_resnet import DataError, check_data, make_dataset, prepare_tfrecords
from keras_resnet.cli import main
from keras_resnet.data.folder import open_folder
from keras_resnet.data.layout import find_split, split_of
from keras_resnet.run_files import read_config

NAMES = {
    "train": "train Train TRAIN training Training train_set trainset train-data train_images seg_train "
    "train2017 ILSVRC2012_img_train training_set Train.Data x_train",
    "val": "val VAL val_set seg_val val2017 val_images",
    "valid": "valid Valid valid_set", "validation": "validation Validation validation_set",
    "dev": "dev dev_set Dev development", "eval": "eval eval_set evaluation",
    "test": "test Test TEST testing Testing test_set testset seg_test test1 test-images",
    "held_out": "held_out held-out holdout",
    None: "cat trains Trainer contest protest latest attest valley value evaluate_me device devil seg data "
    "set images 1 training_cats test_dog tests validated seg_pred",
}  # fmt: skip


@pytest.mark.parametrize(
    "split, name", [(split, name) for split, names in NAMES.items() for name in names.split()]
)
def test_names_of_splits(split, name):
    assert split_of(name) == split


@pytest.fixture
def tree(tmp_path):
    """Write small images of different content: ``tree("train/cat/1.png", ...)``; returns the root."""
    count = iter(range(10_000))

    def write(*names):
        for name in names:
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (next(count) * 7 % 256, len(name), 9)).save(path, "PNG")
        return str(tmp_path / "root")

    return write


def of(split, *classes, images=2):
    return [f"{split}/{name}/{i}.png" for name in classes for i in range(images)]


SPLITS = [
    ("Training", "Testing", "test"), ("Train", "Test", "test"), ("TRAIN", "VAL", "val"),
    ("train_set", "test_set", "test"), ("seg_train", "seg_test", "test"), ("train2017", "val2017", "val"),
    ("training", "validation", "validation"), ("training", "dev", "dev"), ("train", "dev", "dev"),
    ("train", "eval", "eval"), ("imagenet-train", "imagenet-val", "val"),
    ("TRAIN_SIMPLE", "TEST_SIMPLE", "test"), ("cats.v2.training", "cats.v2.testing", "test"),
]  # fmt: skip


@pytest.mark.parametrize("train, other, name", SPLITS)
def test_two_splits(tree, train, other, name):
    root = tree(*of(train, "cat", "dog", images=3), *of(other, "cat", "dog"))
    assert {k: (len(v.paths), v.class_names) for k, v in open_folder(root).items()} == {
        "train": (6, ("cat", "dog")),
        name: (4, ("cat", "dog")),
    }
    asked = {"train": 6, "held_out": 4, name: 4} | ({train: 6, other: 4} if split_of(train) else {})
    for split, images in asked.items():
        assert make_dataset(root, split, training=False).num_examples == images
    assert check_data(root).counts == {"train": {"cat": 3, "dog": 3}, name: {"cat": 2, "dog": 2}}


def test_names_for_the_same_purpose_find_the_split(tree):
    root = tree(*of("train", "a", "b"), *of("dev", "a", "b", images=3), *of("test", "a", "b"))
    assert list(open_folder(root)) == ["train", "dev", "test"]
    for split in ("val", "validation", "dev", "held_out"):
        assert make_dataset(root, split, training=False).num_examples == 6
    assert find_split("val", ["train", "dev", "eval"]) is None
    assert find_split("held_out", ["train", "test", "eval", "dev", "val"]) == "val"
    assert find_split("held_out", ["train", "Testing"]) == "Testing"
    assert find_split("held_out", ["train"]) is None


def test_splits_without_training_images(tree, tmp_path):
    root = tree(*of("val", "a", "b"), *of("test", "a", "b", images=3))
    assert make_dataset(root, "held_out").num_examples == 4
    assert make_dataset(root, "test").num_examples == 6
    with pytest.raises(DataError, match="root has no images for training; its splits are 'val', 'test'"):
        make_dataset(root)
    assert prepare_tfrecords(root, tmp_path / "out") == {"val": 4, "test": 6}
    assert make_dataset(tmp_path / "out", "held_out").num_examples == 4
    with pytest.raises(DataError, match="out has no images for training; its splits are 'val', 'test'"):
        make_dataset(tmp_path / "out")


def test_one_split_alone(tree, tmp_path):
    root = tree(*of("Training", "a", "b", images=20))
    parts = [make_dataset(root, split, training=False).num_examples for split in ("train", "held_out")]
    assert sum(parts) == 40
    (tmp_path / "root/Training").rename(tmp_path / "root/Test")
    assert make_dataset(root, "held_out").num_examples == 40
    assert prepare_tfrecords(root, tmp_path / "out") == {"test": 40}
    with pytest.raises(DataError, match="no images for training; its splits are 'test'"):
        make_dataset(root, "train")


def test_folder_around_each_split(tree):
    """As in the archives of Intel's scenes."""
    root = tree(*of("seg_train/seg_train", "a", "b"), *of("seg_test/seg_test", "a", "b", images=1))
    assert {k: len(v.paths) for k, v in open_folder(root).items()} == {"train": 4, "test": 2}


def test_class_with_the_name_of_a_split(tree):
    """As "train" in CIFAR-100, COCO and VOC."""
    root = tree(*of(".", "car", "bus", "train"))
    assert open_folder(root)["all"].class_names == ("bus", "car", "train")
    # Folders below a class folder belong to it.
    tree("train/steam/1.png", "car/old/1.png")
    assert open_folder(root)["all"].labels == [0] * 2 + [1] * 3 + [2] * 3


MIXED = {
    "classes in a split": [*of("train", "car", "bus"), *of(".", "car", "bus")],
    "another folder": [*of("train", "a", "b"), *of("test", "a", "b"), "extra/1.png"],
    "nothing but folders": [*of("train", "steam", "diesel"), *of("car", "old", "new")],
}


@pytest.mark.parametrize("case", MIXED)
def test_mixture_is_refused_with_both_readings(tree, case):
    root = tree(*MIXED[case])
    with pytest.raises(
        DataError,
        match=r"root: .*'train' could be splits, but not .*; layout=\"splits\" reads "
        r".* and leaves out .*, layout=\"classes\" reads all \d folders as classes",
    ) as error:
        make_dataset(root)
    assert "\n" not in str(error.value)
    assert "train" in open_folder(root, "splits")
    assert "train" in open_folder(root, "classes")["all"].class_names
    assert make_dataset(root, "train", layout="splits", batch_size=1).class_names == tuple(
        sorted({name.split("/")[1] for name in MIXED[case] if name.startswith("train")})
    )


def test_a_class_of_an_unsupported_format_is_named(tree):
    """The structure is that of classes; what is wrong is the format."""
    root = tree(*of(".", "bus", "train"))
    for i in range(2):
        os.rename(f"{root}/train/{i}.png", f"{root}/train/{i}.tif")
    with pytest.raises(DataError, match=r"train/0\.tif: this format is not supported"):
        make_dataset(root)


def test_split_without_class_folders_is_refused(tree):
    root = tree(*of("train", "a", "b"), "test/1.png", "test/2.png")
    with pytest.raises(DataError, match=r"root: there are no class folders in 'test'; expected "):
        make_dataset(root)
    assert make_dataset(root, "train", layout="splits", batch_size=1).class_names == ("a", "b")
    assert check_data(root, layout="splits").unused == [
        f'{root}/test: 2 files are not used (2 left out by layout="splits")'
    ]
    assert make_dataset(root, "all", layout="classes").class_names == ("test", "train")


def test_images_in_the_splits_themselves(tree):
    root = tree("train/cat.1.png", "train/dog.1.png", "test1/1.png")
    with pytest.raises(DataError, match="root: there are no class folders in 'test1', 'train'"):
        make_dataset(root)


def test_two_folders_of_one_split(tree):
    with pytest.raises(DataError, match="'Train' and 'train_set' are both the split 'train'"):
        make_dataset(tree(*of("Train", "a", "b"), *of("train_set", "a", "b")))


def test_splits_below_the_classes(tree):
    root = tree(*of("cat", "train", "test"), *of("dog", "train", "test"))
    with pytest.raises(
        DataError, match=r"'cat' holds 'test', 'train'; splits are expected above the classes"
    ):
        make_dataset(root)
    assert open_folder(root, "classes")["all"].labels == [0] * 4 + [1] * 4


def test_folder_around_it_all(tree):
    root = tree(*of("photos/train", "a", "b"), *of("photos/test", "a", "b"))
    with pytest.raises(DataError, match="root: holds one folder, 'photos', .* give .*root/photos"):
        make_dataset(root)
    assert make_dataset(f"{root}/photos", "test").num_examples == 4
    assert open_folder(root, "classes")["all"].class_names == ("photos",)


@pytest.mark.parametrize("tops", ["fold1 fold2 fold3", "amazon webcam", "2019 2020", "entrenamiento prueba"])
def test_splits_of_unknown_names(tree, tops):
    root = tree(*(name for top in tops.split() for name in of(top, "cat", "dog")))
    with pytest.raises(
        DataError, match=r"hold the same folders, 'cat', 'dog'. If they are splits, call them train"
    ):
        make_dataset(root)
    assert open_folder(root, "classes")["all"].class_names == tuple(tops.split())


def test_split_and_class_in_one_name(tree):
    root = tree(*of(".", "train_cat", "train_dog", "test_cat", "test_dog"))
    with pytest.raises(DataError, match=r"'train_cat', 'train_dog' name a split and a class; expected "):
        make_dataset(root)
    assert len(open_folder(root, "classes")["all"].class_names) == 4


def test_folders_below_the_classes_belong_to_them(tree):
    root = tree("cat/sub/1.png", "cat/sub/deeper/2.png", "cat/3.png", "dog/sub/1.png", "dog/more/2.png")
    whole = open_folder(root)["all"]
    assert (whole.class_names, whole.labels) == (("cat", "dog"), [0, 0, 0, 1, 1])
    # The same folder in each is a habit, not a class.
    tree("two/cat/images/1.png", "two/dog/images/1.png")
    assert open_folder(f"{root}/two")["all"].labels == [0, 1]


def test_splits_must_have_the_same_classes(tree):
    root = tree(*of("Train", "cat", "dog"), *of("Test", "cat", "Dog"))
    with pytest.raises(DataError, match="classes of 'train' and 'test' differ: 'Dog', 'dog'"):
        make_dataset(root)


def test_one_class_name_in_two_forms_of_unicode(tree):
    root = tree(*of("train", "cafe\u0301", "d "), *of("val", "caf\u00e9", "d"))
    assert {v.class_names for v in open_folder(root).values()} == {("caf\u00e9", "d")}
    with pytest.raises(DataError, match="the classes .* are the same name"):
        open_folder(tree(*of("train", "caf\u00e9"), *of("val", "cafe\u0301")))


def test_layout_is_one_of_two_and_for_folders(tree):
    with pytest.raises(DataError, match=r"layout='split' is unknown; choose one of \('splits', 'classes'\)"):
        make_dataset(tree(*of(".", "a", "b")), layout="split")
    with pytest.raises(
        DataError, match="layout='splits' is for folders of images; 'digits' has its own splits"
    ):
        make_dataset("digits", layout="splits")


@pytest.mark.slow
def test_a_run_remembers_the_layout_of_its_data(tree, tmp_path, capsys):
    root, run = tree(*of("train", "a", "b", images=8), *of("val", "a", "b"), "extra/1.png"), tmp_path / "run"
    command = ["train", "--data", root, "--epochs", "1", "--batch-size", "8", "--image-size", "8"]
    command += ["--out", str(run)]
    assert main(command) == 2
    assert 'layout="splits" reads the classes in' in capsys.readouterr().err
    assert main([*command, "--layout", "splits"]) == 0
    assert read_config(run)["layout"] == "splits"
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().err == ""
    assert main(["train", "--resume", str(run)]) == 0
    assert main(["evaluate", str(run), "--data", root, "--layout", "splits", "--json"]) == 0
    assert '"images": 4,' in capsys.readouterr().out
