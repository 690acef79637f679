"""`report`."""

from __future__ import annotations

import sys

from keras_resnet.commands.options import add_data_options, data_options
from keras_resnet.printing import show


def register(command):
    """Add the command."""
    add = command(
        "report",
        _report,
        "Show a run, or compare several, in one HTML file.",
        "report runs/my-run",
        "report runs/one runs/another --out comparison.html",
    ).add_argument
    add("runs", nargs="+", metavar="RUN", help="a run folder")
    add("--out", metavar="FILE", help="(default: report.html in the run; comparison.html of several)")
    add("--data", help="the data, if it is no longer where config.yaml says")
    add_data_options(add)


def _report(options):
    from keras_resnet.report.write import write_report

    path, missing = write_report(
        options.runs, options.out, data=options.data, **data_options(options)
    )  # fmt: skip
    for line in missing:
        print(show(line), file=sys.stderr)
    print(show(path))
