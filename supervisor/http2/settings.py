"""What both sides tell each other in SETTINGS (RFC 9113 §6.5.2)."""

from __future__ import annotations

from typing import Final

from .errors import ConnectionFailed, ErrorCode
from .frames import MOST

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

#: What holds until somebody says otherwise.
DEFAULT_TABLE_BYTES: Final = 4096
DEFAULT_WINDOW_BYTES: Final = 65_535
DEFAULT_FRAME_BYTES: Final = 16_384

_LARGEST_FRAME_BYTES: Final = 2**24 - 1
_SETTING_BYTES: Final = 6


def parse(payload: bytes) -> list[tuple[int, int]]:
    """The settings in a payload, in their order; those that nobody knows among them.

    Raises ConnectionFailed for values that cannot be.
    """
    if len(payload) % _SETTING_BYTES:
        raise ConnectionFailed(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
    found: list[tuple[int, int]] = []
    for at in range(0, len(payload), _SETTING_BYTES):
        name = int.from_bytes(payload[at : at + 2], "big")
        value = int.from_bytes(payload[at + 2 : at + 6], "big")
        _check(name, value)
        found.append((name, value))
    return found


def _check(name: int, value: int) -> None:
    if name == ENABLE_PUSH and value > 1:
        raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
    if name == INITIAL_WINDOW_SIZE and value > MOST:
        raise ConnectionFailed(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
    if name == MAX_FRAME_SIZE and not DEFAULT_FRAME_BYTES <= value <= _LARGEST_FRAME_BYTES:
        raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
