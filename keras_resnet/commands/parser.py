"""How arguments are read: examples in --help, and one line with a suggestion for a mistake."""

from __future__ import annotations

import argparse

from keras_resnet.nearest import suggest


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose `error` raises ``ValueError``, and which knows the nearest name.

    Options are not abbreviated: a new one would change what a script means. Python 3.14 suggests
    too, in other words.
    """

    def __init__(self, *arguments, **options):
        options = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter} | options
        super().__init__(*arguments, **options)

    def error(self, message):
        """Raise the mistake as one line with the remedy."""
        message = message.removeprefix("argument ")
        raise ValueError(
            message if message.endswith("?") else f"{message.rstrip('.')}. See {self.prog} --help."
        )

    def parse_known_args(self, args=None, namespace=None):
        """As argparse does, but what is left over is an error here, where its neighbours are known."""
        known, extra = super().parse_known_args(args, namespace)
        if extra:
            options = [name for name in self._option_string_actions if name.startswith("--")]
            name = extra[0].partition("=")[0]
            what = "option" if name.startswith("-") else "argument"
            raise ValueError(
                f"there is no {what} {name!r}; {suggest(name, options, f'see {self.prog} --help.')}"
            )
        return known, extra

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            hint = suggest(value, names, f"choose one of {', '.join(names)}.")
            raise argparse.ArgumentError(action, f"there is no {value!r}; {hint}")


def make_parser(groups) -> Parser:
    """The parser of all commands.

    Args:
        groups: Modules with a function ``register(command)``, in the order of --help. It calls
            ``command(name, run, summary, *examples)`` for each command, which returns the parser of
            its arguments; ``run(options)`` returns the exit status, or None for 0. An example is
            what follows ``keras-resnet``.
    """
    debug = argparse.ArgumentParser(add_help=False)
    # Without a default of its own, or what stands before the command would be forgotten.
    debug.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show tracebacks and TensorFlow's notes",
    )
    parser = Parser(
        "keras-resnet",
        description="The ResNet model zoo for Keras 3.",
        epilog=_examples(["list 'resnext*'", "train", "doctor"]),
        parents=[debug],
    )
    parser.set_defaults(debug=False, json=False, needs_tensorflow=True, parser=parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def command(name, run, summary, *examples):
        added = commands.add_parser(
            name, help=summary, description=summary, epilog=_examples(examples), parents=[debug]
        )
        added.set_defaults(run=run, command=name)
        return added

    for group in groups:
        group.register(command)
    return parser


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands, by name."""
    kinds = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next(kinds).choices


def _examples(examples):
    return (
        "\n".join(["examples:", *(f"  keras-resnet {example}" for example in examples)]) if examples else None
    )
