"""The message channel between the supervisor and one worker: a pair of connected stream sockets.

The supervisor makes the pair before it starts the worker, which inherits its end. There is no
address, nothing to connect, and the end of the connection is the end of the worker's process.

Neither side can lock the other up. The supervisor never waits: what the socket does not take is
kept, and sent when it does; how much that is, is bounded by credits (the pool sends a worker no
more batches than it has slots). So it always reads, and a worker that waits in `send` goes on,
however much it has been sent meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable

import msgspec

from .frames import FrameReader, framed
from .messages import FromWorker, ToWorker

#: After so many messages the loop gets a turn, lest one busy worker starve everybody else.
MESSAGES_PER_WAKE = 64

#: How much may be under way, as far as the system allows: answers of large batches should not have
#: to wait for their reader.
_SOCKET_BYTES = 1 << 20


class SupervisorChannel:
    """The supervisor's end, on the event loop: sends never wait, messages arrive by callback.

    `on_error` is told of a message that cannot be read, or at which `on_message` failed.
    """

    def __init__(
        self, on_message: Callable[[FromWorker], None], on_error: Callable[[Exception], None]
    ) -> None:
        self._on_message = on_message
        self._on_error = on_error
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
        self._connection: socket.socket | None = None
        self._reader: FrameReader | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: What the socket did not take, or was not asked to take yet.
        self._unsent = bytearray()
        #: A message was sent in this turn of the loop, or the socket is full: what follows is
        #: gathered, for one system call and one waking of the worker.
        self._gathers = False
        #: More messages have been read than one turn of the loop delivers.
        self._is_behind = False

    def open(self) -> socket.socket:
        """Make the pair and listen on the running loop; returns the worker's end.

        The caller passes that on, and closes it. Raises OSError when the system refuses.
        """
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (self._connection, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        self._connection.setblocking(False)
        self._reader = FrameReader(self._connection)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._connection.fileno(), self._receive)
        return theirs

    def send(self, message: ToWorker) -> None:
        """Send a message to the worker, or keep what the socket does not take.

        The first one of a turn of the loop goes at once, and the others together at its end.
        Its buffers are copied before this returns. When the worker is gone the message is dropped:
        its exit tells the rest.
        """
        frame = framed(self._encode(message))
        connection, loop = self._connection, self._loop
        assert connection is not None, "open() comes first"
        assert loop is not None
        if self._gathers:
            self._unsent += frame
            return
        try:
            sent = connection.send(frame)
        except BlockingIOError:
            sent = 0
        except ConnectionError:
            return
        self._gathers = True
        if sent < len(frame):
            self._unsent += frame[sent:]
            loop.add_writer(connection.fileno(), self._send_unsent)
        else:
            loop.call_soon(self._send_gathered)

    def drain(self) -> None:
        """Deliver everything that the worker has said, however much: for when it has died.

        A process that a model forked may hold the worker's end, and may even write. So this end is
        closed to more first, and what lies in it is all there is.
        """
        if self._connection is None:
            return
        self._connection.shutdown(socket.SHUT_RD)
        while True:
            while self._deliver_some():
                pass
            if self._reader is None or not self._fill(self._reader):
                return

    def close(self) -> None:
        """Stop listening and forget what was not sent."""
        if self._connection is not None:
            assert self._loop is not None
            self._loop.remove_reader(self._connection.fileno())
            self._loop.remove_writer(self._connection.fileno())
            self._unsent.clear()
            self._connection.close()
            self._connection = self._reader = None

    def _send_gathered(self) -> None:
        """The turn of the loop is over: send what was gathered since its first message."""
        connection, loop = self._connection, self._loop
        if connection is None:
            return
        if self._unsent and not self._send_some(connection):
            assert loop is not None
            loop.add_writer(connection.fileno(), self._send_unsent)
        else:
            self._gathers = False

    def _send_unsent(self) -> None:
        """The socket takes more."""
        assert self._connection is not None
        assert self._loop is not None
        if self._send_some(self._connection):
            self._gathers = False
            self._loop.remove_writer(self._connection.fileno())

    def _send_some(self, connection: socket.socket) -> bool:
        """Send what the socket takes of what is not sent; True when that is all."""
        try:
            del self._unsent[: connection.send(self._unsent)]
        except BlockingIOError:
            return False
        except ConnectionError:
            self._unsent.clear()
        return not self._unsent

    def _receive(self) -> None:
        """The socket is readable."""
        assert self._reader is not None
        if self._is_behind:
            return  # what has been read comes first
        if self._fill(self._reader):
            self._deliver()
        else:
            assert self._connection is not None
            assert self._loop is not None
            self._loop.remove_reader(self._connection.fileno())  # it would be readable for ever

    def _fill(self, reader: FrameReader) -> bool:
        """Read once; False when the worker's end is closed and everything is read."""
        try:
            reader.fill()
        except BlockingIOError:
            pass
        except ConnectionError:
            return False
        return True

    def _deliver(self) -> None:
        self._is_behind = self._deliver_some()
        if self._is_behind:
            assert self._loop is not None
            self._loop.call_soon(self._deliver)

    def _deliver_some(self) -> bool:
        """Deliver up to MESSAGES_PER_WAKE messages; True when there may be more."""
        for _ in range(MESSAGES_PER_WAKE):
            # A callback may have closed the channel.
            reader = self._reader
            if reader is None or (data := reader.take()) is None:
                return False
            try:
                self._on_message(self._decode(data))
            except Exception as error:  # one bad message must not keep back those behind it
                self._on_error(error)
        return True


