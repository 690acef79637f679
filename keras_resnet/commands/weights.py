"""`convert` and `verify`."""

from __future__ import annotations

from keras_resnet.commands.options import add_json, add_which, open_weights, print_json, variant

LAYOUTS = ("timm", "timm_v2", "akamaster", "keras", "keras_resnet", "torchvision", "keras_v1", "keras_v2")


def register(command):
    """Add the commands."""
    add = command(
        "convert",
        _convert,
        "Write weights in another library's layout.",
        "convert runs/my-run weights.safetensors --layout timm",
        "convert resnet50.pth resnet50.keras --model resnet50",
    ).add_argument
    add("source", metavar="IN", help="a run folder, a .keras file, or weights for --model")
    add("target", metavar="OUT", help=".safetensors, .keras or .weights.h5")
    add("--model", metavar="VARIANT", type=variant, help="what IN holds the weights of")
    add_which(add)
    add("--layout", default="timm", choices=LAYOUTS, help="(default: %(default)s)")
    add("--float16", action="store_true", help="round the weights to half the bytes")

    add = command(
        "verify",
        _verify,
        "Compare variants with their home library.",
        "verify resnet50 'seresnext*'",
        "verify resnet50v1 --against keras --json",
    ).add_argument
    add("models", nargs="*", metavar="VARIANT", help="shell patterns (default: all that it has)")
    add("--against", default="timm", choices=("timm", "torchvision", "keras"))
    add_json(add)


def _convert(options):
    from keras_resnet.inference.artifacts import open_model
    from keras_resnet.inference.convert import save_as

    if options.model:
        artifact = open_weights(options.model, options.source, options.which)
    else:
        artifact = open_model(options.source)
    save_as(artifact.model, options.target, options.layout, float16=options.float16)


def _verify(options):
    import fnmatch
    from dataclasses import asdict

    from keras_resnet.inference.verify import format_differences, references, verify
    from keras_resnet.nearest import suggest

    known = references(options.against)
    names = [name for name in known if any(fnmatch.fnmatch(name, p) for p in options.models or ["*"])]
    if not names:
        hint = suggest(options.models[0], known, "'keras-resnet list' prints all names.")
        raise ValueError(f"{options.against} has none of {', '.join(options.models)}; {hint}")
    rows = []
    for row in verify(names, against=options.against):
        rows.append(row)
        print(format_differences([row]).splitlines()[-1], flush=True)
    print(f"{sum(row.passed for row in rows)} of {len(rows)} agree")
    if options.json:
        found = [asdict(row) | {"passed": row.passed} for row in rows]
        print_json(options, {"against": options.against, "variants": found})
    return 0 if all(row.passed for row in rows) else 1
