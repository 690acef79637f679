"""`train`."""

from __future__ import annotations

from keras_resnet.commands.options import add_data_dir


def register(command):
    """Add the command."""
    add = command("train", _train, "Train a variant; without arguments, a small one on digits.").add_argument
    add("--model", help="a name of 'keras-resnet list' (default: the recipe's, or resnet20_cifar)")
    add(
        "--data",
        help="digits, a name of tensorflow-datasets, a folder or an .npz (default: the recipe's, or digits)",
    )
    add("--recipe", help="a name of the README or a .yaml file (default: the one that fits the data)")
    add("--epochs", type=int)
    add("--batch-size", type=int)
    add("--image-size", type=int, metavar="PIXELS")
    add("--seed", type=int, help="(default: 0)")
    add("--out", metavar="FOLDER", help="the run folder (default: a new one in runs)")
    add("--resume", metavar="RUN", help="go on with the stopped run in this folder, as it was begun")
    add("--save-every", type=int, metavar="STEPS", help="snapshots within an epoch, too")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a field of the recipe; may be repeated",
    )
    add_data_dir(add)


def _train(options):
    import yaml

    from keras_resnet.training.fit import train

    settings = {}
    for item in options.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set {item!r}: expected KEY=VALUE.")
        settings[key] = yaml.safe_load(value)
    for key in ("epochs", "batch_size"):
        if getattr(options, key) is not None:
            settings[key] = getattr(options, key)
    given = {"model": options.model, "data": options.data, "recipe": options.recipe, "seed": options.seed}
    given["image_size"] = options.image_size
    given = {key: value for key, value in given.items() if value is not None}
    if options.resume:
        given = _as_begun(options.resume) | given
    train(
        **given, out=options.resume or options.out, resume=bool(options.resume), settings=settings,
        save_every=options.save_every, data_dir=options.data_dir, download=not options.no_download,
    )  # fmt: skip


def _as_begun(folder):
    """The arguments of the run in `folder`."""
    from keras_resnet.training.recipe import override
    from keras_resnet.training.recipes import RECIPES
    from keras_resnet.training.runs import read_config

    config = read_config(folder)
    # Every field is there; the recipe that it replaces does not matter.
    recipe = override(RECIPES["small"], config["recipe"])
    return {key: config[key] for key in ("model", "data", "seed")} | {"recipe": recipe}
