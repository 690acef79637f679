"""`doctor`."""

from __future__ import annotations

from keras_resnet.commands.options import add_json, print_json


def register(command):
    """Add the command."""
    parser = command(
        "doctor",
        _doctor,
        "Print versions, devices and folders, compute a convolution, and say what is missing.",
        "doctor",
        "doctor --json",
    )
    # It also reports that TensorFlow cannot be imported.
    parser.set_defaults(needs_tensorflow=False)
    add_json(parser.add_argument)


def _doctor(options):
    import contextlib

    from keras_resnet.commands.start import start_tensorflow
    from keras_resnet.doctor import examine, format_report

    with contextlib.suppress(ImportError):
        start_tensorflow(quiet=not options.debug)
    report = examine()
    if options.json:
        print_json(options, report)
    else:
        print(format_report(report))
    return 0 if report["ok"] else 1
