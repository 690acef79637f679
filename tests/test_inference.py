"""Evaluation and prediction."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_resnet import DataError, build_resnet, evaluate, make_dataset, open_model, predict

OPTIONS = dict(stages=((1, 8),), block="basic", stem="conv3", stem_pool=None, stem_filters=8, num_classes=6)


def classifier(channels=3, **options):
    return build_resnet(**OPTIONS | dict(input_shape=(8, 8, channels), normalization=(0.5, 0.25)) | options)


@pytest.fixture
def arrays(rng):
    return rng.integers(0, 256, (50, 8, 8, 3), np.uint8), np.arange(50) % 6


def test_figures_by_hand(arrays):
    model = classifier()
    probabilities = model.predict(arrays[0], verbose=0)
    order = np.argsort(-probabilities, axis=1)
    labels = arrays[1]
    evaluation = evaluate(model, arrays, "train", batch_size=16)
    assert evaluation.count == 50
    assert evaluation.top1 == (order[:, 0] == labels).mean()
    assert evaluation.top5 == (order[:, :5] == labels[:, None]).any(axis=1).mean()
    assert evaluation.loss == pytest.approx(-np.log(probabilities[np.arange(50), labels]).mean(), rel=1e-5)
    assert evaluation.confusion.sum(axis=1).tolist() == np.bincount(labels).tolist()
    assert str(evaluation).endswith("50 images")


def test_logits_give_the_same_figures(arrays):
    model = classifier()
    # Logits near probabilities: within 0 to 1, with a sum of 1.
    model.get_layer("head").set_weights(
        [np.zeros((8, 6), np.float32), np.array([0.9, 0.02, 0.02, 0.02, 0.02, 0.02])]
    )
    logits = keras.Model(model.input, model.get_layer("head").output)
    ours, theirs = (evaluate(m, arrays, "train") for m in (model, logits))
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert ours.top1 == theirs.top1


def test_a_model_that_does_not_normalise_is_refused(arrays):
    with pytest.raises(ValueError, match=r"does not normalise its input.*normalization=\(mean, std\)"):
        evaluate(classifier(normalization=None), arrays, "train")


def test_data_that_do_not_fit_the_model(arrays):
    with pytest.raises(DataError, match="the images have 3 channels; .* takes 1"):
        evaluate(classifier(channels=1), arrays, "train")
    with pytest.raises(DataError, match="the data have 6 classes; .* has 9"):
        evaluate(classifier(num_classes=9), arrays, "train")
    with pytest.raises(DataError, match="has no end"):
        evaluate(classifier(), make_dataset(arrays, batch_size=8))


@pytest.fixture
def saved(tmp_path):
    (tmp_path / "run").mkdir()
    classifier().save(tmp_path / "run" / "model.keras")
    (tmp_path / "run" / "classes.txt").write_text("ant\nbee\ncat\ndog\nemu\nfox\n")
    return tmp_path / "run"


def test_predict_names_the_likeliest_classes(saved, folder):
    predictions = predict(saved, [folder / "cat", str(folder / "dog/2.png")])
    assert [p.path for p in predictions] == [str(folder / f"cat/{i}.png") for i in range(6)] + [
        str(folder / "dog/2.png")
    ]
    for prediction in predictions:
        names, probabilities = zip(*prediction.classes, strict=True)
        assert len(set(names) & {"ant", "bee", "cat", "dog", "emu", "fox"}) == 5
        assert list(probabilities) == sorted(probabilities, reverse=True)


def test_predict_sees_what_evaluate_sees(saved, folder):
    model = open_model(saved).model
    images, _ = next(
        make_dataset(folder, "all", training=False, image_size=8, batch_size=12).as_numpy_iterator()
    )
    expected = model.predict(images, verbose=0).max(axis=1)
    found = [p.classes[0][1] for p in predict(saved, folder / "cat") + predict(saved, folder / "dog")]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_grey_model_takes_colour_images(tmp_path, folder):
    classifier(channels=1).save(tmp_path / "grey.keras")
    Image.new("L", (20, 20), 77).save(tmp_path / "grey.png")
    (prediction,) = predict(tmp_path / "grey.keras", tmp_path / "grey.png")
    expected = classifier  # the class names of a bare file are numbers
    assert {name for name, _ in prediction.classes} <= set("012345")
    model = open_model(tmp_path / "grey.keras").model
    expected = model.predict(np.full((1, 8, 8, 1), 77, np.uint8), verbose=0).max()
    assert prediction.classes[0][1] == pytest.approx(expected, rel=1e-5)


def test_predict_errors(saved, folder, tmp_path):
    (folder / "cat/0.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"cat/0\.png: neither JPEG"):
        predict(saved, folder / "cat")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="nothing: the folder has no images"):
        predict(saved, tmp_path / "nothing")
    with pytest.raises(DataError, match=r"absent\.png: cannot be read: No such file"):
        predict(saved, tmp_path / "absent.png")


def test_open_model_errors(tmp_path):
    with pytest.raises(ValueError, match="there is no such model"):
        open_model(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"model\.keras is not a readable Keras model"):
        open_model(tmp_path)
    (tmp_path / "model.h5").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"ends in \.keras"):
        open_model(tmp_path / "model.h5")


def test_code_in_a_model_is_not_run(tmp_path):
    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs)).save(tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match=r"lambda\.keras is not a readable Keras model"):
        open_model(tmp_path / "lambda.keras")
