"""Every architecture of the zoo as one row of data. Standard library only.

Sources, cited in the rows: He et al. 2015 (arXiv:1512.03385), He et al. 2016 "Identity
mappings" (arXiv:1603.05027), Zagoruyko & Komodakis 2016 (arXiv:1605.07146), Xie et al. 2016
(arXiv:1611.05431), He et al. 2018 "Bag of tricks" (arXiv:1812.01187), Bello et al. 2021
"Revisiting ResNets" (arXiv:2103.07579), and timm for the combinations that no paper names.
"""

from __future__ import annotations

from keras_resnet.variant import Variant


def _stages(*reps: int, first: int = 64) -> tuple[tuple[int, int], ...]:
    """`reps` blocks in each stage; the filters start at `first` and double."""
    return tuple((n, first * 2**i) for i, n in enumerate(reps))


_18, _34, _50 = _stages(2, 2, 2, 2), _stages(3, 4, 6, 3), _stages(3, 4, 6, 3)
_101, _152, _200 = _stages(3, 4, 23, 3), _stages(3, 8, 36, 3), _stages(3, 24, 36, 3)
_10, _26, _269 = _stages(1, 1, 1, 1), _stages(2, 2, 2, 2), _stages(3, 30, 48, 8)

# Deep stems: C, and with averages in the shortcut D; wider S; tiered T.
_C = dict(stem="deep", stem_filters=(32, 32, 64))
_S = dict(stem="deep", stem_filters=(64, 64, 128))
_POOL = dict(shortcut="pool_conv_norm")
_D = _C | _POOL
_T = _D | dict(stem_filters=(24, 32, 64))
_SE, _ECA = dict(attention="se"), dict(attention="eca")
_BLUR = dict(downsample="blur", stem_pool="blur")
_AA = dict(downsample="avg", stem_pool="avg")
# arXiv:2103.07579, section 4 and Table 11.
_RS = _D | _SE | dict(stem_pool="conv", se_ratio=0.25)
_X32x4d, _X32x8d = dict(cardinality=32, base_width=4), dict(cardinality=32, base_width=8)
_X64x4d = dict(cardinality=64, base_width=4)

# The original bottleneck as keras.applications has it: stride in the first 1x1, biases.
_ORIGINAL = dict(stride_conv="conv1", conv_bias="all", norm_epsilon=1.001e-5)
# arXiv:1603.05027: as timm's resnetv2.py and as keras.applications build it.
_PREACT = dict(preactivation=True, shortcut="conv")
_TIMM_V2 = dict(_PREACT, stem_pool="max")
_TIMM_V2_D = _TIMM_V2 | _C | dict(shortcut="pool_conv")
_KERAS_V2 = dict(_PREACT, stride_block="last", conv_bias="unnormalized", norm_epsilon=1.001e-5)
_CIFAR = dict(stem="conv3", stem_pool=None, image_size=32, num_classes=10)


def _bit(reps: tuple[int, ...], width: int) -> Variant:
    """Big Transfer (arXiv:1912.11370, section 3.2), `width` times as wide."""
    return Variant(
        stages=_stages(*reps, first=64 * width), stem_filters=64 * width, norm="group",
        standardize_weights=True, **_PREACT,
    )  # fmt: skip


def _cifar(reps: int, **options) -> Variant:
    """Three stages of `reps` basic blocks (arXiv:1512.03385, section 4.2)."""
    return Variant(
        stages=_stages(reps, reps, reps, first=16), stem_filters=16,
        **dict(_CIFAR, block="basic", shortcut="pad") | options,
    )  # fmt: skip


def _wrn(reps: int, k: int) -> Variant:
    """Wide network with `reps` basic blocks a stage, `k` times as wide (arXiv:1605.07146)."""
    return Variant(
        stages=_stages(reps, reps, reps, first=16 * k), stem_filters=16, block="basic", **_CIFAR | _PREACT
    )


def _resnext29(cardinality: int) -> Variant:
    """ResNeXt-29, `cardinality` x 64d (arXiv:1611.05431, section 5.3)."""
    return Variant(stages=_stages(3, 3, 3), cardinality=cardinality, **_CIFAR)


