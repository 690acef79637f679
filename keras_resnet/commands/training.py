"""`train` and `finetune`."""

from __future__ import annotations

import argparse

from keras_resnet.commands.options import (
    add_data_options,
    add_model,
    data_options,
    open_chosen,
    positive,
    variant,
)


def register(command):
    """Add the commands."""
    add = command(
        "train",
        _train,
        "Train a variant; without arguments, a small one on digits.",
        "train --model resnet20_cifar --data cifar10 --epochs 60 --seed 1",
        "train --recipe torchvision-v2 --data path/to/imagenet --set epochs=100 --tensorboard",
        "train --resume runs/my-run",
    ).add_argument
    add(
        "--model",
        metavar="VARIANT",
        type=variant,
        help="a name of 'keras-resnet list' (default: the recipe's, or resnet20_cifar)",
    )
    add(
        "--data",
        help="digits, a name of tensorflow-datasets, a folder or an .npz (default: the recipe's, or digits)",
    )
    add(
        "--recipe",
        metavar="RECIPE",
        help="a name, such as cifar-fast, or a .yaml file (default: the one that fits the data)",
    )
    add("--epochs", type=positive)
    add("--batch-size", type=positive)
    add("--image-size", type=positive, metavar="PIXELS")
    add("--seed", type=int, help="(default: 0)")
    add("--out", metavar="FOLDER", help="the run folder (default: a new one in runs)")
    add("--resume", metavar="RUN", help="go on with the stopped run in this folder, as it was begun")
    add("--save-every", type=positive, metavar="STEPS", help="snapshots within an epoch, too")
    add(
        "--strategy",
        choices=("mirrored", "multiworker"),
        help="train on all GPUs, or on all workers of TF_CONFIG, in steps as many times as large",
    )
    add_tensorboard(add)
    add(
        "--set",
        action="append",
        type=_setting,
        default=[],
        metavar="KEY=VALUE",
        help="a field of the recipe; may be repeated",
    )
    add_data_options(add)

    add = command(
        "finetune",
        _finetune,
        "Train a trained network on other images and classes.",
        "finetune resnet50 --weights imagenet --data path/to/class/folders --out runs/few",
        "finetune runs/my-run --data fashion_mnist --train-split 'train[:900]' --down-to stage3",
    ).add_argument
    add_model(add)
    add("--data", required=True, help="a name of tensorflow-datasets, a folder or an .npz")
    add("--train-split", default="train", help="(default: %(default)s)")
    add("--validation-split", default="held_out", help="evaluated after each epoch (default: %(default)s)")
    add("--image-size", type=positive, metavar="PIXELS", help="(default: the model's)")
    add("--batch-size", type=positive, default=32, help="(default: %(default)s)")
    add("--epochs", type=positive, help="(default: 30)")
    add("--learning-rate", type=float, help="the highest (default: 0.05)")
    add(
        "--down-to", metavar="PART", help="the first part to train: stem, stage1, ... or head (default: stem)"
    )
    add("--head", metavar="LAYER", help="the head to replace begins here (default: its last dense layer)")
    add("--seed", type=int, default=0, help="(default: %(default)s)")
    add_tensorboard(add)
    add("--out", metavar="FOLDER", help="the run folder (default: a new one in runs)")
    add_data_options(add)


def add_tensorboard(add):
    """Curves for TensorBoard, besides history.csv."""
    add("--tensorboard", action="store_true", help="also write RUN/tensorboard (extra: tensorboard)")


def _setting(text):
    """``(field, YAML)`` of KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r}: expected KEY=VALUE")
    return key, value


def _finetune(options):
    from keras_resnet.training.finetune import finetune_run

    artifact = open_chosen(options)
    given = {
        key: getattr(options, key) for key in ("epochs", "learning_rate", "down_to", "head", "tensorboard")
    }
    finetune_run(
        artifact.model, options.data, train_split=options.train_split,
        validation_split=options.validation_split, image_size=options.image_size,
        batch_size=options.batch_size, seed=options.seed, out=options.out, **data_options(options),
        **{k: v for k, v in given.items() if v is not None},
    )  # fmt: skip


def _train(options):
    from keras_resnet.run_files import parse_yaml
    from keras_resnet.training.fit import train
    from keras_resnet.training.resume import as_begun

    settings = {key: parse_yaml(value, f"--set {key}") for key, value in options.set}
    for key in ("epochs", "batch_size"):
        if getattr(options, key) is not None:
            settings[key] = getattr(options, key)
    given = {"model": options.model, "data": options.data, "recipe": options.recipe, "seed": options.seed}
    given |= {"image_size": options.image_size, **data_options(options)}
    given = {key: value for key, value in given.items() if value is not None}
    if options.resume:
        given = as_begun(options.resume) | given
    train(
        **given, out=options.resume or options.out, resume=bool(options.resume), settings=settings,
        save_every=options.save_every, strategy=options.strategy, tensorboard=options.tensorboard,
    )  # fmt: skip
