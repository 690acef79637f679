"""The tables of measurements: who takes part, who wins, and what is written down."""

import csv
import time

import keras
import numpy as np
import pytest

from keras_resnet import build_resnet
from keras_resnet.benchmark import rounds, train
from keras_resnet.cli import main


def test_contenders_take_turns_and_medians_are_compared():
    order = []

    def contender(name, seconds, items):
        def turn():
            order.append(name)
            time.sleep(seconds)
            return items

        return turn

    rows = rounds.take_turns(
        {"slow": contender("slow", 0.02, 1), "absent": "needs luck", "fast": contender("fast", 0.01, 4)},
        rounds=3,
    )
    assert order == ["slow", "fast"] * 4
    assert [row.contender for row in rows] == ["slow", "absent", "fast"]
    slow, absent, fast = rows
    assert slow.ratio == 1
    assert 5 < fast.ratio < 11
    assert (absent.note, absent.rounds) == ("needs luck", 0)
    with pytest.raises(ValueError, match="rounds=0"):
        rounds.take_turns({}, rounds=0)


def test_tables_are_saved_as_text_csv_and_picture(tmp_path):
    rows = [
        rounds.Row("one", 2.0, 500.0, 1.0, 5),
        rounds.Row("two", float("nan"), float("nan"), float("nan"), 0, "no"),
    ]
    rounds.save("train model resnet18", rows, tmp_path / "new", "img/s")
    text = (tmp_path / "new" / "train-model-resnet18.txt").read_text()
    assert "not run: no" in text
    assert f"keras {keras.__version__}" in text
    with open(tmp_path / "new" / "train-model-resnet18.csv", newline="") as file:
        assert [row["contender"] for row in csv.DictReader(file)] == ["one", "two"]
    assert (tmp_path / "new" / "train-model-resnet18.png").read_bytes()[1:4] == b"PNG"


def test_stock_copy_computes_the_same_with_stock_layers_alone():
    model = build_resnet(stages=((1, 32),), cardinality=4, input_shape=(32, 32, 3), num_classes=3)
    copy = train.stock_copy(model)
    bound = {"call", "convolution_op"}
    assert any(bound & vars(layer).keys() for layer in model.layers)
    assert not any(bound & vars(layer).keys() for layer in copy.layers)
    for ours, theirs in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_command_prints_and_saves(capsys, tmp_path):
    arguments = [
        "benchmark",
        "train",
        "--batch-size",
        "2",
        "--image-size",
        "8",
        "--steps",
        "1",
        "--rounds",
        "1",
    ]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert "accelerated, float32" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 3
    assert main(["benchmark", "startup", "--batch-size", "2"]) == 2
    assert "no option for batch_size" in capsys.readouterr().err
