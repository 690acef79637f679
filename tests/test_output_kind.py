"""What a classifier's outputs are, asked of its graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from keras_resnet.output_kind import output_kind, to_probabilities
from keras_resnet.tails import UnknownOutputs, class_count

SIZE, CLASSES = 4, 3


def maps(units=CLASSES, **options):
    """``(batch, 4, 4, units)`` from a convolution."""
    return lambda x: layers.Conv2D(units, 1, **options)(x)


def dense(units=CLASSES, activation=None, **options):
    return lambda x: layers.Dense(units, activation, **options)(layers.GlobalAveragePooling2D()(x))


def model(*steps):
    x = inputs = keras.Input((SIZE, SIZE, 3))
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x)


def nested(*steps):
    """The steps as a Functional model of their own, called."""

    def call(x):
        y = inner = keras.Input(x.shape[1:])
        for step in steps:
            y = step(y)
        return keras.Model(inner, y)(x)

    return call


def average(*branches):
    return lambda x: layers.Average()([branch(x) for branch in branches])


def shared(x):
    """One softmax layer that is called twice."""
    softmax = layers.Softmax()
    softmax(layers.Dense(7)(layers.Flatten()(x)))
    return softmax(dense()(x))


def masked(x):
    return layers.Softmax()(dense()(x), mask=ops.ones((1, CLASSES), "bool"))


def ensemble_of_models(x):
    return layers.Average()([nested(dense(activation="softmax"))(x), nested(dense(), layers.Softmax())(x)])


softmax, sigmoid = layers.Activation("softmax"), layers.Activation("sigmoid")
gap, flat = layers.GlobalAveragePooling2D(), layers.Flatten()
FOUND = {
    "softmax of its own": ("probabilities", [dense(), layers.Activation("softmax")]),
    "softmax in the dense layer": ("probabilities", [dense(activation="softmax")]),
    "softmax layer": ("probabilities", [dense(), layers.Softmax()]),
    "softmax layer of two axes": (
        "probabilities",
        [gap, layers.Reshape((1, 3)), layers.Softmax(axis=[1, 2]), layers.Flatten()],
    ),
    "softmax of keras.ops": ("probabilities", [dense(), lambda x: ops.softmax(x)]),
    "softmax of keras.activations": ("probabilities", [dense(), lambda x: keras.activations.softmax(x)]),
    "softmax of tensorflow": ("probabilities", [dense(activation=tf.nn.softmax)]),
    "a layer as activation": ("probabilities", [dense(activation=layers.Softmax())]),
    "masked": ("probabilities", [masked]),
    "shared": ("probabilities", [shared]),
    "cast and dropout behind": (
        "probabilities",
        [dense(dtype="float16", activation="softmax"), lambda x: ops.cast(x, "float32"), layers.Dropout(0.5)],
    ),
    "convolution, softmax, mean over pixels": ("probabilities", [maps(activation="softmax"), gap]),
    "convolution, softmax, mean by ops": (
        "probabilities",
        [maps(activation="softmax"), lambda x: ops.mean(x, axis=(1, 2))],
    ),
    "1x1 convolution and reshape": (
        "probabilities",
        [layers.GlobalAveragePooling2D(keepdims=True), maps(), layers.Softmax(), layers.Reshape((CLASSES,))],
    ),
    "1x1 convolution and squeeze": (
        "probabilities",
        [layers.GlobalAveragePooling2D(keepdims=True), maps(), softmax, lambda x: ops.squeeze(x, (1, 2))],
    ),
    "1x1 convolution and index": (
        "probabilities",
        [layers.GlobalAveragePooling2D(keepdims=True), maps(), layers.Softmax(), lambda x: x[:, 0, 0]],
    ),
    "softmax over axis 1, which the classes are": (
        "probabilities",
        [layers.AveragePooling2D(4), layers.Permute((3, 1, 2)), layers.Softmax(axis=1), flat],
    ),
    "nested": ("probabilities", [nested(dense(), layers.Softmax())]),
    "softmax in a nested model, dropout in another": (
        "probabilities",
        [nested(nested(dense(), layers.Softmax())), nested(layers.Dropout(0.1), layers.Identity())],
    ),
    "softmax before a nested Sequential": (
        "probabilities",
        [dense(activation="softmax"), lambda x: keras.Sequential([layers.Dropout(0.1)])(x)],
    ),
    "average of two": ("probabilities", [average(dense(activation="softmax"), dense(activation="softmax"))]),
    "average of two models": ("probabilities", [ensemble_of_models]),
    "several sigmoids": ("sigmoid", [dense(activation="sigmoid")]),
    "one sigmoid": ("sigmoid", [dense(1), layers.Activation("sigmoid")]),
    "sigmoid of keras.ops": ("sigmoid", [dense(), lambda x: ops.sigmoid(x)]),
    "sigmoid of tensorflow": ("sigmoid", [dense(activation=tf.nn.sigmoid)]),
    "hard sigmoid": ("sigmoid", [dense(activation="hard_sigmoid")]),
    "sigmoid and maximum": ("sigmoid", [maps(activation="sigmoid"), layers.GlobalMaxPooling2D()]),
    "sigmoid of all pixels": ("sigmoid", [maps(1, activation="sigmoid"), layers.Flatten()]),
    "average of sigmoids": ("sigmoid", [average(dense(1, "sigmoid"), dense(1, "sigmoid"))]),
    "dense": ("logits", [dense()]),
    "linear": ("logits", [dense(activation="linear"), layers.Activation("linear")]),
    "dense behind a softmax": ("logits", [dense(activation="softmax"), layers.Dense(CLASSES)]),
    "log-softmax": ("logits", [dense(activation="log_softmax")]),
    "log-softmax of keras.ops": ("logits", [dense(), lambda x: ops.log_softmax(x)]),
    "convolution and mean": ("logits", [maps(), layers.GlobalAveragePooling2D()]),
    "convolution and maximum": ("logits", [maps(), layers.GlobalMaxPooling2D()]),
    "a temperature for logits": ("logits", [dense(), lambda x: x / 2.5]),
    "rescaled logits": ("logits", [dense(), layers.Rescaling(3.0)]),
    "average of logits": ("logits", [average(dense(), dense())]),
}


@pytest.mark.parametrize("kind, steps", FOUND.values(), ids=FOUND)
def test_the_graph_tells(kind, steps, rng):
    classifier = model(*steps)
    assert output_kind(classifier) == kind
    outputs = classifier.predict_on_batch(rng.normal(size=(5, SIZE, SIZE, 3)).astype(np.float32))
    probabilities = to_probabilities(outputs, kind)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (5, class_count(classifier))
    if kind != "sigmoid" or outputs.shape[1] == 1:
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-3)


@keras.saving.register_keras_serializable("tests")
class Softmax(layers.Layer):
    """Of the name of Keras's own."""

    axis = -1

    def call(self, x):
        return x * 2


