"""What predict has fused is kept for a model, and never longer than its weights."""

import gc
import time
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_resnet import DataError, build_resnet, build_resnet18, predict
from keras_resnet.inference import kept
from keras_resnet.inference import predict as module
from keras_resnet.inference.artifacts import to_artifact
from keras_resnet.inference.predict import stream_predictions


@pytest.fixture
def fused(monkeypatch):
    """The precisions of the models that were fused, in their order."""
    calls, fuse = [], module.fuse

    def count(model, precision):
        calls.append(precision)
        return fuse(model, precision)

    monkeypatch.setattr(module, "fuse", count)
    return calls


def network(**options):
    keras.utils.set_random_seed(0)
    return build_resnet(
        stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, stem_filters=8, num_classes=4,
        input_shape=(8, 8, 3), normalization=(0.5, 0.25), **options,
    )  # fmt: skip


@pytest.fixture
def image(save_image):
    return save_image("photo.png", size=(8, 8))


def check(model, image):
    """That predict says what the model says."""
    expected = model(keras.utils.img_to_array(keras.utils.load_img(image))[None], training=False).numpy()[0]
    found = dict(predict(model, image)[0].classes)
    assert found == {str(i): pytest.approx(p, abs=1e-5) for i, p in enumerate(expected)}


def train(model):
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
    model.fit(np.full((2, 8, 8, 3), 9, np.uint8), np.array([1, 2]), verbose=0)


def assign_one(model):
    model.get_layer("head").bias.assign([0.0, 3.0, 0.0, 0.0])


def train_with_xla(model):
    model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy", jit_compile=True)
    model.fit(np.full((2, 8, 8, 3), 9, np.uint8), np.array([1, 2]), verbose=0)


def with_adapters(model):
    model.get_layer("head").enable_lora(2)
    model.get_layer("head").lora_kernel_b.assign(np.ones((2, 4)) * [1, 9, 1, 1])


def bigger(model):
    model.set_weights([2 * w for w in model.get_weights()])


CHANGES = {
    "fit": train,
    "fit with XLA": train_with_xla,
    "assign": assign_one,
    "set_weights": bigger,
    "adapters": with_adapters,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_model_is_fused_anew_when_a_weight_has_changed(change, image, fused):
    model = network()
    for _ in range(3):
        check(model, image)
    assert len(fused) == 1
    change(model)
    for _ in range(2):
        check(model, image)
    assert len(fused) == 2


def test_with_a_sequential_of_sixteen_bits(image, fused):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(4, "softmax", dtype="bfloat16"),
        ]
    )
    for _ in range(2):
        before = predict(model, image)[0].classes
    assert len(fused) == 1
    model.layers[-1].bias.assign([0, 0, 9, 0])
    assert predict(model, image)[0].classes != before
    assert len(fused) == 2


def test_statistics_of_an_adapted_layer(image, fused):
    normalization = layers.Normalization()
    normalization.adapt(np.array([[0.0], [200.0]]))
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), normalization, layers.Flatten(), layers.Dense(4, "softmax")]
    )
    for values in ([[0.0], [200.0]], [[100.0], [900.0]]):
        normalization.adapt(np.array(values))
        check(model, image)
    assert len(fused) == 2


def test_each_precision_and_features_of_their_own(image, fused):
    artifact = to_artifact(network())
    for _ in range(2):
        predict(artifact, image)
        (found,) = stream_predictions(artifact, image, features=True)
        assert found.features.shape == (8,)
    assert fused == ["float32"] * 2
    predict(artifact, image, precision="float32", top=1)
    assert len(fused) == 2


def test_a_model_is_not_kept_alive(image):
    model = network()
    predict(model, image)
    count, alive = len(kept._KEPT), weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    assert len(kept._KEPT) < count


def test_where_addresses_say_nothing(image, fused):
    """As on a GPU: the values themselves are compared."""
    model = network()
    check(model, image)
    (found,) = kept._KEPT[model].values()
    found._on_cpu = False
    check(model, image)
    assert len(fused) == 1
    assign_one(model)
    check(model, image)
    assert len(fused) == 2


def test_one_image_is_read_as_many_are(save_image, tmp_path):
    artifact = to_artifact(network())
    paths = [save_image("a.png", size=(20, 13)), save_image("b.jpg", size=(9, 31))]
    together = predict(artifact, paths)
    for path, expected in zip(paths, together, strict=True):
        (found,) = predict(artifact, path)
        assert found.path == expected.path
        assert found.classes == [(name, pytest.approx(p, abs=1e-6)) for name, p in expected.classes]
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"bad\.png: neither JPEG"):
        predict(artifact, tmp_path / "bad.png")
    assert predict(artifact, []) == []
    assert tf.executing_eagerly()


@pytest.mark.slow
def test_a_further_call_costs_what_the_network_costs(save_image):
    """At most 1.5 times a call of the fused model with the same pixels."""
    model = build_resnet18(normalization=(0.5, 0.25))
    artifact, path = to_artifact(model), save_image("photo.jpg", size=(300, 260))
    fused, pixels = module.fuse(model, "float32"), np.zeros((1, 224, 224, 3), np.uint8)
    calls = {"predict": lambda: predict(artifact, path), "fused": lambda: fused(pixels).numpy()}
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(40):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    assert np.median(times["predict"]) < 1.5 * np.median(times["fused"])
