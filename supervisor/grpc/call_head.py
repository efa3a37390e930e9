"""What a call says before its messages: gRPC's reading of the fields of an HTTP/2 request."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ..http2 import fields
from ..http2.errors import ErrorCode, StreamFailed
from .compression import ENCODINGS, Encoding
from .messages import MessageFailed
from .status import Status

MethodT = TypeVar("MethodT")

Metadata = tuple[tuple[str, str | bytes], ...]

#: Seconds in each unit of grpc-timeout.
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])").fullmatch

#: Fields of the transport; all others are metadata, apart from those that begin with "grpc-".
_TRANSPORT: Final = frozenset({b"te", b"content-type", b"accept-encoding", b"content-length"})
_RESERVED: Final = b"grpc-"


@dataclass(frozen=True, slots=True)
class CallHead(Generic[MethodT]):
    """One call before its messages. Calls that say the same share it.

    `method` is None for one that there is not. `timeout` is in seconds. `failure` is what the call
    ends with at once, `http_status` is another than 200 for what is no gRPC. `length` is that of
    the content where it was told.
    """

    method: MethodT | None
    metadata: Metadata
    timeout: float | None
    encoding: Encoding | None
    accepted: frozenset[str]
    failure: MessageFailed | None
    http_status: int
    length: int | None


def read(received: fields.Fields, methods: dict[str, MethodT]) -> CallHead[MethodT]:
    """What the fields say. Raises StreamFailed for a request that is malformed."""
    request = fields.request(received)
    if request.method != b"POST":
        raise StreamFailed(ErrorCode.PROTOCOL_ERROR, "a call is a POST")
    known = dict(request.fields)
    failure: MessageFailed | None = None
    timeout: float | None = None
    encoding: Encoding | None = None
    metadata: Metadata = ()
    try:
        timeout = _timeout(known.get(b"grpc-timeout"))
        encoding = _encoding(known.get(b"grpc-encoding", b"identity"))
        metadata = tuple(
            (name.decode("ascii"), _value(name, value))
            for name, value in request.fields
            if name not in _TRANSPORT and not name.startswith(_RESERVED)
        )
    except MessageFailed as error:
        failure = error
    content_type = known.get(b"content-type", b"application/grpc").lower()
    accepted = known.get(b"grpc-accept-encoding", b"").decode("latin-1").split(",")
    return CallHead(
        methods.get(request.path.decode("latin-1")),
        metadata,
        timeout,
        encoding,
        frozenset(name.strip() for name in accepted),
        failure,
        200 if content_type.startswith(b"application/grpc") else 415,
        request.length,
    )


def _timeout(value: bytes | None) -> float | None:
    if value is None:
        return None
    found = _TIMEOUT(value.decode("latin-1"))
    if found is None:
        raise _unreadable("grpc-timeout")
    return int(found[1]) * _UNITS[found[2]]


def _encoding(value: bytes) -> Encoding | None:
    for encoding in ENCODINGS:
        if value == encoding.encode():
            return encoding
    if value != b"identity":
        raise _unreadable("grpc-encoding")
    return None


def _value(name: bytes, value: bytes) -> str | bytes:
    """A value as calls see it: binary where the name says so."""
    if not name.endswith(b"-bin"):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise _unreadable(name.decode("ascii")) from None


def _unreadable(name: str) -> MessageFailed:
    return MessageFailed(Status.INTERNAL, f"Error parsing '{name}' metadata")
