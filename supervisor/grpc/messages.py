"""gRPC's messages in the content of HTTP/2: each behind five bytes that tell its length."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from .status import Status

PREFIX_BYTES: Final = 5

#: The largest message, as with grpcio.
MOST_BYTES: Final = 2**31 - 1


class Message(NamedTuple):
    """One message as it came."""

    compressed: bool
    data: bytes | memoryview


class MessageFailed(Exception):
    """Raised when a message cannot be had; the call ends with this status."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def prefix(length: int, *, compressed: bool = False) -> bytes:
    """The five bytes before a message of this length."""
    return (b"\1" if compressed else b"\0") + length.to_bytes(4, "big")


class MessageReader:
    """Gathers messages out of pieces; a large one is put together once, as its pieces come."""

    __slots__ = ("_buffer", "_compressed", "_filled", "_prefix")

    def __init__(self) -> None:
        #: The beginning of the five bytes, while they are not whole.
        self._prefix = b""
        #: The message whose pieces are coming; None between messages.
        self._buffer: memoryview | None = None
        self._filled = 0
        self._compressed = False

    def __repr__(self) -> str:
        return f"<MessageReader {self.missing} bytes to come>"

    @property
    def missing(self) -> int:
        """How much is still to come of a message that has begun; 0 when none has."""
        return 0 if self._buffer is None else len(self._buffer) - self._filled

    @property
    def is_between(self) -> bool:
        """Whether no message is half there."""
        return self._buffer is None and not self._prefix

    def feed(self, data: bytes, start: int, stop: int) -> list[Message]:
        """Take `data` from `start` to `stop`; returns the messages that are whole with it.

        Raises MessageFailed for a message that is larger than any may be, or than memory.
        """
        found: list[Message] = []
        while start < stop:
            if self._buffer is None:
                start = self._begin(data, start, stop, found)
                continue
            taken = min(stop - start, self.missing)
            piece = memoryview(data)[start : start + taken]
            self._buffer[self._filled : self._filled + taken] = piece
            self._filled += taken
            start += taken
            if not self.missing:
                found.append(Message(self._compressed, self._buffer.toreadonly()))
                self._buffer = None
        return found

    def _begin(self, data: bytes, start: int, stop: int, found: list[Message]) -> int:
        """Take the five bytes, and the message as well if it is here; returns where that ends."""
        end = start + PREFIX_BYTES - len(self._prefix)
        head = self._prefix + data[start : min(end, stop)]
        if len(head) < PREFIX_BYTES:
            self._prefix = head
            return stop
        self._prefix = b""
        length = int.from_bytes(head[1:], "big")
        if length > MOST_BYTES:
            raise MessageFailed(
                Status.RESOURCE_EXHAUSTED,
                f"Received message larger than max ({length} vs. {MOST_BYTES})",
            )
        self._compressed = bool(head[0] & 1)
        if end + length <= stop:
            found.append(Message(self._compressed, data[end : end + length]))
            return end + length
        try:
            # Memory that nobody has written to is not there yet: a lie about the length costs none.
            self._buffer = np.empty(length, np.uint8).data
        except MemoryError:
            raise MessageFailed(
                Status.RESOURCE_EXHAUSTED,
                f"the server has no memory for a message of {length} bytes",
            ) from None
        self._filled = 0
        return end
