"""Field blocks: HPACK (RFC 7541) in its cheapest form both ways.

A client that has sent a request once sends the same few bytes for the next one: indices into a
table that both sides keep. So what a block meant is remembered until that table changes. The
server's own blocks use no table at all, and are therefore constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from hpack import Decoder, HPACKError, OversizedHeaderListError

from .errors import ConnectionFailed, ErrorCode, StreamFailed
from .fields import Fields, size

HeadT = TypeVar("HeadT")

#: Blocks that are remembered for a connection; a client has few kinds of requests.
_MOST_BLOCKS: Final = 64

#: Lists up to so many times the limit are decoded: the table has to be kept, whatever they are.
_DECODED_TIMES: Final = 8

#: What each block begins with for whom the table was made smaller (RFC 7541 §4.2): it is empty.
NO_TABLE: Final = b"\x20"

#: The number of `:status: 200` in the static table, as an indexed field (RFC 7541 §6.1).
_STATUS_200: Final = b"\x88"
#: The number of `:status` itself, before a literal value that is not to be indexed (§6.2.2).
_STATUS: Final = b"\x08"


class BlockReader(Generic[HeadT]):
    """Reads the blocks of one connection, each into whatever `make` makes out of its fields.

    `make` must not keep what belongs to one request alone: the result is given again for the same
    block.
    """

    def __init__(self, make: Callable[[Fields], HeadT], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._decoder = Decoder(max_header_list_size=limit * _DECODED_TIMES)
        self._known: dict[bytes, HeadT] = {}

    def read(self, block: bytes) -> HeadT:
        """What a block says.

        Raises StreamFailed for a request that is malformed, ConnectionFailed for a block that
        cannot be decoded, after which no other can be either (RFC 9113 §4.3).
        """
        found = self._known.get(block)
        if found is not None:
            return found
        before = self._table()
        made = self._make(self.decode(block))
        if before == self._table():
            if len(self._known) >= _MOST_BLOCKS:
                self._known.clear()
            self._known[block] = made
        return made

    def decode(self, block: bytes) -> Fields:
        """The fields in a block; raises as `read` does."""
        before = self._table()
        try:
            fields: Fields = [
                (bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)
            ]
        except OversizedHeaderListError:
            raise ConnectionFailed(
                ErrorCode.ENHANCE_YOUR_CALM, "a list of fields is far too long"
            ) from None
        except HPACKError:
            raise ConnectionFailed(
                ErrorCode.COMPRESSION_ERROR, "a block of fields cannot be decoded"
            ) from None
        finally:
            if before != self._table():
                self._known.clear()
        if size(fields) > self._limit:  # RFC 9113 §10.5.1
            raise StreamFailed(ErrorCode.ENHANCE_YOUR_CALM, "a list of fields is too long")
        return fields

    def _table(self) -> tuple[_Entry | None, int]:
        """What is another than before whenever the table has changed: its newest entry, and how
        large it may be.
        """
        entries = self._decoder.header_table.dynamic_entries
        return _Entry(entries[0]) if entries else None, self._decoder.header_table_size


class _Entry:
    """An entry of the table, equal to itself only: the same field may be put there again."""

    __slots__ = ("_entry",)

    def __init__(self, entry: tuple[bytes, bytes]) -> None:
        self._entry = entry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Entry) and self._entry is other._entry

    __hash__ = None  # type: ignore[assignment]


def block(status: int, fields: Iterable[tuple[str, str]]) -> bytes:
    """The block at the beginning of an answer."""
    first = _STATUS_200 if status == 200 else _STATUS + _text(str(status))
    return first + trailers(fields)


def trailers(fields: Iterable[tuple[str, str]]) -> bytes:
    """The block at the end of an answer: literals with new names (RFC 7541 §6.2.2)."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(value: str) -> bytes:
    """A string as it is (RFC 7541 §5.2)."""
    encoded = value.encode("latin-1")
    length = len(encoded)
    if length < 0x7F:
        return bytes((length,)) + encoded
    prefix = bytearray((0x7F,))
    length -= 0x7F
    while length >= 0x80:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + encoded
