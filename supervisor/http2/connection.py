"""One connection of HTTP/2, seen from the server: frames in, events and frames out (RFC 9113).

Nothing here reads a clock or a socket. Bytes are handed in with the time; what is to be sent lies
in the output until somebody takes it. The frames of a request are the hot path: their branches come
first, and a block of fields that was seen before costs one look-up.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Generic, Protocol, TypeVar

from . import fields, frames, settings
from .control_frames import ALIVE, LEAVING, ControlFrames
from .errors import ConnectionFailed, ErrorCode, StreamFailed
from .frame_reader import FrameReader
from .header_blocks import BlockReader
from .intake import Intake
from .limits import Limits, Patience
from .open_streams import OpenStreams
from .outbound import Outbound
from .pings import PingRules, Pings
from .states import Event, State
from .streams import Buffer, Receiver, Stream

HeadT = TypeVar("HeadT")
_HeadT_contra = TypeVar("_HeadT_contra", contravariant=True)


class Acceptor(Protocol[_HeadT_contra]):
    """Who answers the requests of a connection."""

    def opened(self, stream: Stream, head: _HeadT_contra) -> Receiver:
        """A request begins."""
        ...


class Phase(Enum):
    """How far a connection is; it only ever goes down this list."""

    #: Requests come and are answered.
    OPEN = "open"
    #: The client was asked to open no more streams; those on their way are still taken (§6.8).
    LEAVING = "leaving"
    #: No more streams are taken; those that are open are finished.
    FINISHING = "finishing"
    #: Nothing counts any more; what lies in the output is still to be sent.
    ENDED = "ended"


class Connection(Generic[HeadT]):
    """The protocol's side of one connection.

    `make_head` turns the fields of a request into what the acceptor is given; it may raise
    StreamFailed. `length_of` tells how long the head says that the content is.
    """

    def __init__(
        self,
        acceptor: Acceptor[HeadT],
        make_head: Callable[[fields.Fields], HeadT],
        length_of: Callable[[HeadT], int | None],
        limits: Limits,
        pings: PingRules,
        now: float,
    ) -> None:
        self._acceptor = acceptor
        self._length_of = length_of
        self._limits = limits
        self._phase = Phase.OPEN
        self._blocks = BlockReader(make_head, limits.fields)
        self._out = Outbound(self._ended)
        self._streams = OpenStreams()
        self._intake = Intake(limits)
        self._patience = Patience(limits.idle_frames, limits.idle_frames_a_second)
        self._pings = Pings(pings, now)
        self._control = ControlFrames(self, self._streams, self._out, self._pings)
        self._reader = FrameReader(self, limits)
        self._now = now

    def __repr__(self) -> str:
        return f"<Connection {self._phase.name} {self._streams!r}>"

    # --- what the shell asks ----------------------------------------------------------------------

    @property
    def is_ended(self) -> bool:
        """Whether the connection is to be closed once its output is written."""
        return self._phase is Phase.ENDED

    @property
    def has_streams(self) -> bool:
        """Whether requests are open."""
        return len(self._streams) > 0

    @property
    def has_output(self) -> bool:
        """Whether there is something to write now."""
        return bool(self._out.output) or self._out.can_send

    @property
    def waiting_frames(self) -> int:
        """How many buffers wait to be written that no window holds back."""
        return len(self._out.output)

    def start(self) -> None:
        """Say what this server takes (§3.4)."""
        limits = self._limits
        self._out.output.append(
            frames.settings(
                {
                    settings.MAX_CONCURRENT_STREAMS: limits.streams,
                    settings.INITIAL_WINDOW_SIZE: limits.window,
                    settings.MAX_FRAME_SIZE: limits.frame,
                    settings.MAX_HEADER_LIST_SIZE: limits.fields,
                }
            )
        )
        self._widen()

    def take_output(self, most: int) -> list[Buffer]:
        """What is to be written now: all that cannot wait, and about `most` bytes of content."""
        if self._out.can_send:
            self._out.pump(most)
        output = self._out.output
        self._out.output = []
        return output

    def receive(self, data: bytes, now: float) -> None:
        """Take what has come; errors of the client are answered in the output."""
        self._now = now
        self._pings.heard(now)
        if self._phase is Phase.ENDED:
            return
        try:
            self._reader.read(data)
        except ConnectionFailed as error:
            self.end(error.code, error.text)

    def end(self, code: ErrorCode, text: str = "") -> None:
        """Tell the client that the connection ends, and give all of its requests up (§6.8)."""
        if self._phase is not Phase.ENDED:
            self._out.output.append(frames.goaway(self._streams.last, code, text))
            self.lost()

    def lost(self) -> None:
        """The connection is gone, or as good as that."""
        self._phase = Phase.ENDED
        self._reader.stop()
        for stream in self._streams.take_all():
            self._out.drop(stream)
            stream.note(Event.RESET)
            receiver = stream.receiver
            stream.let_go()
            if receiver is not None:
                receiver.withdrawn()

    def leave(self, text: str) -> None:
        """Ask the client to open no more streams, and end once those that are open have (§6.8).

        A stream may be on its way: the answer to a ping shows that the client knows.
        """
        if self._phase is Phase.OPEN:
            self._phase = Phase.LEAVING
            self._out.output.append(frames.goaway(frames.MOST, ErrorCode.NO_ERROR, text))
            self._out.output.append(frames.ping(LEAVING))

    def finish_streams(self) -> None:
        """Take no more streams, and end once those that are open have."""
        if self._phase is Phase.OPEN or self._phase is Phase.LEAVING:
            self._phase = Phase.FINISHING
            self._out.output.append(frames.goaway(self._streams.last, ErrorCode.NO_ERROR))
            self._end_if_finished()

    def look(self, now: float) -> float:
        """Ping a silent client, or give it up; returns in how many seconds to look again."""
        if self._pings.is_dead(now):
            self.end(ErrorCode.NO_ERROR, "keepalive_timeout")
        elif self._pings.due(now, has_calls=self.has_streams):
            self._out.output.append(frames.ping(ALIVE))
        return self._pings.next_look(now)

    # --- what receivers ask -----------------------------------------------------------------------

    def answer(self, stream: Stream, block: bytes, content: bytes, trailers: bytes) -> None:
        """Send a whole answer."""
        if stream.server_may_send:
            self._pings.sent_data()
            self._out.answer(stream, block, content, trailers)

    def begin(self, stream: Stream, block: bytes, *, end: bool = False) -> None:
        """Send the block of fields that an answer begins with, or that it is."""
        if stream.server_may_send:
            self._pings.sent_data()
            self._out.begin(stream, block, end=end)

    def send(self, stream: Stream, parts: list[Buffer]) -> None:
        """Send content after that block; views are kept until it is written."""
        if stream.server_may_send:
            self._pings.sent_data()
            self._out.send(stream, parts)

    def finish(self, stream: Stream, trailers: bytes) -> None:
        """End an answer with a block of fields."""
        if stream.server_may_send:
            self._out.end(stream, trailers)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """Give a stream up (§5.4.2)."""
        if stream.state is not State.CLOSED:
            self._out.output.append(frames.reset(stream.number, code))
            if stream.client_may_send:
                self._streams.abandon(stream.number)
            self.close(stream)

    def allow(self, stream: Stream, size: int) -> None:
        """Let the client send at least so much more on a stream, if it has more to send."""
        missing = size - stream.receive_window
        if missing * 2 >= size and stream.client_may_send:
            stream.receive_window += missing
            self._out.output.append(frames.window_update(stream.number, missing))

    def hold(self, size: int) -> None:
        """So much more, or less, lies unread: the client has to wait when it is a lot."""
        self._intake.hold(size)
        if size < 0 and self._intake.is_low:
            self._widen()

    # --- frames -----------------------------------------------------------------------------------

    def content_begins(self, number: int, size: int, length: int, ends: bool) -> Stream | None:
        """Charge DATA to the windows (§6.9.1), and find its stream."""
        self._intake.came(size)
        if self._intake.is_low:
            self._widen()
        stream = self._streams.find(number)
        if stream is None or not stream.client_may_send:
            self._refuse_content(stream, number)
            return None
        stream.receive_window -= size
        if stream.receive_window < 0:
            self.fail(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return None
        if not (length or ends):
            self.tolerate()
        return stream

    def content_came(self, stream: Stream, data: bytes, start: int, stop: int, ends: bool) -> None:
        """Hand content to who receives it."""
        if stream.missing is not None:  # §8.1.1
            stream.missing -= stop - start
            if stream.missing < 0 or (ends and stream.missing):
                self.fail(stream, ErrorCode.PROTOCOL_ERROR)
                return
        if not stream.client_may_send:  # reset while a frame was coming
            return
        receiver = stream.receiver
        if ends:
            self._client_ended(stream)
        if receiver is not None:
            receiver.received(data, start, stop, ends)

    def fields_came(self, number: int, block: bytes, ends: bool) -> None:
        """A block opens a stream, or ends one."""
        if number > self._streams.last and number & 1:
            self._open(number, block, ends)
        elif not number & 1:  # §5.1.1
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "a stream with a wrong number")
        else:
            self._trailers(number, block, ends)

    def frame_came(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Frames that are neither content nor fields."""
        is_seen = self._control.came(kind, flags, number, payload, self._now)
        if is_seen and self._phase is Phase.LEAVING:
            self.finish_streams()

    def tolerate(self) -> None:
        """Note a frame that achieves nothing (§10.5)."""
        if not self._patience.spend(self._now):
            raise ConnectionFailed(ErrorCode.ENHANCE_YOUR_CALM, "too many frames for nothing")

    # --- content ----------------------------------------------------------------------------------

    def _refuse_content(self, stream: Stream | None, number: int) -> None:
        """Content where none may be: an error, unless it was on its way (§5.1, §6.1)."""
        if stream is not None:
            self.fail(stream, ErrorCode.STREAM_CLOSED)
        elif not number & 1 or number > self._streams.last:
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "content on a stream that is idle")
        elif not self._streams.is_abandoned(number):
            self.tolerate()
            self._out.output.append(frames.reset(number, ErrorCode.STREAM_CLOSED))

    def _widen(self) -> None:
        """Let all streams together send again as much as they may."""
        increment = self._intake.open()
        if increment:
            self._out.output.append(frames.window_update(0, increment))

    # --- fields (§8.1) ----------------------------------------------------------------------------

    def _open(self, number: int, block: bytes, ends: bool) -> None:
        self._streams.last = number
        try:
            head = self._blocks.read(block)
        except StreamFailed as error:
            self._refuse(number, error.code, ends)
            return
        if self._phase is Phase.FINISHING:  # §6.8: the client knows that this was not looked at
            self._refuse(number, ErrorCode.REFUSED_STREAM, ends)
            return
        length = self._length_of(head)
        if ends and length:  # §8.1.1
            self._refuse(number, ErrorCode.PROTOCOL_ERROR, ends)
            return
        if len(self._streams) >= self._limits.streams:  # §5.1.2
            self._refuse(number, ErrorCode.REFUSED_STREAM, ends)
            return
        stream = Stream(number, self._out.initial_window, self._limits.window)
        stream.missing = length
        self._streams.add(stream)
        if ends:
            stream.note(Event.CLIENT_ENDED)
        receiver = self._acceptor.opened(stream, head)
        if stream.state is State.CLOSED:  # it was answered at once
            return
        stream.receiver = receiver
        if ends:
            receiver.received(b"", 0, 0, True)

    def _trailers(self, number: int, block: bytes, ends: bool) -> None:
        stream = self._streams.find(number)
        failure = ErrorCode.STREAM_CLOSED
        try:
            found = self._blocks.decode(block)
            if stream is not None and stream.client_may_send:
                if not ends:
                    raise StreamFailed(ErrorCode.PROTOCOL_ERROR, "fields within the content")
                fields.check_trailers(found)
                self.content_came(stream, b"", 0, 0, True)
                return
        except StreamFailed as error:
            failure = error.code
        if stream is not None:
            self.fail(stream, failure)
        elif not self._streams.is_abandoned(number):  # §5.1
            raise ConnectionFailed(ErrorCode.STREAM_CLOSED, "fields on a closed stream")

    # --- streams ----------------------------------------------------------------------------------

    def _client_ended(self, stream: Stream) -> None:
        stream.note(Event.CLIENT_ENDED)
        if stream.state is State.CLOSED:
            self._forget(stream)

    def _ended(self, stream: Stream) -> None:
        """The answer is sent. A client that still sends its request is told to stop (§8.1)."""
        if stream.state is State.HALF_CLOSED_LOCAL:
            self._out.output.append(frames.reset(stream.number, ErrorCode.NO_ERROR))
            self._streams.abandon(stream.number)
            stream.note(Event.RESET)
        self._forget(stream)

    def fail(self, stream: Stream, code: ErrorCode) -> None:
        """The client has broken a rule of a stream."""
        self.tolerate()
        self.reset(stream, code)

    def _refuse(self, number: int, code: ErrorCode, ends: bool) -> None:
        """Do not even open a stream."""
        self.tolerate()
        self._out.output.append(frames.reset(number, code))
        if not ends:
            self._streams.abandon(number)

    def close(self, stream: Stream) -> None:
        """A stream is reset, by either side."""
        self._out.drop(stream)
        stream.note(Event.RESET)
        receiver = stream.receiver
        self._forget(stream)
        if receiver is not None:
            receiver.withdrawn()

    def _forget(self, stream: Stream) -> None:
        self._streams.forget(stream)
        stream.let_go()
        if self._phase is Phase.FINISHING:
            self._end_if_finished()

    def _end_if_finished(self) -> None:
        if not self._streams:
            self._phase = Phase.ENDED
            self._reader.stop()
