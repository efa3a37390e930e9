"""Frames out of bytes, however these come: whole, in pieces, or many at once (RFC 9113 §4).

Content is handed on as it comes. Of all other frames, and of a block that CONTINUATION goes on
with, the whole has to be here first; their sizes are limited for that.
"""

from __future__ import annotations

from typing import Protocol

from . import frames
from .errors import ConnectionFailed, ErrorCode
from .limits import Limits
from .streams import Stream


class Listener(Protocol):
    """Who is told of the frames; each may raise ConnectionFailed."""

    def content_begins(self, number: int, size: int, length: int, ends: bool) -> Stream | None:
        """DATA of `length` bytes has begun, which counts as `size` with its padding. Returns whom
        the content is for.
        """
        ...

    def content_came(self, stream: Stream, data: bytes, start: int, stop: int, ends: bool) -> None:
        """A part of it is here: `data` from `start` to `stop`."""
        ...

    def fields_came(self, number: int, block: bytes, ends: bool) -> None:
        """A whole block of fields is here."""
        ...

    def frame_came(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """A frame of any other kind is here."""
        ...

    def tolerate(self) -> None:
        """Note a frame that achieves nothing."""
        ...


class FrameReader:
    """What has come of the next frame, and what has to come."""

    def __init__(self, listener: Listener, limits: Limits) -> None:
        self._listener = listener
        self._limits = limits
        #: Whether the preface, and the first frame, have been here.
        self._has_preface = False
        self._has_settings = False
        self._is_over = False
        #: The beginning of a frame that is not whole.
        self._tail = b""
        #: Of the DATA that is being read: what is missing, for whom it is, whether it is the last.
        self._left = 0
        self._padding_left = 0
        self._stream: Stream | None = None
        self._ends = False
        #: The block that CONTINUATION goes on with: its stream, whether that ends, its pieces.
        self._block: tuple[int, bool, list[bytes]] | None = None
        self._block_size = 0

    def __repr__(self) -> str:
        return f"<FrameReader {len(self._tail)} bytes, {self._left} of content to come>"

    def stop(self) -> None:
        """Hand nothing more on."""
        self._is_over = True
        self._tail = b""
        self._stream = None

    def read(self, data: bytes) -> None:
        """Take all whole frames, and of content whatever is there. Raises ConnectionFailed."""
        if self._tail:
            data = self._tail + data
            self._tail = b""
        at, end = 0, len(data)
        if not self._has_preface:
            at = self._preface(data)
        elif self._left or self._padding_left:
            at = self._go_on(data, 0)
        unpack = frames.unpack_head
        listener, limits = self._listener, self._limits
        while end - at >= frames.HEAD_BYTES and not self._is_over:
            upper, lower, kind, flags, number = unpack(data, at)
            length = upper << 8 | lower
            number &= frames.MOST
            if length > limits.frame:  # §4.2
                raise ConnectionFailed(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            if self._block is not None or not self._has_settings:
                self._check_turn(kind, flags, number)
            start = at + frames.HEAD_BYTES
            stop = start + length
            if kind == frames.DATA:
                ends = flags & frames.END_STREAM == frames.END_STREAM
                if flags & frames.PADDED:
                    if length and start == end:
                        break  # what tells the padding is not here
                    at = self._padded(data, start, length, number, ends)
                    continue
                stream = listener.content_begins(number, length, length, ends)
                if stop <= end:
                    if stream is not None:
                        listener.content_came(stream, data, start, stop, ends)
                    at = stop
                else:
                    at = self._begin(stream, data, start, length, 0, ends)
                continue
            if length > limits.block:
                raise ConnectionFailed(ErrorCode.ENHANCE_YOUR_CALM, "a frame is too large")
            if stop > end:
                break
            payload = data[start:stop]
            at = stop
            if kind == frames.HEADERS:
                self._headers(payload, flags, number)
            elif kind == frames.CONTINUATION:
                self._continuation(payload, flags, number)
            else:
                listener.frame_came(kind, flags, number, payload)
        if at < end and not self._is_over:
            self._tail = data[at:] if at else data

    def _preface(self, data: bytes) -> int:
        """Where the frames begin (§3.4); beyond the data while the preface is not whole."""
        size = len(frames.PREFACE)
        if data[:size] != frames.PREFACE[: len(data)]:
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "the client does not speak HTTP/2")
        if len(data) < size:
            self._tail = data
            return len(data)
        self._has_preface = True
        return size

    def _check_turn(self, kind: int, flags: int, number: int) -> None:
        """Frames that have their places: the first one (§3.4), and those of a block (§6.10)."""
        if not self._has_settings:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "SETTINGS have to come first")
            self._has_settings = True
        elif self._block is not None and (kind != frames.CONTINUATION or number != self._block[0]):
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "a block of fields is not whole")

    # --- content (§6.1) ---------------------------------------------------------------------------

    def _padded(self, data: bytes, start: int, length: int, number: int, ends: bool) -> int:
        if not length:
            raise ConnectionFailed(ErrorCode.FRAME_SIZE_ERROR, "padding without a length")
        padding = data[start]
        if padding >= length:
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "padding is longer than the frame")
        content = length - padding - 1
        stream = self._listener.content_begins(number, length, content, ends)
        return self._begin(stream, data, start + 1, content, padding, ends)

    def _begin(
        self, stream: Stream | None, data: bytes, start: int, left: int, padding: int, ends: bool
    ) -> int:
        self._stream, self._left, self._padding_left, self._ends = stream, left, padding, ends
        return self._go_on(data, start)

    def _go_on(self, data: bytes, start: int) -> int:
        """Hand on what is here of content; returns where that ends."""
        here = len(data) - start
        taken = min(here, self._left)
        self._left -= taken
        padding = min(here - taken, self._padding_left)
        self._padding_left -= padding
        stream = self._stream
        is_whole = not self._left and not self._padding_left
        if stream is not None and (taken or is_whole):
            ends = is_whole and self._ends
            self._listener.content_came(stream, data, start, start + taken, ends)
        if is_whole:
            self._stream = None
        return start + taken + padding

    # --- fields (§6.2, §6.10) ---------------------------------------------------------------------

    def _headers(self, payload: bytes, flags: int, number: int) -> None:
        if flags & (frames.PADDED | frames.WITH_PRIORITY):
            start, stop = frames.content(payload, flags, number)
            payload = payload[start:stop]
        ends = flags & frames.END_STREAM == frames.END_STREAM
        if flags & frames.END_HEADERS:
            self._listener.fields_came(number, payload, ends)
        else:
            self._block = (number, ends, [payload])
            self._block_size = len(payload)

    def _continuation(self, payload: bytes, flags: int, number: int) -> None:
        if self._block is None:
            raise ConnectionFailed(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._listener.tolerate()
        _, ends, pieces = self._block
        pieces.append(payload)
        self._block_size += len(payload)
        if self._block_size > self._limits.block:  # §10.5.1
            raise ConnectionFailed(ErrorCode.ENHANCE_YOUR_CALM, "a block is too long")
        if flags & frames.END_HEADERS:
            self._block = None
            self._listener.fields_came(number, b"".join(pieces), ends)
