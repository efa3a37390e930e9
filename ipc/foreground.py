"""How a worker that a person started in a terminal, and the server that it works for, meet.

The server is a child of the worker's process here, and inherits one end of a SEQPACKET socketpair:

    server ── Attach + descriptors of channel and lifeline ──> terminal    begin, as a fresh program
           ── Kill ──────────────────────────────────────────>             end what is running now
           <── Ended ─────────────────────────────────────────             it has, by itself or not

Everything else passes by the channel and the lifeline, as with any worker. There is no address:
nobody but these two processes can attach anything.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence

import msgspec

#: A message holds the variables of an environment.
_MOST_BYTES = 1 << 20
_MOST_DESCRIPTORS = 2


class Attach(msgspec.Struct, tag="attach", frozen=True):
    """Become the worker of this model instance, by this program and with these variables.

    `marks` are variables for what the worker starts itself.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    marks: dict[str, str]


class Kill(msgspec.Struct, tag="kill", frozen=True):
    """Stop being the worker that you are, whatever it does."""


class Ended(msgspec.Struct, tag="ended", frozen=True):
    """What was attached last has ended, with this status (negative: the signal)."""

    status: int


Message = Attach | Kill | Ended

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send a message; the caller keeps its descriptors. Raises OSError when nobody is there."""
    socket.send_fds(connection, [_encode(message)], list(descriptors))


def receive(connection: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message and its descriptors, which are the caller's; None at the end.

    Raises BlockingIOError when there is none and the socket does not wait, OSError and
    msgspec.DecodeError when something else comes.
    """
    size = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, _flags, _address = connection.recvmsg(
        _MOST_BYTES, size, socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, packed in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(packed[: len(packed) - len(packed) % descriptors.itemsize])
    if not data:
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    return _decoder.decode(data), list(descriptors)