class Louder(layers.Dense):
    """A dense layer with a call of its own."""

    def call(self, x):
        return super().call(x) * 2


class Own(keras.Model):
    """A graph with a call of its own."""

    def call(self, x):
        return super().call(x) * 2


def own(x):
    y = inner = keras.Input(x.shape[1:])
    return Own(inner, dense(activation="softmax")(y))(x)


def halves(x):
    return ops.add(dense(activation="softmax")(x), dense(activation="softmax")(x)) / 2


UNKNOWN = {
    "custom layer": ("Softmax '", [dense(), lambda x: Softmax()(x)]),
    "subclass": ("Louder '", [lambda x: Louder(CLASSES)(layers.Flatten()(x))]),
    "model with a call of its own": ("Own '", [own]),
    "lambda": ("Lambda '", [dense(activation="softmax"), layers.Lambda(lambda x: x)]),
    "function as activation": ("activation '<lambda>'", [dense(activation=lambda x: x)]),
    "relu": ("activation 'relu'", [dense(activation="relu")]),
    # Of a batch, its rows in Keras 3.15 do not sum to one.
    "sparsemax": ("activation 'sparsemax'", [dense(activation="sparsemax")]),
    "relu layer": ("ReLU '", [dense(), layers.ReLU()]),
    "tanh": ("activation 'tanh'", [dense(), layers.Activation("tanh")]),
    "features": ("InputLayer|ReLU '", [maps(), layers.ReLU(), layers.GlobalAveragePooling2D()]),
    "temperature behind the softmax": (
        "changes its probabilities",
        [dense(activation="softmax"), lambda x: x / 2.0],
    ),
    "rescaled sigmoid": ("changes its sigmoid", [dense(activation="sigmoid"), layers.Rescaling(2.0)]),
    "softmax over the pixels": (
        r"axis \[1\].*axis 3",
        [maps(), layers.Softmax(axis=1), layers.GlobalAveragePooling2D()],
    ),
    "softmax over the batch": (r"axis \[0\].*axis 1", [dense(), layers.Softmax(axis=0)]),
    "softmax of each pixel, flattened": (
        "changes its probabilities",
        [maps(activation="softmax"), layers.Flatten()],
    ),
    "softmax and maximum": (
        "changes its probabilities",
        [maps(activation="softmax"), layers.GlobalMaxPooling2D()],
    ),
    "softmax without its first class": (
        "changes its probabilities",
        [dense(4, "softmax"), lambda x: x[:, 1:]],
    ),
    "log-softmax over the pixels": (
        r"axis \[1\]",
        [maps(), lambda x: ops.log_softmax(x, 1), layers.GlobalAveragePooling2D()],
    ),
    "dropout that stays on": (
        "Dropout '",
        [dense(activation="softmax"), lambda x: layers.Dropout(0.5)(x, training=True)],
    ),
    "mixed average": ("averages different", [average(dense(), dense(activation="softmax"))]),
    "sum": ("TrueDivide '|changes its probabilities|Add '", [halves]),
    "its input": ("the outputs are its inputs", [layers.GlobalAveragePooling2D()]),
    "pixels in the batch": (
        "Reshape '",
        [maps(activation="softmax"), lambda x: ops.reshape(x, (-1, CLASSES))],
    ),
}


