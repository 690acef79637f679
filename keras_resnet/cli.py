"""The command `keras-resnet`. No logic lives here, and nothing is imported before it is needed."""

from __future__ import annotations

import argparse
import os
import sys

from keras_resnet.variants import VARIANTS


def main(arguments=None) -> int:
    """Run one command; returns the exit status: 0, 1 (bad data found), 2 (bad input), 130 (Ctrl-C)."""
    options = _parser().parse_args(arguments)
    # TensorFlow's notes about its own start-up; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return options.run(options) or 0
    except (ValueError, FileExistsError, ImportError) as error:
        print(f"keras-resnet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser():
    parser = argparse.ArgumentParser("keras-resnet", description="The ResNet model zoo for Keras 3.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, summary):
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(run=run)
        return added

    add = command("list", _list, "Print the names of the variants.").add_argument
    add("pattern", nargs="?", default="*", help="shell pattern, such as 'resnext*'")

    add = command("info", _info, "Print a variant's stages: shape, parameters, multiply-adds.").add_argument
    add("model")
    add("--input", type=int, metavar="SIZE", help="side of the images in pixels (default: the variant's)")
    add("--channels", type=int, default=3)
    add("--num-classes", type=int)
    add("--plot", metavar="FILE", help="also draw the stages into this PNG")

    add = command("train", _train, "Train a variant; without arguments, a small one on digits.").add_argument
    add("--model", default="resnet20_cifar", help="a name of 'keras-resnet list' (default: %(default)s)")
    add(
        "--data",
        default="digits",
        help="digits, a name of tensorflow-datasets, a folder or an .npz (default: %(default)s)",
    )
    add("--recipe", help="digits, small or photographs (default: the one that fits the data)")
    add("--epochs", type=int)
    add("--batch-size", type=int)
    add("--image-size", type=int, metavar="PIXELS")
    add("--seed", type=int, default=0)
    add("--out", metavar="FOLDER", help="the run folder (default: a new one in runs)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a field of the recipe; may be repeated",
    )
    _add_data_dir(add)

    add = command("evaluate", _evaluate, "Print top-1, top-5, loss and the number of images.").add_argument
    add("model", metavar="RUN_OR_MODEL", help="a run folder, a .keras file, or a variant with --weights")
    add("--weights", metavar="SOURCE", help="a record or a file of weights for a variant")
    add("--data", required=True)
    add("--split", default="held_out", help="(default: %(default)s)")
    add("--batch-size", type=int, default=128)
    _add_data_dir(add)

    add = command("predict", _predict, "Print the five likeliest classes of images.").add_argument
    add("model", metavar="RUN_OR_MODEL", help="a run folder or a .keras file")
    add("images", nargs="+", metavar="IMAGE", help="files or folders")

    add = command("convert", _convert, "Write weights in another library's layout.").add_argument
    add("source", metavar="IN", help="a run folder, a .keras file, or weights for --model")
    add("target", metavar="OUT", help=".safetensors, .keras or .weights.h5")
    add("--model", metavar="VARIANT", help="what IN holds the weights of")
    add("--layout", default="timm", help="timm, torchvision, timm_v2, akamaster (default: %(default)s)")

    add = command("verify", _verify, "Compare variants with their home library.").add_argument
    add("models", nargs="*", metavar="VARIANT", help="shell patterns (default: all that it has)")
    add("--against", default="timm", choices=("timm", "torchvision", "keras"))

    add = command(
        "check-data", _check_data, "Decode a whole folder; list bad files and class counts."
    ).add_argument
    add("path", metavar="PATH")
    add("--strict", action="store_true", help="also find damage that decoders pass over (extra: strict)")
    return parser


def _add_data_dir(add):
    add("--data-dir", metavar="FOLDER", help="where the datasets of tensorflow-datasets are")
    add("--no-download", action="store_true", help="do not fetch a dataset that is missing")


def _list(options):
    import fnmatch

    names = fnmatch.filter(VARIANTS, options.pattern)
    if not names:
        raise ValueError(f"no variant matches {options.pattern!r}; 'keras-resnet list' prints them all.")
    print("\n".join(names))


def _info(options):
    from keras_resnet.builders import build_model
    from keras_resnet.summary import format_table, shape_table

    arguments = {} if options.num_classes is None else {"num_classes": options.num_classes}
    size = options.input or (VARIANTS[options.model].image_size if options.model in VARIANTS else 224)
    model = build_model(options.model, input_shape=(size, size, options.channels), **arguments)
    rows = shape_table(model)
    print(format_table(rows))
    if options.plot:
        from keras_resnet.report.plots import plot_stages

        plot_stages(rows, options.model, options.plot)


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
    train(
        options.model, options.data, options.recipe, image_size=options.image_size, seed=options.seed,
        out=options.out, data_dir=options.data_dir, download=not options.no_download, settings=settings,
    )  # fmt: skip


def _evaluate(options):
    from keras_resnet.inference.artifacts import from_weights, open_model
    from keras_resnet.inference.evaluate import evaluate

    artifact = from_weights(options.model, options.weights) if options.weights else open_model(options.model)
    evaluation = evaluate(
        artifact.model, options.data, options.split, batch_size=options.batch_size,
        data_dir=options.data_dir, download=not options.no_download, **artifact.options,
    )  # fmt: skip
    print(evaluation)


def _convert(options):
    from keras_resnet.inference.artifacts import from_weights, open_model
    from keras_resnet.inference.convert import save_as

    artifact = from_weights(options.model, options.source) if options.model else open_model(options.source)
    save_as(artifact.model, options.target, options.layout)


def _verify(options):
    import fnmatch

    from keras_resnet.inference.verify import format_differences, references, verify

    known = references(options.against)
    names = [name for name in known if any(fnmatch.fnmatch(name, p) for p in options.models or ["*"])]
    if not names:
        raise ValueError(f"{options.against} has none of {', '.join(options.models)}.")
    rows = []
    for row in verify(names, against=options.against):
        rows.append(row)
        print(format_differences([row]).splitlines()[-1], flush=True)
    print(f"{sum(row.passed for row in rows)} of {len(rows)} agree")
    return 0 if all(row.passed for row in rows) else 1


def _predict(options):
    from keras_resnet.inference.predict import predict

    for prediction in predict(options.model, options.images):
        print(prediction.path)
        for name, probability in prediction.classes:
            print(f"  {probability:7.2%}  {name}")


def _check_data(options):
    from keras_resnet.data.check import check_data

    def progress(done, total):
        if sys.stderr.isatty():
            print(f"\r{done}/{total} images", end="\n" if done == total else "", file=sys.stderr)

    report = check_data(options.path, strict=options.strict, progress=progress)
    for split, counts in report.counts.items():
        print(f"{split}: {sum(counts.values())} images, {len(counts)} classes")
        for name, count in counts.items():
            print(f"  {count:6d}  {name}")
    print(*report.problems, sep="\n")
    print(f"{len(report.problems)} bad files")
    return 1 if report.problems else 0
