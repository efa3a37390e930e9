"""Read JSON as Triton's parser does, for documents that the fast readers refuse.

It accepts what that parser accepts beyond the standard (NaN, Inf, Infinity), and where it refuses a
document it gives the parser's reason and the byte at which that gave up. Beyond that it tells line
and column. It is slow and meant to be: what reaches it is wrong, or rare.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ...ipc.errors import InternalError
from .json_tensor import MAX_NESTING, too_deep

_BLANKS = re.compile(r"[ \t\n\r]*")
_DIGITS = re.compile(r"[0-9]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = re.compile(r"[0-9A-Fa-f]{4}")
_LITERALS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}
_CONSTANTS = (("NaN", math.nan), ("Infinity", math.inf), ("Inf", math.inf))
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SURROGATES = range(0xD800, 0xE000)
_LOW_SURROGATES = range(0xDC00, 0xE000)

#: Escapes that are no character by themselves; the standard library lets single ones pass.
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def read(text: str) -> Any:
    """The value of a document; bytes of it that are no UTF-8 are surrogates (surrogateescape).

    Raises InternalError with the place of the first mistake, InvalidArgumentError when it nests too
    deep.
    """
    return _Reader(text).document()


class _Reader:
    """Goes once through a text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def document(self) -> Any:
        """The one value that the text should be."""
        self._skip_blanks()
        if self._at == len(self._text):
            raise self._mistake("The document is empty.")
        value = self._value(0)
        self._skip_blanks()
        if self._at < len(self._text):
            raise self._mistake("The document root must not be followed by other values.")
        return value

    def _value(self, depth: int) -> Any:
        if depth > MAX_NESTING:
            raise too_deep()
        first = self._peek()
        if first == "{":
            return self._object(depth)
        if first == "[":
            return self._array(depth)
        if first == '"':
            return self._string()
        if first in _LITERALS:
            return self._literal(*_LITERALS[first])
        return self._number()

    def _object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self._at += 1
        self._skip_blanks()
        if self._take("}"):
            return members
        while True:
            if self._peek() != '"':
                raise self._mistake("Missing a name for object member.")
            name = self._string()
            self._skip_blanks()
            if not self._take(":"):
                raise self._mistake("Missing a colon after a name of object member.")
            self._skip_blanks()
            members[name] = self._value(depth + 1)
            self._skip_blanks()
            if self._take("}"):
                return members
            if not self._take(","):
                raise self._mistake("Missing a comma or '}' after an object member.")
            self._skip_blanks()

    def _array(self, depth: int) -> list[Any]:
        elements: list[Any] = []
        self._at += 1
        self._skip_blanks()
        if self._take("]"):
            return elements
        while True:
            elements.append(self._value(depth + 1))
            self._skip_blanks()
            if self._take("]"):
                return elements
            if not self._take(","):
                raise self._mistake("Missing a comma or ']' after an array element.")
            self._skip_blanks()

    def _literal(self, word: str, value: bool | None) -> bool | None:
        for character in word:
            if not self._take(character):
                raise self._mistake("Invalid value.")
        return value

    def _string(self) -> str:
        parts: list[str] = []
        self._at += 1
        while True:
            parts.append(self._match(_PLAIN))
            character = self._peek()
            if character == '"':
                self._at += 1
                return "".join(parts)
            if character == "\\":
                parts.append(self._escape())
            elif character:
                raise self._mistake("Invalid escape character in string.")
            else:
                raise self._mistake("Missing a closing quotation mark in string.")

    def _escape(self) -> str:
        begin = self._at
        kind = self._text[begin + 1 : begin + 2]
        self._at += 2
        if kind in _ESCAPES:
            return _ESCAPES[kind]
        if kind != "u":
            raise self._mistake("Invalid escape character in string.", begin)
        code = self._hex(begin)
        if code not in _SURROGATES:
            return chr(code)
        if code not in _LOW_SURROGATES and self._text.startswith("\\u", self._at):
            self._at += 2
            low = self._hex(begin)
            if low in _LOW_SURROGATES:
                return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
        raise self._mistake("The surrogate pair in string is invalid.", begin)

    def _hex(self, begin: int) -> int:
        digits = self._match(_HEX) if _HEX.match(self._text, self._at) else ""
        if not digits:
            raise self._mistake("Incorrect hex digit after \\u escape in string.", begin)
        return int(digits, 16)

    def _number(self) -> int | float:
        begin = self._at
        negative = self._take("-")
        if not self._take("0") and not self._match(_DIGITS):
            return self._constant(negative)
        whole = True
        if self._take("."):
            whole = False
            if not self._match(_DIGITS):
                raise self._mistake("Miss fraction part in number.")
        if self._take("e") or self._take("E"):
            whole = False
            if not self._take("+"):
                self._take("-")
            if not self._match(_DIGITS):
                raise self._mistake("Miss exponent in number.")
        digits = self._text[begin : self._at]
        value = float(digits)
        if math.isinf(value):
            raise self._mistake("Number too big to be stored in double.", begin)
        return int(digits) if whole else value

    def _constant(self, negative: bool) -> float:
        for word, value in _CONSTANTS:
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return -value if negative else value
        raise self._mistake("Invalid value.")

    # --- the text ---------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, character: str) -> bool:
        found = self._text.startswith(character, self._at)
        if found:
            self._at += len(character)
        return found

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return found[0]

    def _skip_blanks(self) -> None:
        self._match(_BLANKS)

    def _mistake(self, reason: str, at: int | None = None) -> InternalError:
        read = self._text[: self._at if at is None else at]
        position = len(read.encode("utf-8", "surrogateescape"))
        line = read.count("\n") + 1
        column = len(read) - read.rfind("\n")
        return InternalError(
            f"failed to parse the request JSON buffer: {reason} at {position} "
            f"(line {line}, column {column})"
        )
