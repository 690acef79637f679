"""A ResNet is a stem, stages and a head: `build_resnet` puts them together.

Every model is a stock Keras Functional model, channels last. With ``normalization=None`` it
takes images that were normalised outside; with ``(mean, std)`` it takes pixel values of 0 to
255 and normalises them in its first layer, which is where `keras_resnet.train` has it done.
"""

from __future__ import annotations

from dataclasses import replace

import keras
from keras import layers

from keras_resnet import arguments
from keras_resnet.blocks import stage
from keras_resnet.graphs import functional_model
from keras_resnet.parts import POOLS, conv, norm_act
from keras_resnet.preprocessing import evaluation_transform, normalize
from keras_resnet.variant import Variant
from keras_resnet.weights.load import load_weights
from keras_resnet.weights.records import get_record


def build_resnet(
    stages=((3, 64), (4, 128), (6, 256), (3, 512)),
    *,
    block="bottleneck",
    preactivation: bool = False,
    cardinality: int = 1,
    base_width: int = 64,
    reduce_first: int = 1,
    stem: str = "conv7",
    stem_filters=64,
    stem_norm: bool = True,
    stem_pool: str | None = "max_zero",
    shortcut: str = "conv_norm",
    stride_conv: str = "conv2",
    stride_block: str = "first",
    downsample: str = "stride",
    attention: str | None = None,
    se_ratio: float = 1 / 16,
    standardize_weights: bool = False,
    conv_bias: str = "none",
    norm: str = "batch",
    norm_momentum: float = 0.9,
    norm_epsilon: float = 1e-5,
    zero_init_last: bool = True,
    kernel_initializer="he_fan_out",
    num_classes: int = 1000,
    input_shape=(224, 224, 3),
    include_top: bool = True,
    pooling: str | None = None,
    classifier_activation="softmax",
    input_tensor=None,
    weights=None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    drop_block: float = 0.0,
    normalization=None,
    preprocess: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Build any residual network from its stages.

    The options of the architecture, `block` to `kernel_initializer`, are the fields of
    `keras_resnet.Variant`, which describes them; the defaults give ResNet-50 v1.5.

    Args:
        stages: ``((reps, filters), ...)``: how many blocks, and how wide; any number of stages.
        num_classes: Classes of the head.
        input_shape: ``(height, width, channels)``; height and width may be ``None``, and are
            otherwise at least the network's total stride.
        include_top: Add the head: global average pooling, dropout, dense layer, activation.
        pooling: Without the head: ``None`` (feature map), ``"avg"`` or ``"max"`` (vector).
        classifier_activation: Activation of the head; ``None`` for logits.
        input_tensor: Keras tensor to build on, instead of `input_shape`.
        weights: ``None``, or a file or record that `load_weights` takes.
        dropout: Rate before the dense layer, in [0, 1).
        drop_path: Stochastic depth (arXiv:1603.09382): the rate of the last block; the rates
            rise linearly from 0 at the first. In [0, 1).
        drop_block: DropBlock (arXiv:1810.12890): the rate in the third and fourth stage. In [0, 1).
        normalization: ``None``, or ``(mean, std)`` on the scale of 0 to 1, one number or one
            for each channel: the model then takes pixels of 0 to 255.
        preprocess: Put the whole transform with which the record in `weights` was evaluated in
            front: the model then takes RGB pixels of 0 to 255 of any size.
        name: Name of the model.

    Returns:
        A Functional model from ``(batch, height, width, channels)`` to
        ``(batch, num_classes)``, or to features where `include_top` is false.

    Raises:
        ValueError: an option that is unknown or does not fit, by its name and value.
    """
    variant = Variant(
        stages=stages, block=block, preactivation=preactivation, cardinality=cardinality,
        base_width=base_width, reduce_first=reduce_first, stem=stem, stem_filters=stem_filters,
        stem_norm=stem_norm, stem_pool=stem_pool, shortcut=shortcut, stride_conv=stride_conv,
        stride_block=stride_block, downsample=downsample, attention=attention, se_ratio=se_ratio,
        standardize_weights=standardize_weights, conv_bias=conv_bias, norm=norm,
        norm_momentum=norm_momentum, norm_epsilon=norm_epsilon, zero_init_last=zero_init_last,
        kernel_initializer=kernel_initializer,
    )  # fmt: skip
    return build_variant(
        variant, num_classes=num_classes, input_shape=input_shape, include_top=include_top,
        pooling=pooling, classifier_activation=classifier_activation, input_tensor=input_tensor,
        weights=weights, dropout=dropout, drop_path=drop_path,
        drop_block=drop_block, normalization=normalization,
        preprocess=preprocess, name=name,
    )  # fmt: skip


def build_variant(
    variant: Variant,
    *,
    num_classes: int | None = None,
    input_shape=None,
    include_top: bool = True,
    pooling: str | None = None,
    classifier_activation="softmax",
    input_tensor=None,
    weights=None,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    drop_block: float = 0.0,
    normalization=None,
    preprocess: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Build the network of one row; the arguments are those of `build_resnet`.

    `num_classes` and `input_shape` default to the row's own.
    """
    num_classes = arguments.whole("num_classes", variant.num_classes if num_classes is None else num_classes)
    input_shape = (variant.image_size, variant.image_size, 3) if input_shape is None else input_shape
    _check_pooling(pooling, include_top)
    dropout, drop_path = arguments.rate("dropout", dropout), arguments.rate("drop_path", drop_path)
    variant = replace(variant, drop_block=arguments.rate("drop_block", drop_block))
    preprocess = arguments.flag("preprocess", preprocess)
    transform = _transform_of(weights, normalization, input_tensor) if preprocess else None
    inputs = _inputs(input_tensor, input_shape if transform is None else (None, None, 3))
    _check_image(
        inputs.shape if transform is None else (None, transform.size, transform.size, 3), variant.total_stride
    )

    x = _stem(_first_layers(inputs, normalization, transform), variant)
    x = _stages(x, variant, drop_path)
    if variant.preactivation:
        x = norm_act(x, variant, "head")
    x = _head(x, num_classes, dropout, classifier_activation) if include_top else _pool(x, pooling)
    sources = keras.utils.get_source_inputs(inputs)
    model = functional_model(sources if len(sources) > 1 else sources[0], x, name=name)
    return model if weights is None else load_weights(model, weights)


def _stem(x, variant):
    x = STEMS[variant.stem](x, variant)
    if variant.stem_norm and not variant.preactivation:
        x = norm_act(x, variant, "stem")
    elif not variant.preactivation:
        x = layers.ReLU(name="stem_relu")(x)
    return POOLS[variant.stem_pool](x, variant, "stem_pool")


def _conv7_stem(x, variant):
    return _last_stem_conv(x, variant, variant.stem_filters, 7, 2, "stem_conv")


def _conv3_stem(x, variant):
    return _last_stem_conv(x, variant, variant.stem_filters, 3, 1, "stem_conv")


def _deep_stem(x, variant):
    first, second, third = variant.stem_filters
    x = norm_act(conv(x, first, 3, variant, stride=2, name="stem_conv1"), variant, "stem", 1)
    x = norm_act(conv(x, second, 3, variant, name="stem_conv2"), variant, "stem", 2)
    return _last_stem_conv(x, variant, third, 3, 1, "stem_conv3")


def _last_stem_conv(x, variant, filters, kernel_size, stride, name):
    normalized = variant.stem_norm and not variant.preactivation
    return conv(x, filters, kernel_size, variant, stride=stride, normalized=normalized, name=name)


STEMS = {"conv7": _conv7_stem, "conv3": _conv3_stem, "deep": _deep_stem}


def _stages(x, variant, drop_path):
    rates = _drop_paths(drop_path, sum(reps for reps, _ in variant.stages))
    last = len(variant.stages)
    for number, (reps, _) in enumerate(variant.stages, start=1):
        strides = number < last if variant.stride_block == "last" else number > 1
        drop_paths, rates = rates[:reps], rates[reps:]
        x = stage(x, number, variant, stride=2 if strides else 1, drop_paths=drop_paths)
    return x


def _drop_paths(rate, blocks):
    """The rates of the blocks: linear from 0 to `rate` (arXiv:1603.09382, section 3)."""
    return [rate * i / max(blocks - 1, 1) for i in range(blocks)]


def _head(x, num_classes, dropout, activation):
    """Pooling, logits and probabilities, in float32 where the policy computes in 16 bits."""
    dtype = "float32" if keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16") else None
    x = layers.GlobalAveragePooling2D(dtype=dtype, name="head_pool")(x)
    if dropout:
        x = layers.Dropout(dropout, dtype=dtype, name="head_dropout")(x)
    # Uniform within 1 / sqrt(inputs), as torch starts a linear layer.
    initializer = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    x = layers.Dense(num_classes, kernel_initializer=initializer, dtype=dtype, name="head")(x)
    if activation in (None, "linear"):
        return x
    # A layer of its own, so that the logits are `model.get_layer("head").output`.
    return layers.Activation(activation, dtype=dtype, name="predictions")(x)


def _pool(x, pooling):
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="head_pool")(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name="head_pool")(x)
    return x


