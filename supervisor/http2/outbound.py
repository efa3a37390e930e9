"""What a connection sends: content within the client's windows, in turns (RFC 9113 §5.2 and §6.9).

Whatever cannot go yet waits with its stream, uncopied. Streams that may send take turns, a frame
each, so that a large answer never keeps a small one waiting for long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from . import frames
from .errors import ConnectionFailed, ErrorCode, StreamFailed
from .settings import DEFAULT_FRAME_BYTES, DEFAULT_WINDOW_BYTES
from .states import Event
from .streams import Buffer, Stream

#: Content up to this size is joined with its frame: a copy costs less than two more buffers.
_JOINED_BYTES: Final = 16 * 1024


class Outbound:
    """The output of a connection, and the streams that wait to add to it.

    `output` is taken away by whoever writes it. `closed` is told of each stream that has ended.
    """

    def __init__(self, closed: Callable[[Stream], None]) -> None:
        self._closed = closed
        self.output: list[Buffer] = []
        self.window = DEFAULT_WINDOW_BYTES
        #: What the client said that streams start with, and how large its frames may be.
        self.initial_window = DEFAULT_WINDOW_BYTES
        self.frame = DEFAULT_FRAME_BYTES
        self._ready: deque[Stream] = deque()
        #: What the next block of fields has to begin with.
        self._table_update = b""

    def __repr__(self) -> str:
        return f"<Outbound window={self.window} ready={len(self._ready)}>"

    @property
    def can_send(self) -> bool:
        """Whether `pump` would do something."""
        return bool(self._ready) and self.window > 0

    def begin_blocks_with(self, update: bytes) -> None:
        """Let the next block begin with an update of the size of the table."""
        self._table_update = update

    def answer(self, stream: Stream, block: bytes, content: bytes, trailers: bytes) -> None:
        """Send a whole answer, at once where the windows have room for it."""
        size = len(content)
        if (
            size <= stream.send_window
            and size <= self.window
            and size <= _JOINED_BYTES
            and not self._table_update
        ):
            number = stream.number
            self.window -= size
            head = frames.head
            self.output.append(
                b"".join(
                    (
                        head(len(block), frames.HEADERS, frames.END_HEADERS, number),
                        block,
                        head(size, frames.DATA, 0, number),
                        content,
                        head(
                            len(trailers),
                            frames.HEADERS,
                            frames.END_HEADERS | frames.END_STREAM,
                            number,
                        ),
                        trailers,
                    )
                )
            )
            self._end(stream)
            return
        self.begin(stream, block)
        self.send(stream, (content,))
        self.end(stream, trailers)

    def begin(self, stream: Stream, block: bytes, *, end: bool = False) -> None:
        """Send the block of fields that an answer begins with, or that it is."""
        self._headers(stream, block, end)
        if end:
            self._end(stream)

    def send(self, stream: Stream, parts: Sequence[Buffer]) -> None:
        """Send content, now or when there is room for it."""
        for part in parts:
            if len(part):
                if stream.queue is None:
                    stream.queue = deque()
                stream.queue.append(part)
                stream.queued += len(part)
        self._line_up(stream)

    def end(self, stream: Stream, trailers: bytes) -> None:
        """End the stream with a block of fields, once all of its content is sent."""
        if stream.queued:
            stream.trailers = trailers
        else:
            self._headers(stream, trailers, end=True)
            self._end(stream)

    def drop(self, stream: Stream) -> None:
        """Send nothing more on a stream."""
        stream.queue = None
        stream.queued = 0
        stream.trailers = None
        if stream.is_ready:
            stream.is_ready = False
            self._ready.remove(stream)

    def pump(self, most: int) -> None:
        """Add about so many bytes of what waits to the output."""
        ready = self._ready
        while ready and most > 0 and self.window > 0:
            stream = ready.popleft()
            most -= self._data(stream, min(self.frame, self.window, stream.send_window))
            if stream.queued and stream.send_window > 0:
                ready.append(stream)
                continue
            stream.is_ready = False
            if stream.queued:
                continue  # until its own window is wider
            if stream.trailers is not None:
                self._headers(stream, stream.trailers, end=True)
                self._end(stream)
            elif stream.receiver is not None:
                stream.receiver.drained()

    def widen(self, increment: int) -> None:
        """All streams together may send more. Raises ConnectionFailed beyond the limit (§6.9.1)."""
        self.window += increment
        if self.window > frames.MOST:
            raise ConnectionFailed(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """One stream may send more. Raises StreamFailed beyond the limit (§6.9.1)."""
        stream.send_window += increment
        if stream.send_window > frames.MOST:
            raise StreamFailed(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
        self._line_up(stream)

    def _line_up(self, stream: Stream) -> None:
        if stream.queued and stream.send_window > 0 and not stream.is_ready:
            stream.is_ready = True
            self._ready.append(stream)

    def _headers(self, stream: Stream, block: bytes, end: bool) -> None:
        block = self._table_update + block
        self._table_update = b""
        self.output.append(frames.headers(stream.number, block, self.frame, end=end))

    def _data(self, stream: Stream, room: int) -> int:
        """Add one frame of what the stream has queued; returns its length."""
        queue = stream.queue
        assert queue is not None
        size = min(room, stream.queued)
        parts: list[Buffer] = [frames.head(size, frames.DATA, 0, stream.number)]
        left = size
        while left:
            part = queue.popleft()
            if len(part) > left:
                view = memoryview(part)
                queue.appendleft(view[left:])
                part = view[:left]
            parts.append(part)
            left -= len(part)
        if size <= _JOINED_BYTES:
            self.output.append(b"".join(parts))
        else:
            self.output += parts
        stream.queued -= size
        stream.send_window -= size
        self.window -= size
        return size

    def _end(self, stream: Stream) -> None:
        stream.note(Event.SERVER_ENDED)
        self._closed(stream)
