"""One builder for each row of the table, and the table by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable

import keras

from keras_resnet.arguments import known
from keras_resnet.nearest import suggest
from keras_resnet.resnet import build_variant
from keras_resnet.variants import VARIANTS
from keras_resnet.weights.records import resolve


def list_models(pattern: str = "*") -> list[str]:
    """The names of the variants that match a shell pattern, such as ``"resnext*"``."""
    return fnmatch.filter(VARIANTS, pattern)


def build_model(name: str, **arguments) -> keras.Model:
    """Build the variant called `name`; the arguments are those of its builder.

    Raises:
        ValueError: no variant has that name; the message suggests the nearest.
    """
    if known("name", name, VARIANTS) not in VARIANTS:
        hint = suggest(name, VARIANTS, "'keras-resnet list' and list_models() name them all.")
        raise ValueError(f"there is no variant {name!r}; {hint}")
    weights = resolve(arguments.get("weights"), name)
    return build_variant(VARIANTS[name], **{"name": name} | arguments | {"weights": weights})


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
        drop_block: float = 0.0,
        normalization=None,
        preprocess: bool = False,
        name: str | None = variant_name,
    ) -> keras.Model:
        return build_variant(
            row, num_classes=num_classes, input_shape=input_shape, include_top=include_top,
            pooling=pooling, classifier_activation=classifier_activation, input_tensor=input_tensor,
            weights=resolve(weights, variant_name), dropout=dropout, drop_path=drop_path,
            drop_block=drop_block, normalization=normalization, preprocess=preprocess, name=name,
        )  # fmt: skip

    build.__name__ = build.__qualname__ = f"build_{variant_name}"
    build.__doc__ = f"Build {variant_name}; `build_resnet` describes the arguments."
    return build


build_resnet10t = _builder("resnet10t")
build_resnet14t = _builder("resnet14t")
build_resnet18 = _builder("resnet18")
build_resnet18d = _builder("resnet18d")
build_resnet34 = _builder("resnet34")
build_resnet34d = _builder("resnet34d")
build_resnet26 = _builder("resnet26")
build_resnet26t = _builder("resnet26t")
build_resnet26d = _builder("resnet26d")
build_resnet50 = _builder("resnet50")
build_resnet50c = _builder("resnet50c")
build_resnet50d = _builder("resnet50d")
build_resnet50s = _builder("resnet50s")
build_resnet50t = _builder("resnet50t")
build_resnet101 = _builder("resnet101")
build_resnet101c = _builder("resnet101c")
build_resnet101d = _builder("resnet101d")
build_resnet101s = _builder("resnet101s")
build_resnet152 = _builder("resnet152")
build_resnet152c = _builder("resnet152c")
build_resnet152d = _builder("resnet152d")
build_resnet152s = _builder("resnet152s")
build_resnet200 = _builder("resnet200")
build_resnet200d = _builder("resnet200d")
build_resnet50_gn = _builder("resnet50_gn")
build_test_resnet = _builder("test_resnet")
build_wide_resnet50_2 = _builder("wide_resnet50_2")
build_wide_resnet101_2 = _builder("wide_resnet101_2")
build_resnext50_32x4d = _builder("resnext50_32x4d")
build_resnext50d_32x4d = _builder("resnext50d_32x4d")
build_resnext101_32x4d = _builder("resnext101_32x4d")
build_resnext101_32x8d = _builder("resnext101_32x8d")
build_resnext101_32x16d = _builder("resnext101_32x16d")
build_resnext101_32x32d = _builder("resnext101_32x32d")
build_resnext101_64x4d = _builder("resnext101_64x4d")
build_ecaresnet26t = _builder("ecaresnet26t")
build_ecaresnet50d = _builder("ecaresnet50d")
build_ecaresnet50d_pruned = _builder("ecaresnet50d_pruned")
build_ecaresnet50t = _builder("ecaresnet50t")
build_ecaresnetlight = _builder("ecaresnetlight")
build_ecaresnet101d = _builder("ecaresnet101d")
build_ecaresnet101d_pruned = _builder("ecaresnet101d_pruned")
build_ecaresnet200d = _builder("ecaresnet200d")
build_ecaresnet269d = _builder("ecaresnet269d")
build_ecaresnext26t_32x4d = _builder("ecaresnext26t_32x4d")
build_ecaresnext50t_32x4d = _builder("ecaresnext50t_32x4d")
build_seresnet18 = _builder("seresnet18")
build_seresnet34 = _builder("seresnet34")
build_seresnet50 = _builder("seresnet50")
build_seresnet50t = _builder("seresnet50t")
build_seresnet101 = _builder("seresnet101")
build_seresnet152 = _builder("seresnet152")
build_seresnet152d = _builder("seresnet152d")
build_seresnet200d = _builder("seresnet200d")
build_seresnet269d = _builder("seresnet269d")
build_seresnext26d_32x4d = _builder("seresnext26d_32x4d")
build_seresnext26t_32x4d = _builder("seresnext26t_32x4d")
build_seresnext50_32x4d = _builder("seresnext50_32x4d")
build_seresnext101_32x4d = _builder("seresnext101_32x4d")
build_seresnext101_32x8d = _builder("seresnext101_32x8d")
build_seresnext101d_32x8d = _builder("seresnext101d_32x8d")
build_seresnext101_64x4d = _builder("seresnext101_64x4d")
build_senet154 = _builder("senet154")
build_resnetblur18 = _builder("resnetblur18")
build_resnetblur50 = _builder("resnetblur50")
build_resnetblur50d = _builder("resnetblur50d")
build_resnetblur101d = _builder("resnetblur101d")
build_resnetaa34d = _builder("resnetaa34d")
build_resnetaa50 = _builder("resnetaa50")
build_resnetaa50d = _builder("resnetaa50d")
build_resnetaa101d = _builder("resnetaa101d")
build_seresnetaa50d = _builder("seresnetaa50d")
build_seresnextaa101d_32x8d = _builder("seresnextaa101d_32x8d")
build_seresnextaa201d_32x8d = _builder("seresnextaa201d_32x8d")
build_resnetrs50 = _builder("resnetrs50")
build_resnetrs101 = _builder("resnetrs101")
build_resnetrs152 = _builder("resnetrs152")
build_resnetrs200 = _builder("resnetrs200")
build_resnetrs270 = _builder("resnetrs270")
build_resnetrs350 = _builder("resnetrs350")
build_resnetrs420 = _builder("resnetrs420")
build_resnet50v1 = _builder("resnet50v1")
build_resnet101v1 = _builder("resnet101v1")
build_resnet152v1 = _builder("resnet152v1")
build_resnet50v2_keras = _builder("resnet50v2_keras")
build_resnet101v2_keras = _builder("resnet101v2_keras")
build_resnet152v2_keras = _builder("resnet152v2_keras")
build_resnetv2_18 = _builder("resnetv2_18")
build_resnetv2_18d = _builder("resnetv2_18d")
build_resnetv2_34 = _builder("resnetv2_34")
build_resnetv2_34d = _builder("resnetv2_34d")
build_resnetv2_50 = _builder("resnetv2_50")
build_resnetv2_50d = _builder("resnetv2_50d")
build_resnetv2_50t = _builder("resnetv2_50t")
build_resnetv2_50d_gn = _builder("resnetv2_50d_gn")
build_resnetv2_101 = _builder("resnetv2_101")
build_resnetv2_101d = _builder("resnetv2_101d")
build_resnetv2_152 = _builder("resnetv2_152")
build_resnetv2_152d = _builder("resnetv2_152d")
build_resnetv2_50x1_bit = _builder("resnetv2_50x1_bit")
build_resnetv2_50x3_bit = _builder("resnetv2_50x3_bit")
build_resnetv2_101x1_bit = _builder("resnetv2_101x1_bit")
build_resnetv2_101x3_bit = _builder("resnetv2_101x3_bit")
build_resnetv2_152x2_bit = _builder("resnetv2_152x2_bit")
build_resnetv2_152x4_bit = _builder("resnetv2_152x4_bit")
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
