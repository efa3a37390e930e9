"""How a descriptor gets from the supervisor into a worker: over the lifeline, under a number.

The message that speaks of the descriptor goes by the channel and names the same number; whichever
arrives first waits for the other.
"""

from __future__ import annotations

import socket
import struct
import threading

_NUMBER = struct.Struct("<Q")
_DESCRIPTOR = struct.Struct("i")


def send_descriptor(lifeline: socket.socket, number: int, descriptor: int) -> None:
    """Send a descriptor under a number; the caller keeps its own.

    Raises BlockingIOError when the worker does not read and the socket's buffer is full, and
    OSError when it is gone.
    """
    socket.send_fds(lifeline, [_NUMBER.pack(number)], [descriptor])


class DescriptorInbox:
    """The receiving end, which hands descriptors out by number in any order, to any thread."""

    def __init__(self, lifeline: socket.socket) -> None:
        self._lifeline = lifeline
        self._arrived: dict[int, int] = {}
        self._lock = threading.Lock()

    def take(self, number: int) -> int:
        """Wait for the descriptor of this number and hand it over; the caller closes it.

        Raises ConnectionError when the supervisor is gone, and OSError when this process may not
        have another descriptor.
        """
        with self._lock:
            return self._take(number)

    def _take(self, number: int) -> int:
        while number not in self._arrived:
            # Not by recv_fds, which forgets its flags: a program that the model starts must not
            # inherit the descriptor.
            data, ancillary, _flags, _address = self._lifeline.recvmsg(
                _NUMBER.size, socket.CMSG_LEN(_DESCRIPTOR.size), socket.MSG_CMSG_CLOEXEC
            )
            if not data:
                raise ConnectionError("the supervisor closed the lifeline")
            (arrived,) = _NUMBER.unpack(data)
            if not ancillary:
                raise OSError(
                    f"descriptor {arrived} of the supervisor did not arrive: this process has as "
                    f"many open files as it may have (see ulimit -n)"
                )
            [(_level, _kind, packed)] = ancillary
            (self._arrived[arrived],) = _DESCRIPTOR.unpack(packed)
        return self._arrived.pop(number)
