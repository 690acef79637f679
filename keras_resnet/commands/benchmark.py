"""`benchmark`."""

from __future__ import annotations

from keras_resnet.commands.options import add_json, positive, print_json, variant

UNITS = dict.fromkeys(("train", "data", "infer", "export"), "img/s") | {"startup": "starts/s"}


def register(command):
    """Add the command."""
    add = command(
        "benchmark",
        _benchmark,
        "Measure against other libraries, taking turns.",
        "benchmark train --model resnet20_cifar --batch-size 128",
        "benchmark infer --model resnet50 --out figures",
        "benchmark startup --json",
    ).add_argument
    add("table", choices=UNITS)
    add("--model", dest="variant", metavar="VARIANT", type=variant)
    add("--batch-size", type=positive)
    add("--image-size", type=positive, metavar="PIXELS")
    add("--steps", type=positive, help="train: steps in a round")
    add("--photos", metavar="FOLDER", help="data: photographs to read, at any depth (default: noise)")
    add("--rounds", type=positive, default=5, help="rounds of each contender (default: %(default)s)")
    add("--out", metavar="FOLDER", help="also write the table as text, CSV and picture")
    add_json(add)


def _benchmark(options):
    import inspect
    from dataclasses import asdict
    from importlib import import_module

    from keras_resnet.benchmark.rounds import format_rows, machine, save

    run = import_module(f"keras_resnet.benchmark.{options.table}").run
    known = inspect.signature(run).parameters
    given = {key: getattr(options, key) for key in ("variant", "batch_size", "image_size", "steps", "photos")}
    given = {key: value for key, value in given.items() if value is not None}
    if extra := given.keys() - known.keys():
        raise ValueError(f"benchmark {options.table} has no option for {', '.join(sorted(extra))}.")
    rows = run(rounds=options.rounds, **given)
    title = " ".join([options.table, *(f"{key} {value}" for key, value in given.items())])
    if options.json:
        figures = [asdict(row) for row in rows]
        unit = UNITS[options.table]
        print_json(options, {"title": title, "machine": machine(), "unit": unit, "contenders": figures})
    else:
        print(format_rows(title, rows, UNITS[options.table]))
    if options.out:
        save(title, rows, options.out, UNITS[options.table])
