"""One builder for each row of the table, and the table by name."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable

import keras

from keras_resnet.resnet import build_variant
from keras_resnet.variants import VARIANTS


def list_models(pattern: str = "*") -> list[str]:
    """The names of the variants that match a shell pattern, such as ``"resnext*"``."""
    return fnmatch.filter(VARIANTS, pattern)


def build_model(name: str, **arguments) -> keras.Model:
    """Build the variant called `name`; the arguments are those of its builder.

    Raises:
        ValueError: no variant has that name; the message suggests the nearest.
    """
    if name not in VARIANTS:
        near = ", ".join(difflib.get_close_matches(name, VARIANTS, n=3, cutoff=0.5))
        hint = f"did you mean {near}?" if near else "list_models() names them all."
        raise ValueError(f"there is no variant {name!r}; {hint}")
    return build_variant(VARIANTS[name], **{"name": name} | arguments)


def _builder(variant_name: str) -> Callable[..., keras.Model]:
    row = VARIANTS[variant_name]

    def build(
        *,
        num_classes: int = row.num_classes,
        input_shape=(row.image_size, row.image_size, 3),
        include_top: bool = True,
        pooling: str | None = None,
        classifier_activation="softmax",
        input_tensor=None,
        weights=None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        normalization=None,
        name: str | None = variant_name,
    ) -> keras.Model:
        return build_variant(
            row, num_classes=num_classes, input_shape=input_shape, include_top=include_top,
            pooling=pooling, classifier_activation=classifier_activation, input_tensor=input_tensor,
            weights=weights, dropout=dropout, drop_path=drop_path, normalization=normalization, name=name,
        )  # fmt: skip

    build.__name__ = build.__qualname__ = f"build_{variant_name}"
    build.__doc__ = f"Build {variant_name}; `build_resnet` describes the arguments."
    return build


build_resnet18 = _builder("resnet18")
build_resnet34 = _builder("resnet34")
build_resnet50 = _builder("resnet50")
build_resnet101 = _builder("resnet101")
build_resnet152 = _builder("resnet152")
build_resnext50_32x4d = _builder("resnext50_32x4d")
build_resnext101_32x8d = _builder("resnext101_32x8d")
build_resnext101_64x4d = _builder("resnext101_64x4d")
build_wide_resnet50_2 = _builder("wide_resnet50_2")
build_wide_resnet101_2 = _builder("wide_resnet101_2")
build_resnet50v1 = _builder("resnet50v1")
build_resnet101v1 = _builder("resnet101v1")
build_resnet152v1 = _builder("resnet152v1")
build_resnet50v2_keras = _builder("resnet50v2_keras")
build_resnet101v2_keras = _builder("resnet101v2_keras")
build_resnet152v2_keras = _builder("resnet152v2_keras")
build_resnetv2_18 = _builder("resnetv2_18")
build_resnetv2_34 = _builder("resnetv2_34")
build_resnetv2_50 = _builder("resnetv2_50")
build_resnetv2_101 = _builder("resnetv2_101")
build_resnetv2_152 = _builder("resnetv2_152")
build_resnet20_cifar = _builder("resnet20_cifar")
build_resnet32_cifar = _builder("resnet32_cifar")
build_resnet44_cifar = _builder("resnet44_cifar")
build_resnet56_cifar = _builder("resnet56_cifar")
build_resnet110_cifar = _builder("resnet110_cifar")
build_resnet1202_cifar = _builder("resnet1202_cifar")
build_preresnet110_cifar = _builder("preresnet110_cifar")
build_preresnet164_cifar = _builder("preresnet164_cifar")
build_preresnet1001_cifar = _builder("preresnet1001_cifar")
build_wrn16_8_cifar = _builder("wrn16_8_cifar")
build_wrn28_10_cifar = _builder("wrn28_10_cifar")
build_wrn40_10_cifar = _builder("wrn40_10_cifar")
build_resnext29_8x64d_cifar = _builder("resnext29_8x64d_cifar")
build_resnext29_16x64d_cifar = _builder("resnext29_16x64d_cifar")
