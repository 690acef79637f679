"""The benchmark of inference: contenders, turns and figures."""

import importlib.util

import numpy as np
import pytest

from keras_resnet.benchmark import infer


def test_contenders_compute_the_same(monkeypatch):
    monkeypatch.setattr(infer, "computes_bfloat16", lambda: False)
    monkeypatch.setattr(infer, "references", lambda library: [])
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    found = infer.contenders("resnet20_cifar", images)
    assert found.pop("fused bfloat16") == "neither a GPU nor a CPU with bfloat16 units"
    assert list(found) == ["keras_resnet predict", "keras_resnet tf.function", "fused float32"]
    first, *others = (compute() for compute in found.values())
    assert np.ptp(first) > 0.01
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-5)


def test_rows(monkeypatch):
    found = {"a": lambda: np.zeros(3), "b": "it is not here"}
    monkeypatch.setattr(
        infer, "contenders", lambda variant, images: found if images.shape == (4, 8, 8, 3) else {}
    )
    first, second = infer.run("resnet50", batch_size=4, image_size=8, rounds=2)
    assert (first.contender, first.ratio, first.rounds) == ("a", 1, 2)
    assert first.rate == pytest.approx(4e3 / first.milliseconds)
    assert (second.contender, second.note) == ("b", "it is not here")


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is here")
def test_libraries_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setattr(infer, "build_model", lambda *a, **k: None)
    for name in ("_synthetic", "_of_keras", "_of_fused"):
        monkeypatch.setattr(infer, name, lambda *arguments: {})
    found = infer.contenders("resnet18", np.zeros((1, 32, 32, 3), "float32"))
    assert found["timm"].startswith("comparing with timm needs torch")
