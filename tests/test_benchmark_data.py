"""The table of the input."""

import importlib.util

import pytest

from keras_resnet.benchmark import data


def test_input_is_measured_beside_torch(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rows = data.run(rounds=1, images=50)
    assert [row.contender for row in rows if not row.note] == [
        "training", "evaluation", "crops and flips of timm-a3", "timm-a3", "32 pixels in memory",
    ]  # fmt: skip
    assert [row.contender for row in rows if row.note] == [
        "torch DataLoader, training", "torch DataLoader, evaluation",
    ]  # fmt: skip
    assert all(row.rate > 0 for row in rows if not row.note)
    with pytest.raises(ValueError, match="there are no images in this folder"):
        data.run(tmp_path, rounds=1)
