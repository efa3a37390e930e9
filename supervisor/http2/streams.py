"""One stream: a request and its answer, and whom each of its events concerns."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from .states import Event, State, after

#: Bytes that are sent; views keep what they show until then.
Buffer = bytes | memoryview


class Receiver(Protocol):
    """Who takes the content of a request. It is told nothing more once its stream is closed."""

    def received(self, data: bytes, start: int, stop: int, ended: bool) -> None:
        """A part of the content has come: `data` from `start` to `stop`; whether it was the last.

        The whole content may be one such part, and any of them may be empty.
        """
        ...

    def withdrawn(self) -> None:
        """The client has given the request up, or has broken a rule of it, or is gone."""
        ...

    def drained(self) -> None:
        """Everything that was sent so far is on its way."""
        ...


class Stream:
    """What a connection keeps of a stream."""

    __slots__ = (
        "is_ready",
        "missing",
        "number",
        "queue",
        "queued",
        "receive_window",
        "receiver",
        "send_window",
        "state",
        "trailers",
    )

    def __init__(self, number: int, send_window: int, receive_window: int) -> None:
        self.number = number
        self.state = State.OPEN
        self.receiver: Receiver | None = None
        #: How much may be sent, and how much may come.
        self.send_window = send_window
        self.receive_window = receive_window
        #: How much the client said that it would send; None if it did not.
        self.missing: int | None = None
        #: What waits for a window, or has waited, its size, and the block that ends it.
        self.queue: deque[Buffer] | None = None
        self.queued = 0
        self.trailers: bytes | None = None
        #: Whether it stands in the line of those who may send.
        self.is_ready = False

    def __repr__(self) -> str:
        return (
            f"<Stream {self.number} {self.state.name} queued={self.queued} "
            f"windows={self.send_window}/{self.receive_window}>"
        )

    @property
    def client_may_send(self) -> bool:
        """Whether content may still come."""
        return self.state is State.OPEN or self.state is State.HALF_CLOSED_LOCAL

    @property
    def server_may_send(self) -> bool:
        """Whether the answer has not ended."""
        return self.state is State.OPEN or self.state is State.HALF_CLOSED_REMOTE

    def let_go(self) -> None:
        """Nobody is told anything any more. Who receives knows the stream, and the stream knows
        him: without this the memory of both would wait for the garbage collector.
        """
        self.receiver = None

    def note(self, event: Event) -> None:
        """Go where the event leads."""
        self.state = after(self.state, event)