def _pruned(*stages):
    """Channels of each block, from the output of each stage and its blocks' first and second widths."""
    return tuple(
        tuple((first, second, out) for first, second in zip(widths[::2], widths[1::2], strict=True))
        for out, widths in stages
    )


# arXiv:2002.08258, as timm distributes the result.
_PRUNED_50D = _pruned(
    (19, (47, 18, 52, 22, 64, 35)),
    (171, (85, 37, 107, 80, 120, 85, 125, 87)),
    (818, (198, 126, 255, 232, 256, 233, 253, 235, 256, 225, 256, 239)),
    (2022, (492, 237, 512, 500, 512, 490)),
)
_PRUNED_101D = _pruned(
    (26, (45, 25, 53, 20, 60, 27)),
    (142, (81, 24, 93, 49, 102, 54, 122, 78)),
    (
        278,
        (
            101,
            25,
            239,
            160,
            234,
            156,
            250,
            176,
            253,
            191,
            251,
            175,
            230,
            128,
            244,
            154,
            244,
            159,
            238,
            97,
            244,
            149,
            253,
            181,
            245,
            119,
            255,
            216,
            256,
            201,
            253,
            149,
            254,
            141,
            256,
            190,
            256,
            217,
            255,
            156,
            256,
            155,
            256,
            232,
            256,
            214,
        ),
    ),
    (2042, (499, 289, 512, 512, 512, 502)),
)


