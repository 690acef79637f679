"""Classifiers of two classes by one sigmoid, of labels, and with layers of their own."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_resnet import ExportError, evaluate, export, open_export, predict
from keras_resnet.cli import main
from keras_resnet.inference.artifacts import Artifact
from keras_resnet.inference.predict_csv import predict_to_csv
from keras_resnet.metadata import attach_metadata, metadata_of
from keras_resnet.transform import Geometry


@keras.saving.register_keras_serializable("tests")
class Halved(layers.Layer):
    """Which no graph understands."""

    def call(self, x):
        return x / 2


def classifier(*tail, units=1):
    """Pixels of 0 to 255, their means, a dense layer and what follows it."""
    keras.utils.set_random_seed(1)
    x = image = keras.Input((8, 8, 3), name="image")
    spread = keras.initializers.RandomNormal(0, 0.5)
    body = [layers.Rescaling(1 / 128, -1), layers.Conv2D(4, 3, activation="relu"), layers.Flatten()]
    for layer in (*body, layers.Dense(units, kernel_initializer=spread), *tail):
        x = layer(x)
    return keras.Model(image, x, name="classifier")


@pytest.fixture
def arrays(rng):
    return rng.integers(0, 256, (40, 8, 8, 3), np.uint8), np.arange(40) % 2


@pytest.fixture
def image(save_image):
    return save_image("photo.png", size=(8, 8))


def two(model, images):
    p = model.predict(images, verbose=0).astype(np.float64)
    return np.concatenate([1 - p, p], axis=1)


def test_one_sigmoid_stands_for_two_classes(arrays, image, tmp_path):
    model = classifier(layers.Activation("sigmoid"))
    images, labels = arrays
    expected = two(model, images)
    evaluation = evaluate(model, arrays, "train")
    assert evaluation.top1 == (expected.argmax(axis=1) == labels).mean()
    assert 0 < evaluation.top1 < 1
    assert evaluation.confusion.shape == (2, 2)
    assert evaluation.loss == pytest.approx(-np.log(expected[np.arange(40), labels]).mean(), rel=1e-4)

    artifact = Artifact(model, ("cat", "dog"), Geometry(crop_fraction=1.0))
    (found,) = predict(artifact, image)
    (cat, dog) = two(model, keras.utils.img_to_array(keras.utils.load_img(image))[None])[0]
    assert dict(found.classes) == {"cat": pytest.approx(cat, abs=1e-4), "dog": pytest.approx(dog, abs=1e-4)}
    predict_to_csv(artifact, image, tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().startswith("path,class_1,probability_1,class_2,probability_2\n")


FORMATS = {"onnx": "onnxruntime", "litert": "ai_edge_litert", "openvino": "openvino"}


@pytest.mark.parametrize(
    "format, outputs",
    [
        ("onnx", "sigmoid"),
        ("onnx", "logits"),
        ("litert", "sigmoid"),
        pytest.param("openvino", "sigmoid", marks=pytest.mark.slow),
        pytest.param("openvino", "logits", marks=pytest.mark.slow),
        pytest.param("litert", "logits", marks=pytest.mark.slow),
    ],
)
def test_export_of_one_output(arrays, format, outputs, tmp_path):
    pytest.importorskip(FORMATS[format])
    model = classifier(*([layers.Activation("sigmoid")] if outputs == "sigmoid" else []))
    suffix = {"onnx": ".onnx", "litert": ".tflite", "openvino": ".xml"}[format]
    done = export(model, tmp_path / f"net{suffix}", format, outputs=outputs)
    assert done.card["outputs"] == outputs
    assert json.loads((tmp_path / f"net{suffix}.card.json").read_text())["outputs"] == outputs
    assert (tmp_path / f"net{suffix}.labels.txt").read_text() == "0\n1\n"
    by_sigmoid = model if outputs == "sigmoid" else keras.Sequential([model, layers.Activation("sigmoid")])
    expected = two(by_sigmoid, arrays[0])
    assert expected[:, 0].std() > 0.05
    np.testing.assert_allclose(open_export(done.path)(arrays[0]), expected, atol=1e-5)


def test_a_wrong_export_of_one_output_is_not_kept(monkeypatch, tmp_path):
    model = classifier(layers.Activation("sigmoid"))
    constant = keras.Model(
        model.input, layers.Softmax()(layers.Concatenate()([0 * model.output, model.output * 0]))
    )
    monkeypatch.setattr("keras_resnet.inference.export.rebuild", lambda *_: constant)
    with pytest.raises(ExportError, match="was not kept"):
        export(model, tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_labels_are_not_made_classes(arrays, image, tmp_path):
    model = classifier(layers.Activation("sigmoid"), units=3)
    pixels = keras.utils.img_to_array(keras.utils.load_img(image))[None]
    expected = model.predict(pixels, verbose=0)[0]
    (found,) = predict(Artifact(model, ("a", "b", "c"), Geometry(crop_fraction=1.0)), image)
    assert dict(found.classes) == {
        n: pytest.approx(p, abs=1e-4) for n, p in zip("abc", expected, strict=True)
    }
    assert sum(p for _, p in found.classes) != pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match="returns 3 sigmoids, each the probability of a label of its own"):
        evaluate(model, arrays, "train")
    pytest.importorskip("onnxruntime")
    done = export(model, tmp_path / "net.onnx", "onnx")
    np.testing.assert_allclose(open_export(done.path)(pixels), expected[None], atol=1e-5)


@pytest.mark.parametrize("outputs", ["probabilities", "logits"])
def test_the_user_says_what_the_graph_does_not(arrays, image, tmp_path, outputs):
    last = [layers.Softmax()] if outputs == "probabilities" else []
    plain = classifier(*last, units=2)
    model = classifier(*last, layers.Rescaling(2.0), Halved(), units=2)
    artifact = Artifact(model, ("cat", "dog"), Geometry(crop_fraction=1.0))
    for ask in (
        lambda: evaluate(model, arrays, "train"),
        lambda: predict(artifact, image),
        lambda: export(model, tmp_path / "net.onnx", "onnx"),
    ):
        with pytest.raises(ValueError, match="the outputs come from Halved 'halved.*'; say so by outputs="):
            ask()
    told = evaluate(model, arrays, "train", outputs=outputs)
    assert told.loss == pytest.approx(evaluate(plain, arrays, "train").loss, rel=1e-4)
    found, expected = (
        predict(artifact, image, outputs=outputs),
        predict(Artifact(plain, ("cat", "dog"), Geometry(crop_fraction=1.0)), image),
    )
    assert found[0].classes == [(name, pytest.approx(p, abs=1e-4)) for name, p in expected[0].classes]
    pytest.importorskip("onnxruntime")
    done = export(model, tmp_path / "net.onnx", "onnx", outputs=outputs)
    both = evaluate(plain, arrays, "train"), open_export(done.path)(arrays[0])
    assert (both[1].argmax(axis=1) == arrays[1]).mean() == both[0].top1


def test_the_command_line_is_told(image, folder, tmp_path, capsys):
    classifier(layers.Softmax(), Halved(), layers.Rescaling(2.0), units=2).save(tmp_path / "own.keras")
    assert main(["predict", str(tmp_path / "own.keras"), str(image)]) == 2
    assert "say so by outputs=" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "own.keras"), str(image), "--outputs", "probabilities"]) == 0
    assert (
        main(["evaluate", str(tmp_path / "own.keras"), "--data", str(folder), "--outputs", "probabilities"])
        == 0
    )


def test_names_and_outputs_must_agree(image):
    for model, names in (
        (classifier(layers.Softmax(), units=3), "ab"),
        (classifier(layers.Activation("sigmoid")), "a"),
    ):
        with pytest.raises(ValueError, match="class names for the . classes of 'classifier'"):
            predict(Artifact(model, tuple(names), Geometry(crop_fraction=1.0)), image)


def test_names_of_one_output():
    model = classifier(layers.Activation("sigmoid"))
    assert metadata_of(attach_metadata(model, class_names=["cat", "dog"])).class_names == ("cat", "dog")
    with pytest.raises(ValueError, match="a single class, 'dog', leaves 'classifier' nothing"):
        attach_metadata(model, class_names=["dog"])
