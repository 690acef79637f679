"""The recipes, as data. A recipe is changed by `dataclasses.replace` or by `override`.

Above each stand its command, the accuracy that its source reports, and what was measured with this
package. What differs from the source is said there too. Two things hold for all: rates change at
every step, where some sources change them once an epoch, and a warmup begins at zero.
"""

from __future__ import annotations

from keras_resnet.nearest import suggest
from keras_resnet.training.recipe import Recipe, override, read_recipe

RECIPES: dict[str, Recipe] = {
    # keras-resnet train
    # Digits of 8x8: moved by a pixel, never mirrored.
    # Measured: see the README.
    "digits": Recipe(
        epochs=30, batch_size=64, learning_rate=0.1, warmup_epochs=3, nesterov=True, weight_decay=5e-4,
        crop="pad", crop_padding=1,
    ),
    # keras-resnet train --data cifar10 --recipe small
    # Small images: arXiv:1512.03385, section 4.2, for its augmentation. Not measured here.
    "small": Recipe(
        epochs=60, batch_size=128, learning_rate=0.1, warmup_epochs=2, nesterov=True, weight_decay=5e-4,
        crop="pad", flip=True,
    ),
    # keras-resnet train --model resnet50 --data FOLDER --recipe photographs
    # Photographs: arXiv:1706.02677, section 5.1, for a rate of 0.1 in 256 images. Not measured here.
    "photographs": Recipe(
        epochs=90, batch_size=256, learning_rate=0.1, warmup_epochs=5, nesterov=True, weight_decay=1e-4,
        crop="resized", flip=True,
    ),
    # keras-resnet train --recipe fashion-mnist-chapter
    # ResNet-18 as a chapter on Fashion-MNIST builds and trains it: biased convolutions, projections
    # without normalisation, Xavier's initial weights, plain SGD. Expected: about 91 % (a twin in
    # torch, one seed). Measured: 90.28 % (seed 0; after the fourth epoch 90.67), 2.1 hours of training
    # on two EPYC (AVX2) cores that another run shared.
    "fashion-mnist-chapter": Recipe(
        model="resnet18", data="fashion_mnist", image_size=96,
        architecture={"conv_bias": "all", "shortcut": "conv", "zero_init_last": False,
                      "kernel_initializer": "glorot_uniform"},
        epochs=5, batch_size=256, learning_rate=0.05, momentum=0.0, schedule="constant",
    ),
    # keras-resnet train --recipe cifar10-notebook
    # ResNet-18 as a notebook on CIFAR-10 builds and trains it: as above, and no normalisation in
    # the stem. It states no accuracy. Not measured here.
    "cifar10-notebook": Recipe(
        model="resnet18", data="cifar10", image_size=299,
        architecture={"conv_bias": "all", "shortcut": "conv", "stem_norm": False, "zero_init_last": False},
        epochs=20, batch_size=32, learning_rate=0.1, momentum=0.0, schedule="step", boundaries=(5, 10, 15),
    ),
    # keras-resnet train --recipe he2015-cifar
    # arXiv:1512.03385, section 4.2: 64,000 steps, a tenth of the rate from steps 32,000 and 48,000,
    # here counted in epochs of 400 steps. Expected (table 6): error of resnet20_cifar 8.75 %, 32:
    # 7.51, 44: 7.17, 56: 6.97, 110: 6.43 (with 0.01 for the first 400 steps). Images are normalised
    # by channel, in the paper by pixel. Not measured here.
    "he2015-cifar": Recipe(
        model="resnet20_cifar", data="cifar10", architecture={"zero_init_last": False},
        epochs=160, steps_per_epoch=400, batch_size=128, learning_rate=0.1, weight_decay=1e-4, decay_all=True,
        schedule="step", boundaries=(80, 120), crop="pad", flip=True,
    ),
    # keras-resnet train --recipe cifar-fast
    # One cycle of the rate, Nesterov's momentum and smoothed labels: 23,400 steps instead of 64,000.
    # Branches do not begin at zero: with that, six epochs of warmup and a peak of 0.2 two seeds came
    # to 89.8 and 89.6 %.
    # Expected: the paper's 91.25 % of resnet20_cifar. Measured: 91.73 % (mean of seeds 0, 1 and 2:
    # 91.61, 91.81, 91.76), 5.3 hours of training on one EPYC core with AVX2, 2.6 with AVX-512.
    "cifar-fast": Recipe(
        model="resnet20_cifar", data="cifar10", architecture={"zero_init_last": False},
        epochs=60, batch_size=128, learning_rate=0.1, nesterov=True, weight_decay=5e-4,
        schedule="one_cycle", warmup_epochs=2, label_smoothing=0.05, crop="pad", flip=True,
    ),
    # keras-resnet train --data FOLDER --recipe he2015-imagenet
    # arXiv:1512.03385, section 3.4, in the 90 epochs and with the random crops of later years
    # (the paper: up to 600,000 steps, crops from sides of 256 to 480, colours shifted). The stride
    # is in the first 1x1 convolution. Expected: 75.3 % of ResNet-50, one crop (the authors' models).
    # Not measured here.
    "he2015-imagenet": Recipe(
        model="resnet50", data="imagenet2012",
        architecture={"stride_conv": "conv1", "zero_init_last": False}, image_size=224,
        epochs=90, batch_size=256, learning_rate=0.1, weight_decay=1e-4, decay_all=True,
        schedule="step", boundaries=(30, 60), crop="resized", flip=True,
    ),
    # keras-resnet train --data FOLDER --recipe torchvision-v1
    # The reference script of torchvision for IMAGENET1K_V1. Expected: resnet50 76.13 % (18: 69.76,
    # 34: 73.31, 101: 77.37, 152: 78.31). Not measured here.
    "torchvision-v1": Recipe(
        model="resnet50", data="imagenet2012", architecture={"zero_init_last": False}, image_size=224,
        epochs=90, batch_size=256, learning_rate=0.1, weight_decay=1e-4, decay_all=True,
        schedule="step", boundaries=(30, 60), crop="resized", flip=True,
    ),
    # keras-resnet train --data FOLDER --recipe torchvision-v2
    # The reference script of torchvision for IMAGENET1K_V2. Its average keeps 1 - 0.00002 * 1024 *
    # 32 / 600 in 32 steps: 0.999966 in one. It decays the bias of the head, too. Expected: resnet50
    # 80.86 % (101: 81.89, 152: 82.28). Not measured here.
    "torchvision-v2": Recipe(
        model="resnet50", data="imagenet2012", architecture={"zero_init_last": False},
        image_size=176, test_image_size=224, test_crop_fraction=224 / 232,
        epochs=600, batch_size=1024, learning_rate=0.5, weight_decay=2e-5, warmup_epochs=5,
        label_smoothing=0.1, mixup=0.2, cutmix=1.0, crop="resized", flip=True,
        augment="trivialaugment", erase=0.1, repeats=4, ema=0.999966, ema_every=32,
    ),
    # keras-resnet train --data FOLDER --recipe timm-a1
    # arXiv:2110.00476, table 2, procedure A1. Expected: resnet50 80.38 % at 224 px (timm's a1; 18:
    # 71.50, 34: 76.42, 101: 81.49, 152: 82.00). Strengths of RandAugment vary there by 0.5; crops
    # are resized bicubically. Not measured here.
    "timm-a1": Recipe(
        model="resnet50", data="imagenet2012", image_size=224, test_crop_fraction=0.95,
        interpolation="bicubic", epochs=600, batch_size=2048, optimizer="lamb", learning_rate=5e-3,
        weight_decay=0.01, clip_norm=1.0, warmup_epochs=5, loss="sigmoid", label_smoothing=0.1,
        mixup=0.2, cutmix=1.0, crop="resized", flip=True, augment="randaugment", augment_magnitude=7.0,
        repeats=3, drop_path=0.05,
    ),
    # keras-resnet train --data FOLDER --recipe timm-a2
    # The same, procedure A2. Expected: resnet50 79.83 % (18: 70.63, 34: 75.52, 101: 81.34, 152:
    # 81.76). Not measured here.
    "timm-a2": Recipe(
        model="resnet50", data="imagenet2012", image_size=224, test_crop_fraction=0.95,
        interpolation="bicubic", epochs=300, batch_size=2048, optimizer="lamb", learning_rate=5e-3,
        weight_decay=0.02, clip_norm=1.0, warmup_epochs=5, loss="sigmoid",
        mixup=0.1, cutmix=1.0, crop="resized", flip=True, augment="randaugment", augment_magnitude=7.0,
        repeats=3, drop_path=0.05,
    ),
    # keras-resnet train --data FOLDER --recipe timm-a3
    # The same, procedure A3: trained at 160 px. Expected at 224: resnet50 78.05 % (18: 68.25, 34:
    # 73.00, 101: 79.84, 152: 80.55). Not measured here.
    "timm-a3": Recipe(
        model="resnet50", data="imagenet2012", image_size=160, test_image_size=224,
        test_crop_fraction=0.95, interpolation="bicubic", epochs=100, batch_size=2048, optimizer="lamb",
        learning_rate=8e-3, weight_decay=0.02, clip_norm=1.0, warmup_epochs=5, loss="sigmoid",
        mixup=0.1, cutmix=1.0, crop="resized", flip=True, augment="randaugment", augment_magnitude=6.0,
    ),
    # keras-resnet train --data FOLDER --recipe bag-of-tricks
    # arXiv:1812.01187, sections 2.1, 3.1 and 5 without distillation. Colours are jittered by 0.4;
    # its noise along principal components is left out. Expected: resnet50d 79.15 %. Not measured here.
    "bag-of-tricks": Recipe(
        model="resnet50d", data="imagenet2012", image_size=224, epochs=200, batch_size=1024,
        learning_rate=0.4, nesterov=True, weight_decay=1e-4, warmup_epochs=5, label_smoothing=0.1,
        mixup=0.2, crop="resized", flip=True, color_jitter=0.4,
    ),
    # keras-resnet train --data FOLDER --recipe resnet-rs
    # arXiv:2103.07579, section 3 and the authors' configuration for 160 px (deeper networks take
    # larger images, magnitude 15 and stochastic depth). Expected: resnetrs50 78.8 %. Not measured here.
    "resnet-rs": Recipe(
        model="resnetrs50", data="imagenet2012", image_size=160, epochs=350, batch_size=4096,
        learning_rate=1.6, weight_decay=4e-5, warmup_epochs=5, label_smoothing=0.1, crop="resized",
        flip=True, augment="randaugment", augment_magnitude=10.0, dropout=0.25, ema=0.9999,
    ),
}  # fmt: skip
"""The recipes by name."""


def choose_recipe(data, image_size: int) -> str:
    """The name of the recipe for data that come without one."""
    if data == "digits":
        return "digits"
    return "small" if image_size <= 64 else "photographs"


def find_recipe(recipe: str | Recipe, settings: dict | None = None) -> Recipe:
    """The recipe of a name, or of a YAML file, with some fields replaced.

    Raises:
        ValueError: there is no such recipe or file, or a field is unknown or of another type.
    """
    if isinstance(recipe, str) and recipe.endswith((".yaml", ".yml")):
        recipe = read_recipe(recipe)
    if isinstance(recipe, str) and recipe not in RECIPES:
        hint = suggest(recipe, RECIPES, f"give a .yaml file, or one of {', '.join(RECIPES)}.")
        raise ValueError(f"there is no recipe {recipe!r}; {hint}")
    return override(RECIPES[recipe] if isinstance(recipe, str) else recipe, settings or {})
