"""Messages on a stream: each is a frame, its length in four bytes and then itself.

One read brings whatever has arrived: several frames, or a part of one.
"""

from __future__ import annotations

import socket
import struct

_LENGTH = struct.Struct("<I")

#: So much is read at once, unless a frame is larger.
BUFFER_BYTES = 1 << 16

#: A buffer that a large frame made larger than this is not kept.
_KEPT_BYTES = 1 << 20


def framed(message: bytes) -> bytes:
    """The message as a frame. Raises struct.error when it has 4 GiB or more."""
    return _LENGTH.pack(len(message)) + message


class FrameReader:
    """Reads frames from a stream socket, which stays its owner's.

    `fill` and `take` are called in turns: `fill` may be called when `take` has returned None.

        0        start            end          len(buffer)
        | taken  | frame | fra    | free        |
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0

    def fill(self, flags: int = 0) -> None:
        """Read once.

        Raises ConnectionError when the other end is gone and all of it is read, BlockingIOError
        when nothing is there and the socket or the flags say not to wait.
        """
        count = self._connection.recv_into(self._view[self._end :], 0, flags)
        if not count:
            raise ConnectionResetError("the other end of the channel is closed")
        self._end += count

    def take(self) -> bytes | None:
        """The next message, or None when it has not arrived completely."""
        start, end = self._start, self._end
        needed = _LENGTH.size
        if end - start >= needed:
            needed += _LENGTH.unpack_from(self._buffer, start)[0]
            stop = start + needed
            if stop <= end:
                message = bytes(self._view[start + _LENGTH.size : stop])
                self._start = stop
                return message
        self._make_room(needed)
        return None

    def _make_room(self, needed: int) -> None:
        """Have free space behind what is there, so much that a frame of this size can grow.

        A larger buffer is made in steps, as bytes arrive: a length alone takes no memory.
        """
        start, size = self._start, self._end - self._start
        if size == 0 and len(self._buffer) > _KEPT_BYTES:
            self._replace(bytearray(BUFFER_BYTES), 0)
        elif start + needed <= len(self._buffer) and size:
            return
        elif size == len(self._buffer):
            self._replace(bytearray(min(needed, 2 * size)), size)
        elif start:
            self._view[:size] = self._view[start : self._end]
        self._start, self._end = 0, size

    def _replace(self, buffer: bytearray, size: int) -> None:
        """Go on with another buffer, which gets what is there."""
        buffer[:size] = self._view[self._start : self._end]
        self._buffer, self._view = buffer, memoryview(buffer)
