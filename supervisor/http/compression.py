"""Compressed bodies, both ways: gzip and deflate, off the event loop when they are large."""

from __future__ import annotations

import asyncio
import zlib
from typing import Protocol

from ...ipc.errors import InvalidArgumentError, UnsupportedError

#: Work on more bytes than this leaves the event loop for a thread.
THREAD_LIMIT_BYTES = 256 * 1024


class _Unpacker(Protocol):
    """zlib's decompression object, whose class has no public name."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class UnsupportedEncodingError(UnsupportedError):
    """Raised when a body has a Content-Encoding that the server cannot undo."""


def check_encoding(encoding: str) -> bool:
    """Whether the body must be decompressed. Raises UnsupportedEncodingError if it cannot be."""
    if encoding in ("", "identity"):
        return False
    if encoding not in ("gzip", "deflate"):
        raise UnsupportedEncodingError("Unsupported compression type")
    return True


async def decompress(body: bytes, limit: int) -> bytes:
    """Undo gzip or deflate. Raises InvalidArgumentError above `limit` bytes and for broken data.

    The data itself says which of the two it is, as in Triton, whatever the header claims.
    """
    if not body:
        raise InvalidArgumentError("nothing to be decompressed")
    unpacker = zlib.decompressobj(wbits=15 | 32)
    plain = b""
    if len(body) <= THREAD_LIMIT_BYTES:  # which may yet unfold into a thousand times as much
        plain = _unpack(unpacker, b"", body, min(THREAD_LIMIT_BYTES, limit + 1))
        body = unpacker.unconsumed_tail
    if not unpacker.eof and len(plain) <= limit:
        loop = asyncio.get_running_loop()
        plain = await loop.run_in_executor(None, _unpack, unpacker, plain, body, limit + 1)
    if len(plain) > limit:
        raise InvalidArgumentError(
            f"Decompressed data size exceeds the maximum allowed value of {limit} bytes. "
            "Use --http-max-input-size to increase the limit."
        )
    if not unpacker.eof:
        raise InvalidArgumentError("the compressed data of the request body are cut off")
    return plain


def _unpack(unpacker: _Unpacker, done: bytes, data: bytes, most: int) -> bytes:
    try:
        return done + unpacker.decompress(data, most - len(done))
    except zlib.error as error:
        raise InvalidArgumentError(f"the request body cannot be decompressed: {error}") from None


def accepted_encoding(header: str) -> str:
    """The best of gzip, deflate and identity by the client's weights; the first among equals."""
    best, best_weight = "identity", 0.0
    for item in header.split(","):
        name, _, parameter = item.strip().partition(";")
        weight = 1.0
        parameter = parameter.strip()
        if parameter.startswith("q="):
            try:
                weight = float(parameter[2:])
            except ValueError:
                continue
        name = name.strip()
        if name in ("gzip", "deflate", "identity") and weight > best_weight:
            best, best_weight = name, weight
    return best


async def compress(parts: list[bytes | memoryview], encoding: str) -> bytes:
    """Compress the parts of an answer, one after the other, as gzip or deflate."""
    if sum(map(len, parts)) <= THREAD_LIMIT_BYTES:
        return _pack(parts, encoding)
    return await asyncio.get_running_loop().run_in_executor(None, _pack, parts, encoding)


def _pack(parts: list[bytes | memoryview], encoding: str) -> bytes:
    # Level 1: on tensors the higher ones take many times as long and gain next to nothing.
    packer = zlib.compressobj(1, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    packed = [packer.compress(part) for part in parts]
    packed.append(packer.flush())
    return b"".join(packed)
