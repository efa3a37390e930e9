"""The command line: `tritonpy-supervisor <command> [options]`.

Only what parsing needs is imported here; the server and its libraries follow when the command line
has been found good, so that a typing mistake is answered at once.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import __version__
from ..ipc.errors import StatusError
from .command_line import nearest, parse, synopsis
from .options import SECTIONS, Option, default_text

_PROGRAM = "tritonpy-supervisor"
_HELP = ("--help", "-h")


@dataclass(frozen=True, slots=True)
class Command:
    """A command: what it does, in one line, and the function that does it."""

    help: str
    run: Callable[[Sequence[str]], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit status of the process."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print(_overview(), file=sys.stderr)
        return 1
    first, rest = arguments[0], arguments[1:]
    if first in _HELP:
        print(_overview())
        return 0
    if first == "--version":
        print(f"{_PROGRAM} {__version__}")
        return 0
    command = COMMANDS.get(first)
    if command is None:
        return _refuse(_unknown_command(first))
    return command.run(rest)


def serve(arguments: Sequence[str]) -> int:
    """Serve models until a signal ends the server."""
    if any(argument in _HELP for argument in arguments):
        print(usage(shutil.get_terminal_size().columns))
        return 0
    try:
        settings = parse(arguments)
    except StatusError as error:
        return _refuse(error.message)
    from .server import run

    return run(settings)


def check(arguments: Sequence[str]) -> int:
    """Tell what serving a repository would refuse."""
    from .check.command import run

    return run(arguments)


def run_model(arguments: Sequence[str]) -> int:
    """Serve one model whose worker is this process."""
    from .development.command import run

    return run(arguments)


COMMANDS: dict[str, Command] = {
    "serve": Command("serve the models of one or more repositories", serve),
    "check": Command("tell what serving a repository would refuse, without serving it", check),
    "run-model": Command("serve one model from this terminal, to develop and debug it", run_model),
}


def _refuse(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 1


def _unknown_command(word: str) -> str:
    if word.startswith("-"):
        return f"a command is missing before {word}: did you mean '{_PROGRAM} serve {word} ...'?"
    near = nearest(word, COMMANDS)
    if near is None:
        return f"unknown command '{word}': '{_PROGRAM} --help' lists them all"
    return f"unknown command '{word}': did you mean '{near}'?"


def _overview() -> str:
    """The help of the program itself."""
    lines = [f"usage: {_PROGRAM} <command> [options]", "", "commands:"]
    lines += [f"  {name:<10} {command.help}" for name, command in COMMANDS.items()]
    lines += ["", f"'{_PROGRAM} <command> --help' shows a command's options."]
    lines += [f"'{_PROGRAM} --version' shows the version."]
    return "\n".join(lines)


def usage(width: int = 80) -> str:
    """The help of `serve`, wrapped for a terminal of this width."""
    lines = [
        f"usage: {_PROGRAM} serve --model-repository=<folder> [options]",
        "",
        "An option is written --name=value or --name value. Booleans are true, on or 1, and false,",
        "off or 0. An option marked with an asterisk is accepted but has no effect yet.",
    ]
    for title, options in SECTIONS.items():
        lines += ["", f"{title}:"]
        for option in options:
            lines.append(f"  {synopsis(option)}{'' if option.field else ' *'}")
            lines += textwrap.wrap(
                describe(option),
                max(width - 2, 40),
                initial_indent=" " * 8,
                subsequent_indent=" " * 8,
            )
    lines += ["", "  --help", "        Show this and exit."]
    return "\n".join(lines)


def describe(option: Option) -> str:
    """What an option does, with all that the table knows about it."""
    text = option.help
    if option.many:
        text += " May be repeated."
    if option.instead:
        text += f" Deprecated: use {option.instead}."
    default = default_text(option)
    return f"{text} Default: {default}." if default else text
