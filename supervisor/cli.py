"""The command line: `tritonpy-supervisor <command> [options]`.

Only what parsing needs is imported here; the server and its libraries follow when the command line
has been found good, so that a typing mistake is answered at once.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .. import __version__
from ..ipc.errors import InvalidArgumentError, StatusError
from . import python_settings
from .option_kinds import Value
from .options import OPTIONS, SECTIONS, Option, default_text
from .settings import Settings, check

_PROGRAM = "tritonpy-supervisor"
#: Triton's switch that leaves messages of the log unquoted when it is 0.
_ESCAPE_VARIABLE = "TRITON_SERVER_ESCAPE_LOG_MESSAGES"
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


COMMANDS: dict[str, Command] = {
    "serve": Command("serve the models of one or more repositories", serve),
}


def parse(arguments: Iterable[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Build the settings of a server from the arguments of `serve`.

    Raises InvalidArgumentError with the sentence to print when an option is unknown, lacks its
    value, has a wrong one, or contradicts another.
    """
    given = _read(list(arguments))
    names = {option.name for option, _ in given}
    if {"response-cache-byte-size", "cache-config"} <= names:
        raise InvalidArgumentError(
            "Incompatible flags --response-cache-byte-size and --cache-config both provided. "
            "Please provide one or the other."
        )
    values: dict[str, Any] = {"notices": _notices(option for option, _ in given)}
    for option, value in given:
        if option.field:
            _assign(values, option, value)
    if "disable-auto-complete-config" in names:  # wins over the deprecated --strict-model-config
        values["models"]["strict_config"] = True
    if "address" in values.get("http", {}):
        values.setdefault("metrics", {}).setdefault("address", values["http"]["address"])
    if environment.get(_ESCAPE_VARIABLE) == "0":
        values.setdefault("log", {})["escape"] = False
    python = values.get("workers", {}).get("backend_config", {}).get("python", {})
    values["notices"] += tuple(python_settings.unknown(python))
    settings = msgspec.convert(values, Settings)
    python_settings.start_timeout("python", python, settings.workers.start_timeout_secs)
    check(settings)
    return settings


def _read(arguments: list[str]) -> list[tuple[Option, Value]]:
    """Take the arguments apart: `--name=value`, `--name value`, or `--name` of a bare flag."""
    given: list[tuple[Option, Value]] = []
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        at += 1
        if not argument.startswith("-") or argument in ("-", "--"):
            raise InvalidArgumentError(
                f"unexpected argument '{argument}': every option begins with -- "
                "and is followed by its value, if it takes one"
            )
        flag, equals, text = argument.partition("=")
        option = OPTIONS.get(flag[2:]) if flag.startswith("--") else None
        if option is None:
            raise InvalidArgumentError(_unknown_option(flag))
        if not option.kind.metavar:
            if equals:
                raise InvalidArgumentError(f"{flag} takes no value, but was given '{text}'")
        elif not equals:
            if at == len(arguments) or arguments[at].startswith("--"):
                raise InvalidArgumentError(f"{flag} needs a value: {_synopsis(option)}")
            text = arguments[at]
            at += 1
        try:
            given.append((option, option.kind.parse(text)))
        except ValueError as expected:
            raise InvalidArgumentError(
                f"invalid value '{text}' for {flag}: expected {expected}"
            ) from None
    return given


def _assign(values: dict[str, Any], option: Option, value: Value) -> None:
    *parents, name = option.field.split(".")
    target = values
    for parent in parents:
        target = target.setdefault(parent, {})
    if isinstance(value, tuple):
        owner, key, text = value
        target.setdefault(name, {}).setdefault(owner, {})[key] = text
    elif option.many:
        listed = target.setdefault(name, [])
        if value not in listed:
            listed.append(value)
    else:
        target[name] = value


def _notices(options: Iterable[Option]) -> tuple[str, ...]:
    notices: dict[str, None] = {}  # an ordered set: an option that is repeated is noticed once
    for option in options:
        if option.instead:
            notices[f"--{option.name} is deprecated: use {option.instead} instead"] = None
        if not option.field:
            notices[f"--{option.name} is accepted but has no effect yet"] = None
    return tuple(notices)


def _refuse(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 1


def _nearest(word: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches  # only a mistake pays for it

    found = get_close_matches(word.lower().replace("_", "-"), list(known), n=1)
    return found[0] if found else None


def _unknown_option(flag: str) -> str:
    nearest = _nearest(flag.lstrip("-"), OPTIONS)
    if nearest is None:
        return f"unknown option {flag}: '{_PROGRAM} serve --help' lists them all"
    return f"unknown option {flag}: did you mean --{nearest}?"


def _unknown_command(word: str) -> str:
    if word.startswith("-"):
        return f"a command is missing before {word}: did you mean '{_PROGRAM} serve {word} ...'?"
    nearest = _nearest(word, COMMANDS)
    if nearest is None:
        return f"unknown command '{word}': '{_PROGRAM} --help' lists them all"
    return f"unknown command '{word}': did you mean '{nearest}'?"


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
            lines.append(f"  {_synopsis(option)}{'' if option.field else ' *'}")
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


def _synopsis(option: Option) -> str:
    metavar = option.kind.metavar
    if not metavar:
        return f"--{option.name}"
    return f"--{option.name}={metavar if '<' in metavar else f'<{metavar}>'}"
