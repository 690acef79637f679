"""`benchmark`."""

from __future__ import annotations

UNITS = dict.fromkeys(("train", "data", "infer", "export"), "img/s") | {"startup": "starts/s"}


def register(command):
    """Add the command."""
    add = command("benchmark", _benchmark, "Measure against other libraries, taking turns.").add_argument
    add("table", choices=UNITS)
    add("--model", dest="variant", metavar="VARIANT")
    add("--batch-size", type=int)
    add("--image-size", type=int, metavar="PIXELS")
    add("--steps", type=int, help="train: steps in a round")
    add("--photos", metavar="FOLDER", help="data: photographs to read, at any depth (default: noise)")
    add("--rounds", type=int, default=5, help="rounds of each contender (default: %(default)s)")
    add("--out", metavar="FOLDER", help="also write the table as text, CSV and picture")


def _benchmark(options):
    import inspect
    from importlib import import_module

    from keras_resnet.benchmark.rounds import format_rows, save

    run = import_module(f"keras_resnet.benchmark.{options.table}").run
    known = inspect.signature(run).parameters
    given = {key: getattr(options, key) for key in ("variant", "batch_size", "image_size", "steps", "photos")}
    given = {key: value for key, value in given.items() if value is not None}
    if extra := given.keys() - known.keys():
        raise ValueError(f"benchmark {options.table} has no option for {', '.join(sorted(extra))}.")
    rows = run(rounds=options.rounds, **given)
    title = " ".join([options.table, *(f"{key} {value}" for key, value in given.items())])
    print(format_rows(title, rows, UNITS[options.table]))
    if options.out:
        save(title, rows, options.out, UNITS[options.table])
