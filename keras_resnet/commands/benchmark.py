"""`benchmark`."""

from __future__ import annotations

TABLES = ("train", "startup")


def register(command):
    """Add the command."""
    add = command("benchmark", _benchmark, "Measure against other libraries, taking turns.").add_argument
    add("table", choices=TABLES)
    add("--model", metavar="VARIANT", help="train: a variant (default: resnet20_cifar)")
    add("--batch-size", type=int, help="train: images in a step (default: 128)")
    add("--image-size", type=int, metavar="PIXELS", help="train: side of the images (default: the variant's)")
    add("--steps", type=int, help="train: steps in a round (default: 4)")
    add("--rounds", type=int, default=5, help="rounds of each contender (default: %(default)s)")
    add("--out", metavar="FOLDER", help="also write the table as text, CSV and picture")


def _benchmark(options):
    from importlib import import_module

    from keras_resnet.benchmark.rounds import format_rows, save

    names = {"model": "variant", "batch_size": "batch_size", "image_size": "image_size", "steps": "steps"}
    given = {to: getattr(options, name) for name, to in names.items() if getattr(options, name) is not None}
    rows = import_module(f"keras_resnet.benchmark.{options.table}").run(rounds=options.rounds, **given)
    title = " ".join([options.table, *(f"{key} {value}" for key, value in given.items())])
    unit = "starts/s" if options.table == "startup" else "img/s"
    print(format_rows(title, rows, unit))
    if options.out:
        save(title, rows, options.out, unit)