def _first_layers(x, normalization, transform):
    if transform is not None:
        return evaluation_transform(x, transform)
    if normalization is None:
        return x
    return normalize(x, *arguments.mean_and_std("normalization", normalization, x.shape[-1]))


def _transform_of(weights, normalization, input_tensor):
    """The transform of the record that `weights` names."""
    if normalization is not None or input_tensor is not None:
        raise ValueError("preprocess=True brings its own input and normalization; leave out both.")
    try:
        return get_record(str(weights)).transform
    except ValueError as error:
        raise ValueError(f"preprocess=True needs weights from a record, not {weights!r}: {error}") from error


def _inputs(input_tensor, input_shape):
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "image_data_format is 'channels_first'; the models are channels last: call "
            "keras.config.set_image_data_format('channels_last') first."
        )
    if input_tensor is None:
        return layers.Input(arguments.image_shape("input_shape", input_shape), name="image")
    if not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            "input_tensor must be a Keras tensor, the output of keras.Input or of a layer; "
            f"got {input_tensor!r}."
        )
    return input_tensor


def _check_pooling(pooling, include_top):
    arguments.flag("include_top", include_top)
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"pooling={pooling!r} is unknown; choose None, 'avg' or 'max'.")
    if pooling and include_top:
        raise ValueError(f"pooling={pooling!r} is for include_top=False; the head pools by itself.")


def _check_image(shape, total_stride):
    arguments.image_shape("input_shape", tuple(shape[1:]))
    for side, size in zip(("height", "width"), shape[1:3], strict=True):
        if size is not None and size < total_stride:
            raise ValueError(
                f"input {side} {size} is below the network's total stride of {total_stride}: "
                "take larger images, fewer stages or a smaller stem."
            )
