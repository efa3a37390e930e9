"""Pure: the head of a plain HTTP/1.1 request: how long the request is, and whether it is an
inference that may be answered on the lean path.

Only a strict part of HTTP's grammar (RFC 9112) is read here, the part that clients write. In it
there is no doubt where a request ends, so that whoever else reads the same bytes sees the same
requests. What is not in it is no mistake; it is somebody else's to read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .compression import accepted_encoding

#: A head that is longer is not looked at.
MOST_BYTES = 8190

_BEGINNING = re.compile(rb"[A-Z]{1,20}(?: [\r\n\t -~\x80-\xff]*)?")
_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t -~\x80-\xff]*)")
_DIGITS = re.compile(rb"[0-9]{1,15}")
#: Names that are quoted, and versions that are labels, are looked up by the routes.
_INFER = re.compile(rb"/v2/models/([A-Za-z0-9_][A-Za-z0-9_.~-]*)(?:/versions/([0-9]{1,18}))?/infer")

#: With one of these, where the request ends is not for us to say.
_UNUSUAL = frozenset({b"transfer-encoding", b"upgrade", b"http2-settings", b"trailer"})

#: With this a request is not answered on the lean path.
_NOT_LEAN = b"content-encoding"


class Inference(NamedTuple):
    """An inference: whom it is for, and how its body is parted.

    `document` is the length of the JSON document, None where that is the whole body. `headers`
    are as they were received. `waits` is whether the client waits to be asked for the body.
    """

    model: str
    version: int | None
    document: int | None
    headers: tuple[tuple[bytes, bytes], ...]
    waits: bool = False


class Head(NamedTuple):
    """A head that was understood: the length of its body, and the inference if it is a lean one."""

    length: int
    inference: Inference | None


def may_begin(data: bytes) -> bool:
    """Whether bytes that end before their head does may still become a plain request."""
    return len(data) <= MOST_BYTES and _BEGINNING.fullmatch(data) is not None


def parse(head: bytes) -> Head | None:
    """Read a head, with the empty line that ends it; None for one that is not of the plain ones."""
    first, *lines = head[:-4].split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None or line[1] == b"CONNECT":
        return None
    headers: list[tuple[bytes, bytes]] = []
    known: dict[bytes, bytes] = {}
    for text in lines:
        field = _FIELD.fullmatch(text)
        if field is None:
            return None
        name, value = field[1], field[2].rstrip(b"\t ")
        headers.append((name, value))
        name = name.lower()
        if name in _UNUSUAL or (name in known and name in _ONCE):
            return None
        known[name] = value
    if not _DIGITS.fullmatch(known.get(b"content-length", b"0")):
        return None
    length = int(known.get(b"content-length", b"0"))
    if known.get(b"connection", b"keep-alive").lower() not in (b"keep-alive", b"close"):
        return None
    return Head(length, _inference(line, tuple(headers), known, length))


_LENGTH = b"inference-header-content-length"
_ONCE = frozenset({b"content-length", b"connection", b"host", b"accept-encoding", _LENGTH})


def _inference(
    line: re.Match[bytes],
    headers: tuple[tuple[bytes, bytes], ...],
    known: dict[bytes, bytes],
    length: int,
) -> Inference | None:
    target = _INFER.fullmatch(line[2])
    if target is None or line[1] != b"POST" or line[3] != b"1" or _NOT_LEAN in known:
        return None
    expected = known.get(b"expect")
    if expected is not None and expected.lower() != b"100-continue":
        return None
    if b"content-length" not in known or known.get(b"connection", b"").lower() == b"close":
        return None
    accepted = known.get(b"accept-encoding")
    if accepted is not None and accepted_encoding(accepted.decode("latin-1")) != "identity":
        return None
    document: int | None = None
    if _LENGTH in known:
        if not _DIGITS.fullmatch(known[_LENGTH]):
            return None
        document = int(known[_LENGTH])
        if document > length:
            return None
    version = int(target[2]) if target[2] else None
    return Inference(target[1].decode(), version, document, headers, expected is not None)
