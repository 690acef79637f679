"""The command `keras-resnet`. What each command takes and calls is in `keras_resnet.commands`."""

from __future__ import annotations

import argparse
import os
import sys

from keras_resnet.commands import benchmark, data, inference, report, training, weights, zoo

# In the order of --help.
GROUPS = (zoo, training, report, inference, weights, data, benchmark)


def main(arguments=None) -> int:
    """Run one command; returns the exit status.

    0; 1: bad data was found; 2: bad input; 3: the loss of a training became NaN or infinite;
    130: Ctrl-C. SIGTERM ends a training with 143, by `SystemExit`.
    """
    options = _parser().parse_args(arguments)
    # TensorFlow's notes about its own start-up; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow leaves oneDNN off on AMD's CPUs, where it trains and infers twice as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    try:
        return options.run(options) or 0
    except (ValueError, FileExistsError, ImportError) as error:
        print(f"keras-resnet: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"keras-resnet: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130


def _parser():
    parser = argparse.ArgumentParser("keras-resnet", description="The ResNet model zoo for Keras 3.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, summary):
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(run=run)
        return added

    for group in GROUPS:
        group.register(command)
    return parser
