"""Random classifiers of all layers that Keras has for images, for the tests of what is made of a model."""

import keras
import numpy as np
from keras import layers

from keras_resnet.layers import DropBlock, ReflectionPadding2D, StandardizedConv2D

SIZE = 8
ACTIVATIONS = ["linear", "relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "softplus", "hard_swish", "elu"]
# For maps (batch, height, width, channels): from a random generator and the shape to a layer.
LAYERS = {
    "conv": lambda r, s: _convolution(layers.Conv2D, r, s),
    "standardized": lambda r, s: _convolution(StandardizedConv2D, r, s),
    "dilated": lambda r, s: layers.Conv2D(4, 3, padding="same", dilation_rate=(2, 1)),
    "transposed": lambda r, s: layers.Conv2DTranspose(
        3, r.choice([2, 3]), strides=r.choice([1, 2]), padding=r.choice(["same", "valid"])
    ),
    "depthwise": lambda r, s: layers.DepthwiseConv2D(
        3, strides=r.choice([1, 2]), padding="same", depth_multiplier=r.choice([1, 2])
    ),
    "separable": lambda r, s: layers.SeparableConv2D(4, 3, padding="same", activation=r.choice(ACTIVATIONS)),
    "dense": lambda r, s: layers.Dense(4, activation=r.choice(ACTIVATIONS), use_bias=r.random() < 0.5),
    "einsum": lambda r, s: layers.EinsumDense("abcd,de->abce", (*s[:2], 4), bias_axes="e"),
    "spectral": lambda r, s: layers.SpectralNormalization(layers.Conv2D(4, 3, padding="same")),
    "by row": lambda r, s: layers.TimeDistributed(layers.Conv1D(4, 3, padding=r.choice(["same", "causal"]))),
    "batch norm": lambda r, s: layers.BatchNormalization(
        axis=r.choice([-1, -1, -1, 3, 1]), scale=r.random() < 0.7, center=r.random() < 0.7,
        epsilon=r.choice([1e-3, 1e-5]), renorm=r.random() < 0.2,
    ),
    "group norm": lambda r, s: layers.GroupNormalization(
        r.choice([1, s[-1], -1]), scale=r.random() < 0.7, center=r.random() < 0.7
    ),
    "layer norm": lambda r, s: layers.LayerNormalization(
        axis=r.choice([-1, (1, 2, 3), 1]), scale=r.random() < 0.7, center=r.random() < 0.7
    ),
    "rms norm": lambda r, s: layers.RMSNormalization(),
    "unit norm": lambda r, s: layers.UnitNormalization(),
    "normalization": lambda r, s: _adapted(s),
    "rescaling": lambda r, s: layers.Rescaling(0.5, offset=0.1),
    "activation": lambda r, s: layers.Activation(r.choice(ACTIVATIONS)),
    "activation object": lambda r, s: layers.Conv2D(
        3, 1, activation=r.choice([layers.PReLU(), layers.LeakyReLU(0.1), layers.ELU()])
    ),
    "relu": lambda r, s: layers.ReLU(
        max_value=r.choice([None, 1.0]), negative_slope=r.choice([0, 0.1]), threshold=r.choice([0, 0, 0.2])
    ),
    "leaky": lambda r, s: layers.LeakyReLU(0.2),
    "prelu": lambda r, s: layers.PReLU(shared_axes=r.choice([None, [1, 2], [1, 2, 3]])),
    "elu": lambda r, s: layers.ELU(0.5),
    "softmax": lambda r, s: layers.Softmax(axis=r.choice([-1, 1])),
    "max pool": lambda r, s: layers.MaxPooling2D(
        2, strides=r.choice([1, 2]), padding=r.choice(["same", "valid"]), data_format=_format(r, s)
    ),
    "average pool": lambda r, s: layers.AveragePooling2D(
        2, strides=r.choice([1, 2]), padding=r.choice(["same", "valid"])
    ),
    "adaptive pool": lambda r, s: layers.AdaptiveAveragePooling2D(2),
    "zero padding": lambda r, s: layers.ZeroPadding2D(((0, 1), (2, 1)), data_format=_format(r, s)),
    "reflection": lambda r, s: ReflectionPadding2D(1),
    "cropping": lambda r, s: layers.Cropping2D(((0, 1), (0, 0))),
    "upsampling": lambda r, s: layers.UpSampling2D((2, 1), interpolation=r.choice(["nearest", "bilinear"])),
    "permute": lambda r, s: layers.Permute((2, 1, 3)),
    "resizing": lambda r, s: layers.Resizing(5, 6),
    "center crop": lambda r, s: layers.CenterCrop(3, 3),
    "identity": lambda r, s: layers.Identity(),
    "dropout": lambda r, s: layers.Dropout(0.5, noise_shape=r.choice([None, (None, 1, 1, s[-1])])),
    "spatial dropout": lambda r, s: layers.SpatialDropout2D(0.5),
    "noise": lambda r, s: r.choice([layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout])(0.3),
    "drop block": lambda r, s: DropBlock(0.3, 2),
    "random flip": lambda r, s: layers.RandomFlip(),
    "random rotation": lambda r, s: layers.RandomRotation(0.3),
    "regularized": lambda r, s: layers.ActivityRegularization(0.1),
    "conv 1d": lambda r, s: keras.Sequential(
        [layers.Reshape((-1, s[-1])), _convolution_1d(r), layers.Reshape((*s[:2], 4))]
    ),
    "attention": lambda r, s: _attention(s),
}  # fmt: skip
OPERATIONS = [
    lambda x: keras.ops.tanh(x),
    lambda x: 1.0 - 0.5 * x,
    lambda x: x + x,
    lambda x: x * keras.ops.sigmoid(keras.ops.mean(x, axis=(1, 2), keepdims=True)),
    lambda x: keras.ops.concatenate([x[:, ::2], x[:, 1::2]], axis=1),
    lambda x: keras.ops.maximum(x, 0.1),
]
MERGES = [
    layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum,
    layers.Concatenate,
]  # fmt: skip


def random_classifier(r):
    """A model of images of 0 to 255 to probabilities, and its maps on the way, from a `random.Random`."""
    keras.utils.set_random_seed(r.randrange(1000))
    image = keras.Input((SIZE, SIZE, 3), name="image")
    maps, used = [_front(r)(image)], []
    for _ in range(r.randint(2, 7)):
        x = r.choice(maps[-2:])
        shared = [layer for layer, shape in used if shape == x.shape]
        kind = r.random()
        if kind < 0.1 and shared:
            y = r.choice(shared)(x)
        elif kind < 0.3:
            y = _merged(r, x, maps)
        elif kind < 0.4:
            y = r.choice(OPERATIONS)(x)
        else:
            layer = _nested(r, x.shape) if kind > 0.85 else random_layer(r, x.shape)
            used.append((layer, x.shape))
            y = layer(x)
        maps.append(y[0] + y[1] if isinstance(y, list) else y)
    x = layers.Flatten()(x) if r.random() < 0.2 else layers.GlobalAveragePooling2D()(maps[-1])
    probabilities = layers.Softmax()(layers.Dense(4)(x))
    model = keras.Model(image, probabilities)
    _set_weights(model, np.random.default_rng(r.randrange(1000)))
    _become_another_kind(r, model)
    # The trace that `predict` keeps would not know of what a layer has become.
    return keras.Model(image, probabilities), keras.Model(image, [probabilities, *r.sample(maps, 2)])


def random_layer(r, shape):
    """A layer for maps of this shape."""
    name = r.choice(sorted(LAYERS))
    if min(shape[1:3]) < 3 and name in ("center crop", "reflection", "adaptive pool", "cropping"):
        name = "conv"
    return LAYERS[name](r, shape[1:])


def _front(r):
    kinds = [
        layers.Rescaling(1 / 127.5, offset=-1.0), layers.Normalization(mean=120.0, variance=3600.0),
        _adapted((SIZE, SIZE, 3), 255),
    ]  # fmt: skip
    return r.choice(kinds)


def _adapted(shape, scale=1.0):
    norm = layers.Normalization()
    norm.adapt(np.random.default_rng(0).uniform(0, scale, (16, *shape)).astype("float32"))
    return norm


def _convolution(kind, r, shape):
    groups = [n for n in (1, 1, 2, 3, shape[-1]) if shape[-1] % n == 0]
    strided = r.random() < 0.3
    return kind(
        r.choice(groups) * 2 if kind is StandardizedConv2D else 12 if 12 % shape[-1] == 0 else shape[-1],
        r.choice([1, 3, (1, 3)]), strides=2 if strided else 1, padding="same",
        groups=1 if kind is StandardizedConv2D else r.choice(groups), use_bias=r.random() < 0.5,
        activation=r.choice(ACTIVATIONS),
    )  # fmt: skip


def _convolution_1d(r):
    padding = r.choice(["same", "causal"])
    kind = layers.Conv1D if padding == "causal" else r.choice([layers.Conv1D, layers.SeparableConv1D])
    return kind(4, 3, padding=padding, dilation_rate=r.choice([1, 2]))


def _attention(shape):
    inputs = keras.Input(shape)
    x = layers.Reshape((-1, shape[-1]))(inputs)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    return keras.Model(inputs, layers.Reshape(shape)(x))


def _format(r, shape):
    return "channels_first" if min(shape) > 2 and r.random() < 0.3 else "channels_last"


def _merged(r, x, maps):
    merge = r.choice(MERGES)()
    others = [y for y in maps if y.shape == x.shape]
    if isinstance(merge, layers.Concatenate) or r.random() < 0.5:
        return merge([x, r.choice(others)])
    gate = layers.Dense(r.choice([1, x.shape[-1]]), activation="sigmoid")(layers.GlobalMaxPooling2D()(x))
    return merge([x, gate])


def _nested(r, shape):
    first = random_layer(r, shape)
    inputs = keras.Input(shape[1:])
    x = first(inputs)
    y = x if isinstance(first, keras.Model) else random_layer(r, x.shape)(x)
    if r.random() < 0.3 and not isinstance(first, keras.Model):
        return keras.Sequential([keras.Input(shape[1:]), first])
    return keras.Model(inputs, [x, layers.Activation("tanh")(x)] if r.random() < 0.3 else y)


def _set_weights(model, rng):
    for weight in model.weights:
        if "float" not in weight.dtype or weight.path.rpartition("/")[2] in ("mean", "variance"):
            continue
        positive = weight.path.rpartition("/")[2] in ("gamma", "moving_variance", "moving_stddev", "scale")
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) if positive else rng.normal(0, 0.3, weight.shape))


def _become_another_kind(r, model):
    """A layer gets LoRA or is quantized, in some models."""
    kinds = (layers.Conv2D, layers.Dense, layers.EinsumDense)
    found = [layer for layer in model.layers if isinstance(layer, kinds)]
    layer, kind = r.choice(found), r.random()
    if kind < 0.15 and getattr(layer, "groups", 1) == 1:
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.full(layer.lora_kernel_b.shape, 0.1))
    elif kind < 0.25 and type(layer) is layers.Dense:
        layer.quantize("int8")
