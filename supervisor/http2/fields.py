"""The fields of a request: which of them may be there, and in what form (RFC 9113 §8)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .errors import ErrorCode, StreamFailed

#: Names and values in the order in which they came.
Fields = list[tuple[bytes, bytes]]

#: Upper case, blanks, controls, and what is not ASCII (§8.2.1); a colon only begins pseudo-fields.
_NAME: Final = re.compile(rb"[!-9;-@\[-~]+").fullmatch
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]|^[ \t]|[ \t]$").search

#: They speak about a connection of HTTP/1.1, and have no meaning here (§8.2.2).
_OF_CONNECTIONS: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
#: What each request has once, and what it may have (§8.3.1).
_NEEDED: Final = frozenset({b":method", b":scheme", b":path"})
_PSEUDO: Final = _NEEDED | {b":authority"}

_OVERHEAD_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class RequestFields:
    """What a request says before its content. `length` is that of the content where it is told."""

    method: bytes
    path: bytes
    authority: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    length: int | None


def size(fields: Fields) -> int:
    """The size of a list of fields as limits count it (§6.5.2)."""
    return sum(len(name) + len(value) + _OVERHEAD_BYTES for name, value in fields)


def request(fields: Fields) -> RequestFields:
    """What the fields say. Raises StreamFailed when the request is malformed (§8.1.1)."""
    pseudo: dict[bytes, bytes] = {}
    regular: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if name[:1] == b":":
            if regular:
                raise _malformed("a pseudo-field after the others")
            if name not in _PSEUDO or name in pseudo:
                raise _malformed("a pseudo-field that is unknown, or is there twice")
            if _BAD_VALUE(value) is not None:
                raise _malformed("a pseudo-field with a value that is not allowed")
            pseudo[name] = value
        else:
            _check(name, value)
            regular.append((name, value))
    if not _NEEDED.issubset(pseudo) or not pseudo[b":path"]:
        raise _malformed("no method, scheme or path")
    return RequestFields(
        pseudo[b":method"],
        pseudo[b":path"],
        pseudo.get(b":authority", b""),
        tuple(regular),
        _length(regular),
    )


def check_trailers(fields: Fields) -> None:
    """Raises StreamFailed when these fields may not stand behind the content (§8.1)."""
    for name, value in fields:
        if name[:1] == b":":
            raise _malformed("a pseudo-field behind the content")
        _check(name, value)


def _check(name: bytes, value: bytes) -> None:
    if _NAME(name) is None:
        raise _malformed("a field with a name that is not allowed")
    if _BAD_VALUE(value) is not None:
        raise _malformed("a field with a value that is not allowed")
    if name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
        raise _malformed("a field that speaks about the connection")


def _length(fields: list[tuple[bytes, bytes]]) -> int | None:
    lengths = {value for name, value in fields if name == b"content-length"}
    if not lengths:
        return None
    (length, *others) = lengths
    if others or not length.isdigit() or len(length) > 18:
        raise _malformed("a content-length that is no number, or several")
    return int(length)


def _malformed(text: str) -> StreamFailed:
    return StreamFailed(ErrorCode.PROTOCOL_ERROR, text)
