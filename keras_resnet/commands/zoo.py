"""`list` and `info`."""

from __future__ import annotations

from keras_resnet.commands.options import add_json, positive, print_json, variant
from keras_resnet.variants import VARIANTS


def register(command):
    """Add the commands."""
    parser = command("list", _list, "Print the names of the variants.", "list", "list 'resnext*'")
    parser.set_defaults(needs_tensorflow=False)
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, such as 'resnext*'")
    add_json(parser.add_argument)

    add = command(
        "info",
        _info,
        "Print a variant's stages: shape, parameters, multiply-adds.",
        "info resnet50",
        "info resnet20_cifar --channels 1 --num-classes 7 --plot stages.png",
    ).add_argument
    add("model", metavar="VARIANT", type=variant, help="a name of 'keras-resnet list'")
    add(
        "--input", type=positive, metavar="SIZE", help="side of the images in pixels (default: the variant's)"
    )
    add("--channels", type=positive, default=3, help="(default: %(default)s)")
    add("--num-classes", type=positive)
    add("--plot", metavar="FILE", help="also draw the stages into this PNG")
    add_json(add)


def _list(options):
    import fnmatch

    from keras_resnet.nearest import suggest

    names = fnmatch.filter(VARIANTS, options.pattern)
    if not names:
        hint = suggest(options.pattern.strip("*?"), VARIANTS, "'keras-resnet list' prints them all.")
        raise ValueError(f"no variant matches {options.pattern!r}; {hint}")
    if options.json:
        print_json(options, {"variants": names})
    else:
        print("\n".join(names))


def _info(options):
    from dataclasses import asdict

    from keras_resnet.builders import build_model
    from keras_resnet.summary import format_table, shape_table

    arguments = {} if options.num_classes is None else {"num_classes": options.num_classes}
    size = options.input or VARIANTS[options.model].image_size
    model = build_model(options.model, input_shape=(size, size, options.channels), **arguments)
    rows = shape_table(model)
    if options.plot:
        from keras_resnet.report.plots import plot_stages

        plot_stages(rows, options.model, options.plot)
    if options.json:
        *stages, total = map(asdict, rows)
        figures = {key: total[key] for key in ("parameters", "macs")}
        print_json(options, {"model": options.model, **figures, "stages": stages})
    else:
        print(format_table(rows))
