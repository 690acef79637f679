"""The files of a run, as people leave them: each is read rightly or refused by its name, key and value."""

import json

import pytest
import yaml

from keras_resnet.run_files import (
    read_classes,
    read_config,
    read_environment,
    read_history,
    write_classes,
)
from keras_resnet.training.runs import create

CONFIG = {
    "model": "resnet20_cifar", "data": "digits", "image_size": 32, "channels": 3, "crop_fraction": 0.875,
    "interpolation": "bilinear", "seed": 0, "recipe": {"epochs": 1},
}  # fmt: skip
DEEP = 5000


@pytest.mark.parametrize(
    "content",
    [
        b"ant\nbee\ncat\n", b"ant\nbee\ncat", b"ant\r\nbee\r\ncat\r\n", b"ant\rbee\rcat",
        b"\xef\xbb\xbfant\nbee\ncat\n", b"ant\nbee\ncat\n\n \n\r\n",
    ],
)  # fmt: skip
def test_classes_of_every_editor(tmp_path, content):
    (tmp_path / "classes.txt").write_bytes(content)
    assert read_classes(tmp_path / "classes.txt", 3) == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"ant\nbee\n", "names 2 classes, and the model has 3 outputs"),
        (b"title\nant\nbee\ncat\n", "names 4 classes, and the model has 3 outputs"),
        (b"", "names 0 classes, and the model has 3 outputs"),
        (b"ant\n\ncat\n", "line 2 is empty"),
        ("ant\n \ufeff \ncat\n".encode(), "line 2 is empty"),
        (b"ant\nbee\nant\n", "line 3 and .*classes.txt: line 1 are both 'ant'"),
        ("café\nbee\ncafe\u0301 \n".encode(), "line 3 and .*line 1 are both"),
        ("ant\nbee\ncat\n".encode("utf-16"), "is not UTF-8"),
        (b"\xff\nbee\ncat\n", "is not UTF-8"),
    ],
)
def test_classes_that_do_not_fit(tmp_path, content, message):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_classes(tmp_path / "classes.txt", 3)
    assert str(tmp_path / "classes.txt") in str(caught.value)


@pytest.mark.parametrize("names", [["a\x0bb", "c\x85d", "e\u2028f"], ["=1+1", "$x$", "#"], [" cat", "dog "]])
def test_classes_come_back(tmp_path, names):
    write_classes(tmp_path / "classes.txt", names)
    assert read_classes(tmp_path / "classes.txt", len(names)) == tuple(names)


@pytest.mark.parametrize("names", [["a\nb"], ["a\rb"], ["a", ""], ["a", "a"], ["\udc80"]])
def test_classes_that_no_file_holds(tmp_path, names):
    with pytest.raises(ValueError, match="class"):
        write_classes(tmp_path / "classes.txt", names)
    assert not (tmp_path / "classes.txt").exists()


@pytest.mark.parametrize(
    "key, value",
    [
        *(("image_size", value) for value in (1_000_000, 0, -1, 32.5, "32", True, None, [32])),
        *(("crop_fraction", value) for value in (0, -1, float("nan"), float("inf"), 1.5, "a", False)),
        *(("interpolation", value) for value in ("nearest", 1, ["bilinear"])),
        *(("seed", value) for value in (-1, 2**31, 0.0, "0", None, 10**30)),
        *(("recipe", value) for value in ("small", None, [], 3)),
        *((key, value) for key in ("model", "data") for value in ("", " ", 3, None, ["digits"], {})),
    ],
)
def test_values_of_a_configuration(tmp_path, key, value):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG | {key: value}))
    with pytest.raises(ValueError, match=rf"config.yaml: {key} is .*; it must be "):
        read_config(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in CONFIG.items() if k != key}))
    with pytest.raises(ValueError, match=f"config.yaml: {key} must be there"):
        read_config(tmp_path, needed=(key,))


