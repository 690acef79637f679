"""`list` and `info`."""

from __future__ import annotations

from keras_resnet.variants import VARIANTS


def register(command):
    """Add the commands."""
    add = command("list", _list, "Print the names of the variants.").add_argument
    add("pattern", nargs="?", default="*", help="shell pattern, such as 'resnext*'")

    add = command("info", _info, "Print a variant's stages: shape, parameters, multiply-adds.").add_argument
    add("model")
    add("--input", type=int, metavar="SIZE", help="side of the images in pixels (default: the variant's)")
    add("--channels", type=int, default=3)
    add("--num-classes", type=int)
    add("--plot", metavar="FILE", help="also draw the stages into this PNG")


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
