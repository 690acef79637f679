"""Whatever graph a model is, `fuse`, `export` and its file compute what `model.predict` computes."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import SIZE, random_classifier

from keras_resnet import export, fuse
from keras_resnet.inference.artifacts import open_model
from keras_resnet.inference.rebuild import rebuild

IMAGES = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3)).astype("float32")


def check(graphs, exported, folder):
    """Hold everything that is made of a classifier against it."""
    model, maps = graphs
    expected = maps.predict(IMAGES, verbose=0)
    same(fuse(maps)(IMAGES), expected)
    model.save(folder / "model.keras")
    opened = open_model(folder / "model.keras").model
    same([fuse(opened)(IMAGES)], expected[:1])
    if exported:
        export(opened, folder / "served", images=4)  # which compares
    else:
        same([rebuild(model)(IMAGES, training=False)], expected[:1])


def same(found, expected):
    for ours, theirs in zip(found, expected, strict=False):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * max(1, abs(theirs).max()))


@pytest.mark.parametrize(
    "count, exported", [(30, False), (3, True), pytest.param(300, True, marks=pytest.mark.slow)]
)
def test_random_graphs(count, exported, tmp_path_factory):
    @settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.randoms(use_true_random=False))
    def hold(r):
        check(random_classifier(r), exported, tmp_path_factory.mktemp("graph"))

    hold()
    keras.backend.clear_session()
