"""The fields of answers, which are nearly always the same bytes."""

from __future__ import annotations

from typing import Final

from ..http2 import header_blocks
from .compression import ACCEPTED, ENCODINGS, Encoding
from .status import Status, shorten

_TYPE: Final = ("content-type", "application/grpc")
_ACCEPTED: Final = ("grpc-accept-encoding", ACCEPTED)

#: What answers begin with, by how their messages are compressed.
BEGINNING: Final[dict[Encoding | None, bytes]] = {
    None: header_blocks.block(200, (_TYPE, _ACCEPTED)),
    **{
        encoding: header_blocks.block(200, (_TYPE, ("grpc-encoding", encoding), _ACCEPTED))
        for encoding in ENCODINGS
    },
}

#: What those end with that have succeeded.
SUCCEEDED: Final = header_blocks.trailers((("grpc-status", "0"),))

#: The whole answer to what is no gRPC.
UNSUPPORTED_TYPE: Final = header_blocks.block(415, ())


def ending(status: Status, details: str) -> bytes:
    """What an answer ends with."""
    if not details:
        return header_blocks.trailers((("grpc-status", str(status.value)),))
    message = _encode(shorten(details))
    return header_blocks.trailers((("grpc-status", str(status.value)), ("grpc-message", message)))


def failed(status: Status, details: str) -> bytes:
    """The whole answer of a call that has failed before it said anything."""
    return header_blocks.block(200, (_TYPE,)) + ending(status, details)


def _encode(details: str) -> str:
    """Percent-encode a message: fields hold ASCII only."""
    if details.isascii() and details.isprintable() and "%" not in details:
        return details
    return "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}"
        for byte in details.encode(errors="replace")
    )
