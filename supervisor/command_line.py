"""The arguments of a command: taken apart, and made into the settings of a server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ..ipc.errors import InvalidArgumentError
from . import python_settings
from .option_kinds import Value
from .options import OPTIONS, Option
from .settings import Settings, check

#: Triton's switch that leaves messages of the log unquoted when it is 0.
_ESCAPE_VARIABLE = "TRITON_SERVER_ESCAPE_LOG_MESSAGES"


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
                raise InvalidArgumentError(f"{flag} needs a value: {synopsis(option)}")
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


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The word that was probably meant; None when none is near."""
    from difflib import get_close_matches  # only a mistake pays for it

    found = get_close_matches(word.lower().replace("_", "-"), list(known), n=1)
    return found[0] if found else None


def _unknown_option(flag: str) -> str:
    near = nearest(flag.lstrip("-"), OPTIONS)
    if near is None:
        return f"unknown option {flag}: 'tritonpy-supervisor serve --help' lists them all"
    return f"unknown option {flag}: did you mean --{near}?"


def synopsis(option: Option) -> str:
    """How an option is written."""
    metavar = option.kind.metavar
    if not metavar:
        return f"--{option.name}"
    return f"--{option.name}={metavar if '<' in metavar else f'<{metavar}>'}"