@pytest.mark.parametrize("why, steps", UNKNOWN.values(), ids=UNKNOWN)
def test_what_the_graph_does_not_tell_is_asked(why, steps):
    classifier = model(*steps)
    with pytest.raises(UnknownOutputs, match=why) as error:
        output_kind(classifier)
    assert "outputs=" in str(error.value)
    assert "\n" not in str(error.value)
    assert output_kind(classifier, "probabilities") == "probabilities"


def test_a_sequential():
    steps = [keras.Input((SIZE, SIZE, 3)), layers.Flatten(), layers.Dense(CLASSES)]
    assert output_kind(keras.Sequential(steps)) == "logits"
    assert output_kind(keras.Sequential([*steps, layers.Softmax()])) == "probabilities"
    assert output_kind(
        keras.Sequential([keras.Sequential([*steps, layers.Softmax()]), layers.Dropout(0.1)])
    ) == ("probabilities")
    with pytest.raises(ValueError, match="no head to classify with"):
        output_kind(keras.Sequential([layers.Dense(CLASSES)]))


def test_a_subclassed_model_has_no_graph():
    class Net(keras.Model):
        def call(self, x):
            return ops.softmax(x)

    with pytest.raises(ValueError, match="no head to classify with"):
        output_kind(Net())


@pytest.mark.parametrize(
    "steps, outputs, message",
    [
        ([dense(activation="softmax")], "logits", "'logits' for .* whose graph returns 'probabilities'"),
        ([dense()], "sigmoid", "whose graph returns 'logits'"),
        ([dense()], "softmax", "'softmax' is unknown; choose one of 'probabilities', 'logits', 'sigmoid'"),
        ([dense(1, "softmax")], None, "has one output; .* 1 for every image: two classes need a sigmoid"),
        ([dense(1)], None, "has one output without an activation: say outputs='logits'"),
        ([dense(1)], "sigmoid", "whose graph returns 'logits'"),
        ([maps()], None, r"returns \(None, 4, 4, 3\), not one output"),
        ([lambda x: [dense()(x), dense()(x)]], None, "not one output"),
        ([lambda x: {"a": dense()(x)}], None, "not one output"),
    ],
)
def test_contradictions_and_no_classifiers(steps, outputs, message):
    with pytest.raises(ValueError, match=message):
        output_kind(model(*steps), outputs)


def test_one_output_is_the_logit_of_the_second_class_when_told():
    assert output_kind(model(dense(1)), "logits") == "logits"
    found = to_probabilities([[np.log(3)], [0], [-200]], "logits")
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.5, 0.5], [1, 0]], atol=1e-6)
    np.testing.assert_allclose(to_probabilities([[0.75]], "sigmoid"), [[0.25, 0.75]])


@pytest.mark.parametrize(
    "kind, expected", [("probabilities", [0, 1]), ("sigmoid", [0, 1]), ("logits", [0.268941, 0.731059])]
)
def test_numbers_decide_nothing(kind, expected):
    np.testing.assert_allclose(to_probabilities([[0.0, 1.0]], kind)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "logits, expected",
    [
        ([1e30, 0.0], [1, 0]),
        ([-3e38, 3e38], [0, 1]),
        ([np.inf, 7.0], [1, 0]),
        ([np.inf, np.inf], [0.5, 0.5]),
        ([-np.inf, -2.0], [0, 1]),
        ([1000.0, 1000.0 + np.log(3)], [0.25, 0.75]),
    ],
)
def test_logits_that_overflow(logits, expected):
    np.testing.assert_allclose(to_probabilities([logits], "logits")[0], expected, atol=1e-4)
    assert np.isnan(to_probabilities([[np.nan, 1.0]], "logits")).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits(dtype):
    logits = ops.cast([[70000.0, 1.0]], dtype)  # infinite in float16
    np.testing.assert_allclose(to_probabilities(logits, "logits"), [[1, 0]])


def test_a_wrong_word_shows_in_the_numbers():
    with pytest.raises(ValueError, match="outputs='sigmoid', but one of them is 3.5"):
        to_probabilities([[3.5, 0.1]], "sigmoid")
    with pytest.raises(ValueError, match="outputs='probabilities', but those of an image sum to 1.4"):
        to_probabilities([[0.5, 0.9]], "probabilities")
