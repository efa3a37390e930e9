"""The streams of a connection: those that are open, and what is known of those that are not."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from .errors import ConnectionFailed, ErrorCode
from .streams import Stream

#: Of streams that were ended before the client had ended them, so many are remembered.
_MOST_ABANDONED: Final = 4096


class OpenStreams:
    """All streams by their numbers; a client's are odd and ascending (RFC 9113 §5.1.1)."""

    def __init__(self) -> None:
        self._open: dict[int, Stream] = {}
        #: The highest number so far.
        self.last = 0
        #: Ended by us alone: more of them may be on its way (§5.1).
        self._abandoned: set[int] = set()
        self._abandoned_order: deque[int] = deque()

    def __repr__(self) -> str:
        return f"streams={len(self._open)} last={self.last}"

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def all(self) -> Iterable[Stream]:
        """Those that are open now."""
        return tuple(self._open.values())

    def add(self, stream: Stream) -> None:
        """A stream is opened."""
        self._open[stream.number] = stream

    def find(self, number: int) -> Stream | None:
        """The open stream of this number."""
        return self._open.get(number)

    def known(self, number: int, kind: str) -> Stream | None:
        """The stream of a frame; None for one that is closed. Raises ConnectionFailed for one that
        is idle, on which nothing may come but its beginning (§5.1).
        """
        stream = self._open.get(number)
        if stream is None and (not number & 1 or number > self.last):
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, f"{kind} of a stream that is idle")
        return stream

    def forget(self, stream: Stream) -> None:
        """A stream is closed."""
        self._open.pop(stream.number, None)

    def take_all(self) -> Iterable[Stream]:
        """Forget all of them; returns what they were."""
        streams, self._open = self._open, {}
        return streams.values()

    def abandon(self, number: int) -> None:
        """A stream was ended before the client has ended it."""
        if len(self._abandoned_order) >= _MOST_ABANDONED:
            self._abandoned.discard(self._abandoned_order.popleft())
        self._abandoned.add(number)
        self._abandoned_order.append(number)

    def is_abandoned(self, number: int) -> bool:
        """Whether that has happened to it."""
        return number in self._abandoned
