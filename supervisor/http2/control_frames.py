"""Frames that speak about a connection or its streams (RFC 9113 §6.3 to §6.9)."""

from __future__ import annotations

from typing import Final, Protocol

from . import frames, settings
from .errors import ConnectionFailed, ErrorCode, StreamFailed
from .header_blocks import NO_TABLE
from .open_streams import OpenStreams
from .outbound import Outbound
from .pings import Pings
from .streams import Stream

#: What pings of the server hold: those that ask for life, and the one behind the first GOAWAY.
ALIVE: Final = b"is alive"
LEAVING: Final = b"leaving "


class Host(Protocol):
    """The connection that the frames are about."""

    def tolerate(self) -> None:
        """Note a frame that achieves nothing."""
        ...

    def fail(self, stream: Stream, code: ErrorCode) -> None:
        """The client has broken a rule of a stream."""
        ...

    def close(self, stream: Stream) -> None:
        """The client has given a stream up."""
        ...


class ControlFrames:
    """Does what these frames say."""

    def __init__(self, host: Host, streams: OpenStreams, out: Outbound, pings: Pings) -> None:
        self._host = host
        self._streams = streams
        self._out = out
        self._pings = pings

    def came(self, kind: int, flags: int, number: int, payload: bytes, now: float) -> bool:
        """Take a frame; those of unknown kinds mean nothing (§5.5).

        Returns whether the client has seen that it should open no more streams. Raises
        ConnectionFailed.
        """
        match kind:
            case frames.WINDOW_UPDATE:
                self._window_update(number, payload)
            case frames.RST_STREAM:
                self._reset_came(number, payload)
            case frames.SETTINGS:
                self._settings_came(flags, number, payload)
            case frames.PING:
                return self._ping_came(flags, number, payload, now)
            case frames.PUSH_PROMISE:  # §8.4
                raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "clients promise nothing")
            case frames.PRIORITY:
                self._priority(number, payload)
            case frames.GOAWAY:
                if number or len(payload) < 8:  # §6.8
                    raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "a wrong GOAWAY")
                self._host.tolerate()
            case _:
                self._host.tolerate()
        return False

    def _window_update(self, number: int, payload: bytes) -> None:
        """§6.9."""
        if len(payload) != 4:
            raise ConnectionFailed(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
        increment = frames.word(payload)
        if not number:
            if not increment:
                raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self._out.widen(increment)
            return
        stream = self._streams.known(number, "WINDOW_UPDATE")
        if stream is None:
            return
        if not increment:
            self._host.fail(stream, ErrorCode.PROTOCOL_ERROR)
            return
        try:
            self._out.widen_stream(stream, increment)
        except StreamFailed as error:
            self._host.fail(stream, error.code)

    def _reset_came(self, number: int, payload: bytes) -> None:
        """§6.4."""
        if len(payload) != 4:
            raise ConnectionFailed(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
        stream = self._streams.known(number, "RST_STREAM")
        self._host.tolerate()
        if stream is not None:
            self._host.close(stream)

    def _settings_came(self, flags: int, number: int, payload: bytes) -> None:
        """§6.5."""
        if number:
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFailed(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
            return
        self._host.tolerate()
        for name, value in settings.parse(payload):
            if name == settings.INITIAL_WINDOW_SIZE:  # §6.9.2: streams that are open, too
                change = value - self._out.initial_window
                self._out.initial_window = value
                for stream in self._streams.all():
                    self._change_window(stream, change)
            elif name == settings.MAX_FRAME_SIZE:
                self._out.frame = value
            elif name == settings.HEADER_TABLE_SIZE and value < settings.DEFAULT_TABLE_BYTES:
                self._out.begin_blocks_with(NO_TABLE)  # RFC 7541 §4.2
        self._out.output.append(frames.settings_acknowledged())

    def _change_window(self, stream: Stream, change: int) -> None:
        try:
            self._out.widen_stream(stream, change)
        except StreamFailed as error:
            raise ConnectionFailed(error.code, error.text) from None

    def _ping_came(self, flags: int, number: int, payload: bytes, now: float) -> bool:
        """§6.7."""
        if number:
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise ConnectionFailed(ErrorCode.FRAME_SIZE_ERROR, "PING of a wrong length")
        if flags & frames.ACK:
            return payload == LEAVING
        if not self._pings.came(now, has_calls=len(self._streams) > 0):
            raise ConnectionFailed(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")
        self._out.output.append(frames.ping(payload, answer=True))
        return False

    def _priority(self, number: int, payload: bytes) -> None:
        """§6.3: checked, and without a meaning."""
        if not number:
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "PRIORITY of no stream")
        self._host.tolerate()
        stream = self._streams.find(number)
        if len(payload) != 5 and stream is not None:
            self._host.fail(stream, ErrorCode.FRAME_SIZE_ERROR)