class WorkerChannel:
    """The worker's end: receives block, and any thread may send.

    Only one thread at a time may receive, and none while it is closed; the inbox sees to that.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        # What a model starts must not hold the connection.
        connection.set_inheritable(False)
        self._connection = connection
        self._reader = FrameReader(connection)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode: Callable[[bytes], ToWorker] = msgspec.msgpack.Decoder(ToWorker).decode
        # Reentrant: the garbage collector may run in the middle of a send, and what a model's
        # finalizers do there includes logging, which sends.
        self._sending = threading.RLock()
        self._unsent: deque[bytes] = deque()
        self._is_closed = False
        self._wakes = os.eventfd(0)
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)
        self._poll.register(self._wakes, select.POLLIN)

    def send(self, message: FromWorker) -> None:
        """Send a message to the supervisor, waiting while too much is under way.

        Its buffers are copied before this returns. After `close`, or when the supervisor is gone,
        nobody listens, and the message is dropped.
        """
        frame = framed(self._encode(message))
        with self._sending:
            self._unsent.append(frame)
            if len(self._unsent) > 1:
                return  # this very thread is in the middle of a send, which goes on with this one
            while self._unsent:
                try:
                    if not self._is_closed:
                        self._connection.sendall(self._unsent[0], socket.MSG_NOSIGNAL)
                except ConnectionError:
                    pass
                finally:
                    self._unsent.popleft()

    def receive(self) -> ToWorker:
        """Wait for the next message. Raises ConnectionError when the supervisor is gone."""
        while (data := self._reader.take()) is None:
            self._reader.fill()
        return self._decode(data)

    def receive_unless_woken(self) -> ToWorker | None:
        """Wait for the next message; None when it was `wake` that ended the waiting.

        Costs one more system call than `receive`. Raises ConnectionError likewise.
        """
        while (data := self._reader.take()) is None:
            ready = [descriptor for descriptor, _events in self._poll.poll()]
            if self._wakes in ready:
                os.eventfd_read(self._wakes)
                return None
            self._reader.fill()
        return self._decode(data)

    def receive_nowait(self) -> ToWorker | None:
        """The next message, or None when none has arrived. Raises ConnectionError likewise."""
        if self._is_closed:
            return None
        while (data := self._reader.take()) is None:
            try:
                self._reader.fill(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
        return self._decode(data)

    def wake(self) -> None:
        """Have the thread that is in `receive_unless_woken`, or else the next one, return."""
        os.eventfd_write(self._wakes, 1)

    def close(self) -> None:
        """Close this end; what was sent arrives."""
        with self._sending:
            self._close()

    def abandon(self) -> None:
        """Close this end in a forked child, whose parent goes on with it."""
        # Another thread, which the child does not have, may hold the lock.
        self._sending = threading.RLock()
        self._unsent.clear()
        self._close()

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._connection.close()
            os.close(self._wakes)