VARIANTS: dict[str, Variant] = {
    # torchvision and timm; arXiv:1512.03385, Table 1, with the stride in the 3x3; the letters
    # are the stems of arXiv:1812.01187 and of timm.
    "resnet10t": Variant(stages=_10, block="basic", **_T),
    "resnet14t": Variant(stages=_10, **_T),
    "resnet18": Variant(stages=_18, block="basic"),
    "resnet18d": Variant(stages=_18, block="basic", **_D),
    "resnet34": Variant(stages=_34, block="basic"),
    "resnet34d": Variant(stages=_34, block="basic", **_D),
    "resnet26": Variant(stages=_26),
    "resnet26t": Variant(stages=_26, **_T),
    "resnet26d": Variant(stages=_26, **_D),
    "resnet50": Variant(stages=_50),
    "resnet50c": Variant(stages=_50, **_C),
    "resnet50d": Variant(stages=_50, **_D),
    "resnet50s": Variant(stages=_50, **_S),
    "resnet50t": Variant(stages=_50, **_T),
    "resnet101": Variant(stages=_101),
    "resnet101c": Variant(stages=_101, **_C),
    "resnet101d": Variant(stages=_101, **_D),
    "resnet101s": Variant(stages=_101, **_S),
    "resnet152": Variant(stages=_152),
    "resnet152c": Variant(stages=_152, **_C),
    "resnet152d": Variant(stages=_152, **_D),
    "resnet152s": Variant(stages=_152, **_S),
    "resnet200": Variant(stages=_200),
    "resnet200d": Variant(stages=_200, **_D),
    "resnet50_gn": Variant(stages=_50, norm="group"),
    "test_resnet": Variant(
        stages=((1, 32), (1, 48), (1, 48), (1, 96)),
        block=("basic", "basic", "bottleneck", "basic"),
        stem="deep",
        stem_filters=(16, 16, 32),
        image_size=160,
        **_POOL,
    ),
    # arXiv:1605.07146, section 3.4: a 3x3 of twice the width.
    "wide_resnet50_2": Variant(stages=_50, base_width=128),
    "wide_resnet101_2": Variant(stages=_101, base_width=128),
    # arXiv:1611.05431, Table 1.
    "resnext50_32x4d": Variant(stages=_50, **_X32x4d),
    "resnext50d_32x4d": Variant(stages=_50, **_X32x4d, **_D),
    "resnext101_32x4d": Variant(stages=_101, **_X32x4d),
    "resnext101_32x8d": Variant(stages=_101, **_X32x8d),
    "resnext101_32x16d": Variant(stages=_101, cardinality=32, base_width=16),
    "resnext101_32x32d": Variant(stages=_101, cardinality=32, base_width=32),
    "resnext101_64x4d": Variant(stages=_101, **_X64x4d),
    # Efficient channel attention, arXiv:1910.03151.
    "ecaresnet26t": Variant(stages=_26, **_T, **_ECA),
    "ecaresnet50d": Variant(stages=_50, **_D, **_ECA),
    "ecaresnet50d_pruned": Variant(stages=_50, **_D, **_ECA, pruned=_PRUNED_50D),
    "ecaresnet50t": Variant(stages=_50, **_T, **_ECA),
    "ecaresnetlight": Variant(stages=_stages(1, 1, 11, 3), **_POOL, **_ECA),
    "ecaresnet101d": Variant(stages=_101, **_D, **_ECA),
    "ecaresnet101d_pruned": Variant(stages=_101, **_D, **_ECA, pruned=_PRUNED_101D),
    "ecaresnet200d": Variant(stages=_200, **_D, **_ECA),
    "ecaresnet269d": Variant(stages=_269, **_D, **_ECA),
    "ecaresnext26t_32x4d": Variant(stages=_26, **_X32x4d, **_T, **_ECA),
    "ecaresnext50t_32x4d": Variant(stages=_50, **_X32x4d, **_T, **_ECA),
    # Squeeze-and-excitation, arXiv:1709.01507.
    "seresnet18": Variant(stages=_18, block="basic", **_SE),
    "seresnet34": Variant(stages=_34, block="basic", **_SE),
    "seresnet50": Variant(stages=_50, **_SE),
    "seresnet50t": Variant(stages=_50, **_T, **_SE),
    "seresnet101": Variant(stages=_101, **_SE),
    "seresnet152": Variant(stages=_152, **_SE),
    "seresnet152d": Variant(stages=_152, **_D, **_SE),
    "seresnet200d": Variant(stages=_200, **_D, **_SE),
    "seresnet269d": Variant(stages=_269, **_D, **_SE),
    "seresnext26d_32x4d": Variant(stages=_26, **_X32x4d, **_D, **_SE),
    "seresnext26t_32x4d": Variant(stages=_26, **_X32x4d, **_T, **_SE),
    "seresnext50_32x4d": Variant(stages=_50, **_X32x4d, **_SE),
    "seresnext101_32x4d": Variant(stages=_101, **_X32x4d, **_SE),
    "seresnext101_32x8d": Variant(stages=_101, **_X32x8d, **_SE),
    "seresnext101d_32x8d": Variant(stages=_101, **_X32x8d, **_D, **_SE),
    "seresnext101_64x4d": Variant(stages=_101, **_X64x4d, **_SE),
    "senet154": Variant(stages=_152, **_X64x4d, **_S, **_SE, reduce_first=2, shortcut="conv3_norm"),
    # Antialiased: arXiv:1904.11486, and with averages as in timm.
    "resnetblur18": Variant(stages=_18, block="basic", **_BLUR),
    "resnetblur50": Variant(stages=_50, **_BLUR),
    "resnetblur50d": Variant(stages=_50, **_D, **_BLUR),
    "resnetblur101d": Variant(stages=_101, **_D, **_BLUR),
    "resnetaa34d": Variant(stages=_34, block="basic", **_D, **_AA),
    "resnetaa50": Variant(stages=_50, **_AA),
    "resnetaa50d": Variant(stages=_50, **_D, **_AA),
    "resnetaa101d": Variant(stages=_101, **_D, **_AA),
    "seresnetaa50d": Variant(stages=_50, **_D, **_AA, **_SE),
    "seresnextaa101d_32x8d": Variant(stages=_101, **_X32x8d, **_D, **_AA, **_SE),
    "seresnextaa201d_32x8d": Variant(stages=_stages(3, 24, 36, 4), **_X32x8d, **_S, **_POOL, **_AA, **_SE),
    # ResNet-RS, arXiv:2103.07579, Table 11.
    "resnetrs50": Variant(stages=_50, **_RS),
    "resnetrs101": Variant(stages=_101, **_RS),
    "resnetrs152": Variant(stages=_152, **_RS),
    "resnetrs200": Variant(stages=_200, **_RS),
    "resnetrs270": Variant(stages=_stages(4, 29, 53, 4), **_RS),
    "resnetrs350": Variant(stages=_stages(4, 36, 72, 4), **_RS),
    "resnetrs420": Variant(stages=_stages(4, 44, 87, 4), **_RS),
    # keras.applications' ResNet50/101/152: the network of the paper, with biases.
    "resnet50v1": Variant(stages=_50, **_ORIGINAL),
    "resnet101v1": Variant(stages=_101, **_ORIGINAL),
    "resnet152v1": Variant(stages=_152, **_ORIGINAL),
    # keras.applications' ResNet50V2/101V2/152V2.
    "resnet50v2_keras": Variant(stages=_50, **_KERAS_V2),
    "resnet101v2_keras": Variant(stages=_101, **_KERAS_V2),
    "resnet152v2_keras": Variant(stages=_152, **_KERAS_V2),
    # timm's resnetv2.py; arXiv:1603.05027.
    "resnetv2_18": Variant(stages=_18, block="basic", **_TIMM_V2),
    "resnetv2_18d": Variant(stages=_18, block="basic", **_TIMM_V2_D),
    "resnetv2_34": Variant(stages=_34, block="basic", **_TIMM_V2),
    "resnetv2_34d": Variant(stages=_34, block="basic", **_TIMM_V2_D),
    "resnetv2_50": Variant(stages=_50, **_TIMM_V2),
    "resnetv2_50d": Variant(stages=_50, **_TIMM_V2_D),
    "resnetv2_50t": Variant(stages=_50, **_TIMM_V2_D | dict(stem_filters=(24, 32, 64))),
    "resnetv2_50d_gn": Variant(stages=_50, **_TIMM_V2_D, norm="group"),
    "resnetv2_101": Variant(stages=_101, **_TIMM_V2),
    "resnetv2_101d": Variant(stages=_101, **_TIMM_V2_D),
    "resnetv2_152": Variant(stages=_152, **_TIMM_V2),
    "resnetv2_152d": Variant(stages=_152, **_TIMM_V2_D),
    "resnetv2_50x1_bit": _bit((3, 4, 6, 3), 1),
    "resnetv2_50x3_bit": _bit((3, 4, 6, 3), 3),
    "resnetv2_101x1_bit": _bit((3, 4, 23, 3), 1),
    "resnetv2_101x3_bit": _bit((3, 4, 23, 3), 3),
    "resnetv2_152x2_bit": _bit((3, 8, 36, 3), 2),
    "resnetv2_152x4_bit": _bit((3, 8, 36, 3), 4),
    # CIFAR: arXiv:1512.03385, Table 6.
    "resnet20_cifar": _cifar(3),
    "resnet32_cifar": _cifar(5),
    "resnet44_cifar": _cifar(7),
    "resnet56_cifar": _cifar(9),
    "resnet110_cifar": _cifar(18),
    "resnet1202_cifar": _cifar(200),
    # CIFAR: arXiv:1603.05027, Table 4; the bottlenecks stride in their first 1x1.
    "preresnet110_cifar": _cifar(18, preactivation=True),
    "preresnet164_cifar": _cifar(18, block="bottleneck", stride_conv="conv1", **_PREACT),
    "preresnet1001_cifar": _cifar(111, block="bottleneck", stride_conv="conv1", **_PREACT),
    # CIFAR: arXiv:1605.07146, Table 4; depth is 6 * reps + 4.
    "wrn16_8_cifar": _wrn(2, 8),
    "wrn28_10_cifar": _wrn(4, 10),
    "wrn40_10_cifar": _wrn(6, 10),
    # CIFAR: arXiv:1611.05431, Table 7.
    "resnext29_8x64d_cifar": _resnext29(8),
    "resnext29_16x64d_cifar": _resnext29(16),
}
