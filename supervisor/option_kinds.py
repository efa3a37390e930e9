"""The kinds of values that options take: how each is written, read and refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .forwarding import HeaderForwarding

Value = bool | int | float | str | tuple[str, str, str]

_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64 = 2**63
_TRUE = ("true", "on", "1")
_FALSE = ("false", "off", "0")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value.

    `metavar` is how help shows it, "" for an option that takes no value. `parse` turns the text
    into the value, or raises ValueError with what was expected, to follow the word "expected".
    """

    metavar: str
    parse: Callable[[str], Value]


def _boolean(text: str) -> bool:
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("true, on or 1, or false, off or 0")


def _nothing(text: str) -> bool:
    return True


def _text(text: str) -> str:
    return text


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("a text that is not empty")
    return text


def _name(text: str) -> str:
    if not text or any(character.isspace() for character in text):
        raise ValueError("a name that is not empty and holds no spaces")
    return text


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("a number") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("a number")
    return value


def _verbosity(text: str) -> int:
    word = text.lower()
    if word in ("true", "false"):
        return int(word == "true")
    try:
        return _in_range(text, 0, _INT64 - 1, "")
    except ValueError:
        raise ValueError("a level from 0, or true or false") from None


def _in_range(text: str, low: int, high: int, expected: str) -> int:
    if _INTEGER.fullmatch(text) is None or len(text) > 20 or not low <= int(text) <= high:
        raise ValueError(expected)
    return int(text)


def integer(low: int = -_INT64, high: int = _INT64 - 1, metavar: str = "integer") -> Kind:
    """A whole number within bounds."""
    expected = "an integer"
    if high < _INT64 - 1:
        expected += f" from {low} to {high}"
    elif low > -_INT64:
        expected += f" of at least {low}"
    return Kind(metavar, lambda text: _in_range(text, low, high, expected))


def choice(*words: str, any_case: bool = True) -> Kind:
    """One of some words; case does not matter unless said."""

    def parse(text: str) -> str:
        for word in words:
            if text == word or (any_case and text.lower() == word.lower()):
                return word
        raise ValueError(" or ".join([", ".join(words[:-1]), words[-1]]))

    return Kind("|".join(words), parse)


def shaped(metavar: str, pattern: str) -> Kind:
    """A text of several parts, kept as it is; `metavar` shows the form that `pattern` checks."""
    compiled = re.compile(pattern)

    def parse(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(f"the form {metavar}")
        return text

    return Kind(metavar, parse)


def _pattern(text: str) -> str:
    HeaderForwarding(text)
    return text


def spelled(name: str, kind: Kind) -> Kind:
    """The value of an old option as the setting `name` of a newer one."""
    return Kind(kind.metavar, lambda text: f"{name}={kind.parse(text)}")


def _setting(text: str) -> tuple[str, str, str]:
    left, equals, value = text.partition("=")
    owner, comma, key = left.partition(",")
    if not comma:
        owner, key = "", left
    if not equals or not key or not value or (comma and not owner):
        raise ValueError("the form <backend>,<setting>=<value> or <setting>=<value>")
    return owner, key, value


def _named_setting(text: str) -> tuple[str, str, str]:
    name, comma, rest = text.partition(",")
    key, equals, value = rest.partition("=")
    if not name or "=" in name or not comma or not key or not equals:
        raise ValueError("the form <name>,<setting>=<value>")
    return name, key, value


FLAG = Kind("", _nothing)
BOOLEAN = Kind("boolean", _boolean)
TEXT = Kind("string", _text)
REQUIRED_TEXT = Kind("string", _not_empty)
NAME = Kind("name", _name)
FILE = Kind("file", _text)
FOLDER = Kind("folder", _not_empty)
PATTERN = Kind("regex", _pattern)
NUMBER = Kind("number", _number)
VERBOSITY = Kind("level", _verbosity)
COUNT = integer(0)
POSITIVE = integer(1)
PORT = integer(0, 65535, "port")
MILLISECONDS = integer(0, 2**31 - 1, "ms")
#: (backend or "", setting, value)
SETTING = Kind("[<backend>,]<setting>=<value>", _setting)
#: (name, setting, value); the value may be empty
OWN_SETTING = Kind("<name>,<setting>=<value>", _named_setting)
CACHE_SIZE = Kind("integer", lambda text: ("local", "size", str(COUNT.parse(text))))
#: The texts below are checked for their form alone.
NAMED_SETTING = shaped("<name>,<setting>=<value>", r"[^,=]+,[^=]+=.+")
OWNED_SETTING = shaped("[<name>,]<setting>=<value>", r"([^,=]+,)?[^,=]+=.+")
RESTRICTION = shaped("<apis>:<key>=<value>", r"[^:]+:[^=]+=.+")
#: What a browser calls the origin of a page: no path, and no slash at the end.
ORIGIN = shaped("<scheme>://<host>[:<port>]", r"\*|[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#\s,]+")
PER_DEVICE_BYTES = shaped("<gpu>:<bytes>", r"[0-9]+:[0-9]+")
PER_DEVICE_FRACTION = shaped("<gpu>:<fraction>", r"[0-9]+:[0-9]*\.?[0-9]+")
RESOURCE = shaped("<name>:<count>[:<device>]", r"[^:]+:[0-9]+(:[0-9]+)?")
PORT_RANGE = shaped("<port>-<port>", r"[0-9]+-[0-9]+")
