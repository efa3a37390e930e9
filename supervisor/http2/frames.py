"""Frames: their heads, and the ones that a server sends (RFC 9113 §4.1 and §6)."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Final

from .errors import ConnectionFailed, ErrorCode

#: What a client says first (§3.4).
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HEAD_BYTES: Final = 9

# Kinds. Plain numbers: they are compared for each frame.
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

# Flags.
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

#: The highest number of a stream, and the highest of a window (§5.1.1, §6.9.1).
MOST: Final = 2**31 - 1

_HEAD: Final = Struct(">HBBBI")
_SETTING: Final = Struct(">HI")
_WORD: Final = Struct(">I")

#: The upper 16 and the lower 8 bits of the length, then kind, flags and stream of a frame.
unpack_head = _HEAD.unpack_from


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes before a payload of this length."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def word(payload: bytes, at: int = 0) -> int:
    """The 31 bits of a number whose first bit means nothing."""
    return int.from_bytes(payload[at : at + 4], "big") & MOST


def settings(values: Mapping[int, int]) -> bytes:
    """SETTINGS that tells the client these values (§6.5)."""
    payload = b"".join(_SETTING.pack(*item) for item in values.items())
    return head(len(payload), SETTINGS, 0, 0) + payload


def settings_acknowledged() -> bytes:
    """SETTINGS that says that the client's are in force (§6.5.3)."""
    return head(0, SETTINGS, ACK, 0)


def ping(payload: bytes, *, answer: bool = False) -> bytes:
    """PING with eight bytes, or the answer to one (§6.7)."""
    return head(8, PING, ACK if answer else 0, 0) + payload


def goaway(last: int, code: int, text: str = "") -> bytes:
    """GOAWAY: streams after `last` were not looked at (§6.8)."""
    payload = _WORD.pack(last) + _WORD.pack(code) + text.encode()
    return head(len(payload), GOAWAY, 0, 0) + payload


def reset(stream: int, code: int) -> bytes:
    """RST_STREAM (§6.4)."""
    return head(4, RST_STREAM, 0, stream) + _WORD.pack(code)


def window_update(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE: so many more bytes may come, on a stream or (0) on all of them (§6.9)."""
    return head(4, WINDOW_UPDATE, 0, stream) + _WORD.pack(increment)


def headers(stream: int, block: bytes, most: int, *, end: bool) -> bytes:
    """HEADERS with a field block, which CONTINUATION goes on with where it is large (§6.10).

    `most` is the largest payload that the client takes; `end` is whether the stream ends.
    """
    flags = END_STREAM if end else 0
    if len(block) <= most:
        return head(len(block), HEADERS, flags | END_HEADERS, stream) + block
    parts = [head(most, HEADERS, flags, stream), block[:most]]
    for at in range(most, len(block), most):
        piece = block[at : at + most]
        last = END_HEADERS if at + most >= len(block) else 0
        parts += (head(len(piece), CONTINUATION, last, stream), piece)
    return b"".join(parts)


def content(payload: bytes, flags: int, stream: int) -> tuple[int, int]:
    """Where the block in HEADERS begins and ends, between priority and padding (§6.2).

    Raises ConnectionFailed for padding that is longer than the frame, and for a stream that
    depends on itself: priorities mean nothing, and still may not be nonsense (RFC 7540 §5.3.1).
    """
    start, stop = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ConnectionFailed(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without a length")
        start, stop = 1, stop - payload[0]
    depends = start
    if flags & WITH_PRIORITY:
        start += 5
    if start > stop:
        raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "padding is longer than the frame")
    if flags & WITH_PRIORITY and word(payload, depends) == stream:
        raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
    return start, stop
