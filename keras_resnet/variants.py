"""Every architecture of the zoo as one row of data. Standard library only.

A network is a stem, then stages of residual blocks, then a head. A stage is a tuple
``(reps, filters)``: how many blocks, and how wide. A *basic* block of a stage puts out
``filters`` channels, a *bottleneck* block ``4 * filters``.

Sources, cited in the rows: He et al. 2015 (arXiv:1512.03385), He et al. 2016 "Identity
mappings" (arXiv:1603.05027), Zagoruyko & Komodakis 2016 (arXiv:1605.07146), Xie et al. 2016
(arXiv:1611.05431).
"""

from __future__ import annotations

from dataclasses import dataclass

EXPANSION = {"basic": 1, "bottleneck": 4}

CHOICES = {
    "block": tuple(EXPANSION),
    "stem": ("conv7", "conv3"),
    "stem_pool": ("max", "max_zero", None),
    "shortcut": ("conv_norm", "conv", "pad"),
    "stride_conv": ("conv1", "conv2"),
    "stride_block": ("first", "last"),
    "conv_bias": ("none", "unnormalized", "all"),
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The architecture of one network; raises ``ValueError`` for one that cannot be built.

    Attributes:
        stages: ``((reps, filters), ...)``, one pair for each stage. The resolution halves
            from each stage to the next.
        block: ``"basic"`` (two 3x3 convolutions) or ``"bottleneck"`` (1x1, 3x3, 1x1).
        preactivation: normalise and activate before each convolution instead of after it
            (arXiv:1603.05027). The stem is then a bare convolution, and a last
            normalisation precedes the head.
        cardinality: groups of the 3x3 convolution of a bottleneck (arXiv:1611.05431).
        base_width: channels of one group in a stage of 64 filters. The 3x3 convolution has
            ``floor(filters * base_width / 64) * cardinality`` channels.
        stem: ``"conv7"`` (7x7, stride 2) or ``"conv3"`` (3x3, stride 1: CIFAR).
        stem_filters: channels of the stem.
        stem_norm: normalise after the stem's convolution (never with preactivation).
        stem_pool: 3x3 pooling of stride 2 after the stem: ``"max_zero"`` pads with zeros
            (after a ReLU that is the same as torch's padding with minus infinity, and
            faster), ``"max"`` pads with minus infinity, ``None`` does not pool.
        shortcut: the projection: ``"conv_norm"`` (1x1 convolution and normalisation),
            ``"conv"`` (no normalisation) or ``"pad"`` (option A of arXiv:1512.03385,
            section 4.2: every second pixel, zero channels on both sides, no parameters).
        stride_conv: the convolution of a bottleneck that strides: ``"conv2"`` (v1.5: the
            3x3) or ``"conv1"`` (the original).
        stride_block: the block of a stage that strides: ``"first"``, or ``"last"`` as in
            keras.applications' V2, where every stage but the last ends in a stride.
        conv_bias: ``"none"``, ``"all"``, or ``"unnormalized"`` (only those convolutions
            that no normalisation follows).
        norm_momentum: momentum of the moving statistics in Keras's sense (0.9 is 0.1 in
            torch's).
        norm_epsilon: added to the variance.
        zero_init_last: start the last gamma of each branch at zero, so that each block
            starts as the identity (arXiv:1706.02677, section 5.1). Preactivation branches
            end in a convolution and ignore it.
        kernel_initializer: of the convolutions: ``"he_fan_out"`` (arXiv:1502.01852, normal,
            untruncated) or the name of any Keras initializer.
        image_size: the side of the images it was made for, in pixels.
        num_classes: the classes of the dataset that it was made for.
    """

    stages: tuple[tuple[int, int], ...] = ((3, 64), (4, 128), (6, 256), (3, 512))
    block: str = "bottleneck"
    preactivation: bool = False
    cardinality: int = 1
    base_width: int = 64
    stem: str = "conv7"
    stem_filters: int = 64
    stem_norm: bool = True
    stem_pool: str | None = "max_zero"
    shortcut: str = "conv_norm"
    stride_conv: str = "conv2"
    stride_block: str = "first"
    conv_bias: str = "none"
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    zero_init_last: bool = True
    kernel_initializer: str = "he_fan_out"
    image_size: int = 224
    num_classes: int = 1000

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name}={value!r} is unknown; choose one of {allowed}.")
        object.__setattr__(self, "stages", _checked_stages(self.stages))
        for name in ("cardinality", "base_width", "stem_filters", "image_size", "num_classes"):
            if not _is_positive_int(value := getattr(self, name)):
                raise ValueError(f"{name}={value!r} must be a positive integer.")
        if self.block == "basic" and (self.cardinality, self.base_width) != (1, 64):
            raise ValueError(
                f"cardinality={self.cardinality} and base_width={self.base_width} apply to "
                "bottleneck blocks; block='basic' takes 1 and 64."
            )
        for _, filters in self.stages:
            if filters % self.cardinality:
                raise ValueError(f"filters={filters} is not divisible by cardinality={self.cardinality}.")
            if self.width(filters) == 0:
                raise ValueError(
                    f"filters={filters} with base_width={self.base_width} leaves no channel "
                    f"to a group: filters * base_width must be at least 64."
                )

    def width(self, filters: int) -> int:
        """Channels inside a block of `filters`."""
        return filters * self.base_width // 64 * self.cardinality

    def out_channels(self, filters: int) -> int:
        """Channels that a block of `filters` puts out."""
        return filters * EXPANSION[self.block]

    @property
    def stem_stride(self) -> int:
        """Input pixels to a pixel of the first stage, along a side."""
        return (2 if self.stem == "conv7" else 1) * (2 if self.stem_pool else 1)

    @property
    def total_stride(self) -> int:
        """Input pixels to a pixel of the last stage, along a side."""
        return self.stem_stride * 2 ** (len(self.stages) - 1)


def _is_positive_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _checked_stages(stages) -> tuple[tuple[int, int], ...]:
    wanted = "stages must be a non-empty sequence of (reps, filters), such as ((2, 64), (2, 128))"
    try:
        pairs = tuple((reps, filters) for reps, filters in stages)
    except (TypeError, ValueError):
        raise ValueError(f"{wanted}; got {stages!r}.") from None
    if not pairs:
        raise ValueError(f"{wanted}; got {stages!r}.")
    for number, (reps, filters) in enumerate(pairs, start=1):
        if not (_is_positive_int(reps) and _is_positive_int(filters)):
            raise ValueError(
                f"stage {number} is {(reps, filters)!r}: reps and filters must be positive integers."
            )
    return pairs


def _stages(*reps: int, first: int = 64) -> tuple[tuple[int, int], ...]:
    """`reps` blocks in each stage; the filters start at `first` and double."""
    return tuple((n, first * 2**i) for i, n in enumerate(reps))


_18, _34, _50 = _stages(2, 2, 2, 2), _stages(3, 4, 6, 3), _stages(3, 4, 6, 3)
_101, _152 = _stages(3, 4, 23, 3), _stages(3, 8, 36, 3)

# The original bottleneck as keras.applications has it: stride in the first 1x1, biases.
_ORIGINAL = dict(stride_conv="conv1", conv_bias="all", norm_epsilon=1.001e-5)
# arXiv:1603.05027: as timm's resnetv2.py and as keras.applications build it.
_PREACT = dict(preactivation=True, shortcut="conv")
_TIMM_V2 = dict(_PREACT, stem_pool="max")
_KERAS_V2 = dict(_PREACT, stride_block="last", conv_bias="unnormalized", norm_epsilon=1.001e-5)
_CIFAR = dict(stem="conv3", stem_pool=None, image_size=32, num_classes=10)


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


VARIANTS: dict[str, Variant] = {
    # torchvision and timm; arXiv:1512.03385, Table 1, with the stride in the 3x3.
    "resnet18": Variant(stages=_18, block="basic"),
    "resnet34": Variant(stages=_34, block="basic"),
    "resnet50": Variant(stages=_50),
    "resnet101": Variant(stages=_101),
    "resnet152": Variant(stages=_152),
    # arXiv:1611.05431, Table 1.
    "resnext50_32x4d": Variant(stages=_50, cardinality=32, base_width=4),
    "resnext101_32x8d": Variant(stages=_101, cardinality=32, base_width=8),
    "resnext101_64x4d": Variant(stages=_101, cardinality=64, base_width=4),
    # arXiv:1605.07146, section 3.4: a 3x3 of twice the width.
    "wide_resnet50_2": Variant(stages=_50, base_width=128),
    "wide_resnet101_2": Variant(stages=_101, base_width=128),
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
    "resnetv2_34": Variant(stages=_34, block="basic", **_TIMM_V2),
    "resnetv2_50": Variant(stages=_50, **_TIMM_V2),
    "resnetv2_101": Variant(stages=_101, **_TIMM_V2),
    "resnetv2_152": Variant(stages=_152, **_TIMM_V2),
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