def test_a_configuration_comes_back(tmp_path):
    (tmp_path / "config.yaml").write_text("\ufeff" + yaml.safe_dump(CONFIG | {"new": [1, {"a": None}]}))
    assert read_config(tmp_path, needed=CONFIG) == CONFIG | {"new": [1, {"a": None}]}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "", "3", "text", "- a", "null", "a: [", "a: *b", "a: \t", "\0",
        "a: !!python/object/apply:os.system [x]",
        "a: !!int ''", "a: !!timestamp x", "a: 2020-13-45", "a: 2020-01-01", "a: !!set {b}",
        "1: 2", "? [a]\n: b",
        "a: !!binary aGk=", "a: " + "9" * 5000, "a: " + "[" * DEEP + "]" * DEEP, "a: &a [*a]", BOMB,
        "a: " + "{b: " * DEEP + "}" * DEEP, "a: x" + "x" * 2**18,
    ],
)  # fmt: skip
def test_what_is_no_configuration(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match="config.yaml"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "3", "[]", "{" + " " * 2**18, "[" * 10**5, '{"a":' * 10**5, '{"a": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_what_is_no_environment(tmp_path, text):
    (tmp_path / "env.json").write_text(text)
    with pytest.raises(ValueError, match="env.json"):
        read_environment(tmp_path / "env.json")
    (tmp_path / "env.json").write_text(json.dumps({"keras": "3", "gpus": 0}))
    assert read_environment(tmp_path / "env.json") == {"keras": "3", "gpus": 0}


@pytest.mark.parametrize(
    "text, message",
    [
        ("epoch,loss\n1,2\n2\n", "a row has not as many values"),
        ("epoch,loss\n1,x\n", "could not convert"),
        ("epoch,loss\ninf,1\n", "epoch in row 1 is inf"),
        ("epoch,loss\nnan,1\n", "epoch in row 1 is nan"),
        ("epoch,loss\n1e300,1\n", "epoch in row 1 is 1e"),
        ("epoch,loss\n1.5,1\n", "epoch in row 1 is 1.5"),
        ("epoch,loss\n2,1\n2,1\n", "epoch in row 2 is 2, after 2"),
        ("epoch,loss\n1,1e300\n", "loss in row 1 is 1e"),
        ("epoch,seconds\n1,inf\n", "seconds in row 1 is inf"),
        ("epoch,seconds\n1,1\n2,-1\n", "seconds in row 2 is -1"),
        ("epoch,test_accuracy\n1,1.5\n", "test_accuracy in row 1 is 1.5"),
        ("epoch,test_accuracy\n1,inf\n", "test_accuracy in row 1 is inf"),
        ("epoch,learning_rate\n1,nan\n", "learning_rate in row 1 is nan"),
        ("epoch,images_per_second\n1,1e39\n", "images_per_second in row 1 is"),
        ("epoch,loss\n1," + "1" * 200_000 + "\n", "damaged"),
    ],
)
def test_numbers_of_a_history(tmp_path, text, message):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"history.csv.*{message}"):
        read_history(tmp_path / "history.csv")


def test_a_history_of_a_bad_training_is_read(tmp_path):
    (tmp_path / "history.csv").write_text("\ufeffepoch,loss,test_loss\r\n1,3.4e38,nan\r\n2,1,inf\r\n")
    rows = read_history(tmp_path / "history.csv")
    assert rows[1] == {"epoch": 2, "loss": 1, "test_loss": float("inf")}
    assert rows[0]["test_loss"] != rows[0]["test_loss"]


def test_a_refused_name_leaves_an_empty_folder(tmp_path):
    config = {"model": "resnet20_cifar", "seed": 0}
    with pytest.raises(ValueError, match="line break"):
        create(tmp_path / "run", config, ["a\nb"])
    create(tmp_path / "run", config, ["a", "b"])
    assert read_classes(tmp_path / "run/classes.txt", 2) == ("a", "b")
