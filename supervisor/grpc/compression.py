"""Compression of messages: gzip, and deflate, which is zlib's form of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from ..settings import CompressionLevel
from .messages import MOST_BYTES, MessageFailed
from .status import Status

Encoding = Literal["gzip", "deflate"]

#: In gRPC's order of how much they compress.
ENCODINGS: Final[tuple[Encoding, ...]] = ("gzip", "deflate")

#: What says which of them this server knows.
ACCEPTED: Final = "identity, deflate, gzip"

#: Up to this size (de)compressing is done in place; more would keep everybody else waiting.
INLINE_BYTES: Final = 256 * 1024

_WINDOW_BITS: Final = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


def choose(level: CompressionLevel, accepted: Iterable[str]) -> Encoding | None:
    """What answers are compressed with, as gRPC's core chooses; None where the client cannot."""
    known: list[Encoding] = [encoding for encoding in ENCODINGS if encoding in accepted]
    if level == "none" or not known:
        return None
    position = {"low": 0, "medium": len(known) // 2, "high": len(known) - 1}
    return known[position[level]]


def decompress(data: bytes | memoryview, encoding: Encoding) -> bytes:
    """Decompress a message of any size. Raises MessageFailed for what is none, or too large."""
    found = decompress_some(data, encoding, MOST_BYTES)
    if found is None:
        raise MessageFailed(
            Status.RESOURCE_EXHAUSTED, f"Received message larger than max ({MOST_BYTES})"
        )
    return found


def decompress_some(data: bytes | memoryview, encoding: Encoding, most: int) -> bytes | None:
    """Decompress a message of up to so many bytes; None for one that is larger.

    Raises MessageFailed for what is no compressed message.
    """
    decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        found = decompressor.decompress(data, most + 1)
    except zlib.error:
        raise _undecodable() from None
    if len(found) > most:
        return None
    if not decompressor.eof:
        raise _undecodable()
    return found


def compress(parts: Sequence[bytes | memoryview], encoding: Encoding) -> bytes:
    """Compress a message that is in parts."""
    compressor = zlib.compressobj(wbits=_WINDOW_BITS[encoding])
    compressed = [compressor.compress(part) for part in parts]
    return b"".join((*compressed, compressor.flush()))


def _undecodable() -> MessageFailed:
    return MessageFailed(Status.INTERNAL, "Decompression failed due to data error")
