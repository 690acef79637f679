"""The benchmark of inference: contenders, turns and figures."""

import importlib.util

import numpy as np
import pytest

from keras_resnet.benchmark import infer


def test_contenders_compute_the_same(monkeypatch):
    monkeypatch.setattr(infer, "has_bfloat16_units", lambda: False)
    monkeypatch.setattr(infer, "references", lambda library: [])
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    found, absent = infer.contenders("resnet20_cifar", images)
    assert list(found) == ["keras_resnet predict", "keras_resnet tf.function", "fused float32"]
    assert absent == ["fused bfloat16: neither a GPU nor a CPU with bfloat16 units"]
    first, *others = (compute() for compute in found.values())
    assert np.ptp(first) > 0.01
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-5)


def test_contenders_take_turns():
    calls = []
    rows = infer.measure({name: lambda name=name: calls.append(name) for name in "ab"}, 8, rounds=3)
    assert calls == list("abababab")
    assert [row.contender for row in rows] == ["a", "b"]
    assert rows[0].ratio == 1
    for row in rows:
        assert row.images_per_second == pytest.approx(8e3 / row.median_ms)
    assert rows[1].ratio == pytest.approx(rows[0].median_ms / rows[1].median_ms)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is here")
def test_libraries_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setattr(infer, "build_model", lambda *a, **k: None)
    for name in ("_synthetic", "_of_keras", "_of_fused"):
        monkeypatch.setattr(infer, name, lambda *arguments: {})
    _, absent = infer.contenders("resnet18", np.zeros((1, 32, 32, 3), "float32"))
    assert any(line.startswith("timm: comparing with timm needs torch") for line in absent)
