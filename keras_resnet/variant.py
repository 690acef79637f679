"""What a row of the table says about a network, and which rows can be built. Standard library only.

A network is a stem, then stages of residual blocks, then a head. A stage is a tuple
``(reps, filters)``: how many blocks, and how wide. A *basic* block of a stage puts out
``filters`` channels, a *bottleneck* block ``4 * filters``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from keras_resnet.arguments import fraction, rate, real, whole

EXPANSION = {"basic": 1, "bottleneck": 4}

# Side of the squares and factor of the rate that DropBlock has in a stage, in timm.
DROP_BLOCKS = {3: (5, 0.25), 4: (3, 1.0)}

# Far beyond every network that was published; a configuration that asks for more is a mistake.
MOST_REPS, MOST_FILTERS = 1_000, 65_536

CHOICES = {
    "stem": ("conv7", "conv3", "deep"),
    "stem_pool": ("max", "max_zero", "blur", "avg", "conv", None),
    "shortcut": ("conv_norm", "conv", "pad", "pool_conv_norm", "pool_conv", "conv3_norm"),
    "stride_conv": ("conv1", "conv2"),
    "stride_block": ("first", "last"),
    "downsample": ("stride", "blur", "avg"),
    "attention": (None, "se", "eca"),
    "norm": ("batch", "group"),
    "conv_bias": ("none", "unnormalized", "all"),
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The architecture of one network; raises ``ValueError`` for one that cannot be built.

    Attributes:
        stages: ``((reps, filters), ...)``, one pair for each stage. The resolution halves
            from each stage to the next.
        block: ``"basic"`` (two 3x3 convolutions) or ``"bottleneck"`` (1x1, 3x3, 1x1), or one
            of them for each stage.
        preactivation: normalise and activate before each convolution instead of after it
            (arXiv:1603.05027). The stem then ends in a bare convolution, and a last
            normalisation precedes the head.
        cardinality: groups of the 3x3 convolution of a bottleneck (arXiv:1611.05431).
        base_width: channels of one group in a stage of 64 filters. The 3x3 convolution has
            ``floor(filters * base_width / 64) * cardinality`` channels.
        pruned: for pruned networks, ``(first, second, out)`` channels of each bottleneck of
            each stage, instead of what its filters give.
        reduce_first: the first convolution of a block has as many times fewer channels
            (SENet-154, arXiv:1709.01507, section 6.2: 2).
        stem: ``"conv7"`` (7x7, stride 2), ``"conv3"`` (3x3, stride 1: CIFAR) or ``"deep"``
            (three 3x3, the first of stride 2; arXiv:1812.01187, section 4: ResNet-C).
        stem_filters: channels of the stem's convolution, or of the three of a deep stem.
        stem_norm: normalise after the stem's last convolution (never with preactivation).
        stem_pool: what halves the resolution after the stem: 3x3 max pooling padded with
            zeros (``"max_zero"``; after a ReLU that is the same as torch's padding with minus
            infinity, and faster) or with minus infinity (``"max"``), max pooling and then
            blurring (``"blur"``, arXiv:1904.11486), 2x2 averages (``"avg"``), a 3x3
            convolution (``"conv"``, arXiv:2103.07579), or nothing (``None``).
        shortcut: the projection: ``"conv_norm"`` (1x1 convolution and normalisation),
            ``"conv"`` (no normalisation), ``"pad"`` (option A of arXiv:1512.03385, section
            4.2: every second pixel, zero channels on both sides, no parameters), both of the
            former after 2x2 averages instead of strided (``"pool_conv_norm"``,
            ``"pool_conv"``; arXiv:1812.01187: ResNet-D), or ``"conv3_norm"`` (3x3 where it
            strides: SENet-154).
        stride_conv: the convolution of a bottleneck that strides: ``"conv2"`` (v1.5: the
            3x3) or ``"conv1"`` (the original).
        stride_block: the block of a stage that strides: ``"first"``, or ``"last"`` as in
            keras.applications' V2, where every stage but the last ends in a stride.
        downsample: how that convolution strides: by itself (``"stride"``), or after its
            activation by blurring (``"blur"``, arXiv:1904.11486) or 2x2 averages (``"avg"``).
        attention: at the end of a branch: squeeze-and-excitation (``"se"``,
            arXiv:1709.01507), efficient channel attention (``"eca"``, arXiv:1910.03151).
        se_ratio: channels of the squeeze as a part of the block's, rounded to eights.
        standardize_weights: standardise each filter before it is applied (arXiv:1903.10520).
        conv_bias: ``"none"``, ``"all"``, or ``"unnormalized"`` (only those convolutions
            that no normalisation follows).
        norm: ``"batch"`` or ``"group"`` (32 groups, arXiv:1803.08494).
        drop_block: rate at which squares of the last two of four stages are dropped in training
            (arXiv:1810.12890), with timm's sizes.
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
    block: str | tuple[str, ...] = "bottleneck"
    preactivation: bool = False
    cardinality: int = 1
    base_width: int = 64
    pruned: tuple | None = None
    reduce_first: int = 1
    stem: str = "conv7"
    stem_filters: int | tuple[int, ...] = 64
    stem_norm: bool = True
    stem_pool: str | None = "max_zero"
    shortcut: str = "conv_norm"
    stride_conv: str = "conv2"
    stride_block: str = "first"
    downsample: str = "stride"
    attention: str | None = None
    se_ratio: float = 1 / 16
    standardize_weights: bool = False
    conv_bias: str = "none"
    norm: str = "batch"
    drop_block: float | tuple[float, int, float] = 0.0
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
        object.__setattr__(self, "block", _checked_block(self.block, len(self.stages)))
        for name in ("cardinality", "base_width", "reduce_first", "image_size", "num_classes"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        object.__setattr__(self, "se_ratio", fraction("se_ratio", self.se_ratio))
        object.__setattr__(self, "norm_momentum", rate("norm_momentum", self.norm_momentum))
        object.__setattr__(self, "norm_epsilon", real("norm_epsilon", self.norm_epsilon, above=0))
        object.__setattr__(self, "stem_filters", _checked_stem_filters(self.stem, self.stem_filters))
        if "basic" in self.block and (self.cardinality, self.base_width) != (1, 64):
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

    def channels(self, filters: int) -> tuple[int, int, int]:
        """Channels after the first, second and last convolution of a bottleneck of `filters`."""
        width = self.width(filters)
        return self.pruned or (width // self.reduce_first, width, filters * EXPANSION[self.block])

    def out_channels(self, filters: int) -> int:
        """Channels that a block of `filters` puts out."""
        return self.channels(filters)[2]

    def block_row(self, stage: int, block: int) -> Variant:
        """The row as one of its blocks sees it; `stage` and `block` are one-based."""
        seen = {"block": self.block if isinstance(self.block, str) else self.block[stage - 1]}
        seen["pruned"] = self.pruned and self.pruned[stage - 1][block - 1]
        if self.drop_block:
            seen["drop_block"] = (self.drop_block, *DROP_BLOCKS[stage]) if stage in DROP_BLOCKS else 0.0
        return replace(self, **seen)

    @property
    def stem_stride(self) -> int:
        """Input pixels to a pixel of the first stage, along a side."""
        return (1 if self.stem == "conv3" else 2) * (2 if self.stem_pool else 1)

    @property
    def total_stride(self) -> int:
        """Input pixels to a pixel of the last stage, along a side."""
        return self.stem_stride * 2 ** (len(self.stages) - 1)


def _checked_stages(stages) -> tuple[tuple[int, int], ...]:
    wanted = "stages must be a non-empty sequence of (reps, filters), such as ((2, 64), (2, 128))"
    try:
        pairs = tuple((reps, filters) for reps, filters in stages)
    except (TypeError, ValueError):
        raise ValueError(f"{wanted}; got {stages!r}.") from None
    if not pairs:
        raise ValueError(f"{wanted}; got {stages!r}.")
    return tuple(
        (
            whole(f"stage {number} is {pair!r}: reps", pair[0], most=MOST_REPS),
            whole(f"stage {number} is {pair!r}: filters", pair[1], most=MOST_FILTERS),
        )
        for number, pair in enumerate(pairs, start=1)
    )


def _checked_block(block, stages: int):
    blocks = (block,) if isinstance(block, str) else tuple(block)
    if unknown := [b for b in blocks if b not in EXPANSION]:
        raise ValueError(f"block={unknown[0]!r} is unknown; choose one of {tuple(EXPANSION)}.")
    if not isinstance(block, str) and len(blocks) != stages:
        raise ValueError(f"block={blocks!r} names {len(blocks)} blocks for {stages} stages.")
    return block if isinstance(block, str) else blocks


def _checked_stem_filters(stem, filters):
    wanted = 3 if stem == "deep" else 1
    several = isinstance(filters, tuple | list)
    numbers = filters if several else (filters,)
    if len(numbers) != wanted:
        raise ValueError(
            f"stem_filters={filters!r}: stem={stem!r} takes {wanted} positive integer{'s' * (wanted > 1)}."
        )
    numbers = tuple(whole("stem_filters", number, most=MOST_FILTERS) for number in numbers)
    return numbers if several else numbers[0]
