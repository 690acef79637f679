"""Tiny networks of every family of blocks, for the tests of exports."""

import keras
import numpy as np

from keras_resnet import build_resnet

# Packages that run a format, or that write it.
RUNTIMES = {
    "savedmodel": (),
    "onnx": ("onnx", "tf2onnx", "onnxruntime"),
    "litert": ("ai_edge_litert",),
    "openvino": ("openvino", "nncf"),
}
_COMMON = dict(
    stages=((1, 8), (1, 16)), stem="conv3", stem_pool=None, stem_filters=8, num_classes=6,
    input_shape=(8, 8, 3), normalization=(0.5, 0.25),
)  # fmt: skip
_WIDE = dict(stages=((1, 32), (1, 32)), stem_filters=32, norm="group")
FAMILIES = {
    "basic": dict(block="basic"),
    "bottleneck": dict(),
    "preactivation": dict(preactivation=True),
    "squeeze": dict(attention="se"),
    "channels": dict(attention="eca"),
    "blur": dict(downsample="blur", stem_pool="blur", block="basic"),
    "group": dict(**_WIDE, block="basic"),
    "standardized": dict(**_WIDE, standardize_weights=True, preactivation=True),
    "resnext": dict(cardinality=4, base_width=32),
    "biased": dict(cardinality=4, base_width=32, conv_bias="all"),
    "pad": dict(block="basic", shortcut="pad"),
}
# The families in three networks: what each of them needs of a format stays in the graph.
MIXTURES = {
    "basic_blur_pad": FAMILIES["basic"] | FAMILIES["blur"] | FAMILIES["pad"],
    "bottleneck_resnext_squeeze": FAMILIES["resnext"] | FAMILIES["squeeze"],
    "preactivation_group_standardized_channels": FAMILIES["standardized"] | FAMILIES["channels"],
}


def network(family, **options):
    """A network with statistics as after training, and probabilities that are far apart."""
    keras.utils.set_random_seed(0)
    model = build_resnet(**_COMMON | (FAMILIES | MIXTURES)[family] | options, name=family)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        kind = weight.path.rpartition("/")[2]
        if kind in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif kind in ("beta", "moving_mean"):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    if options.get("include_top", True):
        head = model.get_layer("head").kernel
        head.assign(head.numpy() * 4)
    return model
