"""Protobuf's wire form by hand, where going through a message would copy large tensors again.

A message that was parsed holds its own copy of every bytes field, and reading the field copies it
once more. Tensors are large, so they are cut out of, and put into, the encoded message directly.
"""

from __future__ import annotations

from collections.abc import Sequence

_VARINT = 0
_FIXED64 = 1
_LENGTH_DELIMITED = 2
_FIXED32 = 5


def cut_field(data: bytes | memoryview, number: int) -> tuple[bytes, list[memoryview]] | None:
    """Separate the entries of a bytes field at the top level of an encoded message.

    Returns the message without them, and them in order as views of `data`. None for what is
    malformed, or holds what proto3 never writes: a real parser should then see all of it.
    """
    view = memoryview(data)
    wanted = number << 3 | _LENGTH_DELIMITED
    end = len(data)
    entries: list[memoryview] = []
    rest: list[memoryview] = []
    at = kept = 0
    try:
        while at < end:
            start = at
            tag, at = _read_varint(data, at)
            kind = tag & 7
            if kind == _LENGTH_DELIMITED:
                size, at = _read_varint(data, at)
                if tag == wanted:
                    rest.append(view[kept:start])
                    entries.append(view[at : at + size])
                    kept = at + size
                at += size
            elif kind == _VARINT:
                _, at = _read_varint(data, at)
            elif kind == _FIXED64:
                at += 8
            elif kind == _FIXED32:
                at += 4
            else:
                return None
    except IndexError:  # a varint runs past the end
        return None
    if at != end:
        return None
    rest.append(view[kept:])
    return b"".join(rest), entries


def append_field(parts: list[bytes | memoryview], number: int, payload: memoryview) -> None:
    """Add an entry of a bytes field to the parts of an encoded message."""
    parts.append(varint(number << 3 | _LENGTH_DELIMITED) + varint(payload.nbytes))
    parts.append(payload)


def nested(number: int, parts: Sequence[bytes | memoryview]) -> bytes:
    """Encode a message that holds nothing but the message made of these parts in one field."""
    size = sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)
    return b"".join((varint(number << 3 | _LENGTH_DELIMITED), varint(size), *parts))


def varint(value: int) -> bytes:
    """Encode a number that is not negative."""
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
