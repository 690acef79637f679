"""`completion`: scripts for shells, made of the parser."""

from __future__ import annotations

import shlex

from keras_resnet.commands.parser import subparsers
from keras_resnet.variants import VARIANTS

# A word that begins with a dash is an option, whatever stands before it. Where no name fits, or
# there is none, the shell completes files.
BASH = """\
_keras_resnet() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command= names= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in -*) ;; *) command="${COMP_WORDS[i]}"; break ;; esac
    done
    case "$word" in -*) before=- ;; esac
    case "$command $before" in
CASES
    esac
    COMPREPLY=($(compgen -W "$names" -- "$word"))
}
complete -o default -F _keras_resnet keras-resnet
"""
ZSH = "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"


def register(command):
    """Add the command."""
    parser = command(
        "completion",
        _completion,
        "Print a script by which a shell completes commands, options and names.",
        'completion bash   # in ~/.bashrc: eval "$(keras-resnet completion bash)"',
        'completion zsh    # in ~/.zshrc: eval "$(keras-resnet completion zsh)"',
        "completion fish > ~/.config/fish/completions/keras-resnet.fish",
    )
    parser.set_defaults(needs_tensorflow=False)
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def _completion(options):
    if options.shell == "fish":
        print("\n".join(_fish(options.parser)))
    else:
        cases = "\n".join(_cases(options.parser))
        print((ZSH if options.shell == "zsh" else "") + BASH.replace("CASES", cases), end="")


def _names(action) -> list[str]:
    """What can stand for an argument; nothing for a file."""
    if action.choices is not None:
        return list(map(str, action.choices))
    if action.metavar == "VARIANT":
        return list(VARIANTS)
    if action.metavar == "RECIPE":
        from keras_resnet.training.recipes import RECIPES

        return list(RECIPES)
    if action.metavar == "SOURCE":
        from keras_resnet.weights.records import get_record, list_records

        names = list_records()
        return [*dict.fromkeys(get_record(name).data for name in names), *names]
    return []


def _split(command):
    """The options of a parser, and the names that stand for its first argument which has any."""
    options = [action for action in command._actions if action.option_strings]
    others = (_names(action) for action in command._actions if not action.option_strings)
    return options, next(filter(None, others), [])


def _cases(parser):
    """The cases of BASH; for equal names one, because there are many variants."""
    whole: dict[str, list[str]] = {}
    rest: dict[str, list[str]] = {}
    for name, command in {"": parser, **subparsers(parser)}.items():
        options, names = _split(command)
        flags = " ".join(action.option_strings[-1] for action in options)
        whole.setdefault(flags, []).append(f'"{name} -"')
        for action in options:
            if action.nargs != 0:
                whole.setdefault(" ".join(_names(action)), []).append(f'"{name} {action.option_strings[-1]}"')
        rest.setdefault(" ".join(names), []).append(f'"{name} "*')
    for names, patterns in [*whole.items(), *rest.items()]:
        yield f"        {' | '.join(patterns)}) names={shlex.quote(names)} ;;"


def _fish(parser):
    """A line for each command, option and argument."""
    yield "complete -c keras-resnet -f -n __fish_use_subcommand -l debug"
    helps = {action.dest: action.help for action in parser._subparsers._group_actions[0]._choices_actions}
    for name, command in subparsers(parser).items():
        yield f"complete -c keras-resnet -f -n __fish_use_subcommand -a {name} -d {shlex.quote(helps[name])}"
        options, names = _split(command)
        given = f"complete -c keras-resnet -n '__fish_seen_subcommand_from {name}'"
        for action in options:
            takes = "" if action.nargs == 0 else " -r"
            if found := _names(action):
                takes = f" -x -a {shlex.quote(' '.join(found))}"
            yield f"{given} -l {action.option_strings[-1][2:]}{takes}"
        if names:
            yield f"{given} -f -a {shlex.quote(' '.join(names))}"
