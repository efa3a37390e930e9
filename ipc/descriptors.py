"""How a descriptor gets from the supervisor into a worker: over the lifeline, under a number.

The message that speaks of the descriptor goes by ZeroMQ and names the same number; whichever
arrives first waits for the other.
"""

from __future__ import annotations

import socket
import struct

_NUMBER = struct.Struct("<Q")


def send_descriptor(lifeline: socket.socket, number: int, descriptor: int) -> None:
    """Send a descriptor under a number; the caller keeps its own.

    Raises BlockingIOError when the worker does not read and the socket's buffer is full, and
    OSError when it is gone.
    """
    socket.send_fds(lifeline, [_NUMBER.pack(number)], [descriptor])


class DescriptorInbox:
    """The receiving end, which hands descriptors out by number in any order."""

    def __init__(self, lifeline: socket.socket) -> None:
        self._lifeline = lifeline
        self._arrived: dict[int, int] = {}

    def take(self, number: int) -> int:
        """Wait for the descriptor of this number and hand it over; the caller closes it.

        Raises ConnectionError when the supervisor is gone.
        """
        while number not in self._arrived:
            data, descriptors, _flags, _address = socket.recv_fds(
                self._lifeline, _NUMBER.size, maxfds=1
            )
            if not data:
                raise ConnectionError("the supervisor closed the lifeline")
            (arrived,) = _NUMBER.unpack(data)
            (self._arrived[arrived],) = descriptors
        return self._arrived.pop(number)
