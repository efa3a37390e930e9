"""The other end of a worker, held by a test: its channel, its arenas and its lifeline."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType

import msgspec

from tritonpy.ipc.arena import MappedArena, create_memory
from tritonpy.ipc.channel import WorkerChannel
from tritonpy.ipc.descriptors import send_descriptor
from tritonpy.ipc.frames import FrameReader, framed
from tritonpy.ipc.messages import AttachArena, FromWorker, ToWorker
from tritonpy.ipc.tensor import Span, Tensor

#: Longer than anything here takes; what has not happened by then never will.
TIMEOUT = 30.0


class Peer:
    """A supervisor of one worker, without its loop: every message is sent and awaited by hand.

    `channel` is the worker's end where the test runs the worker's parts in this process. Where the
    worker is a process of its own (`apart`), it inherits `workers_end`.
    """

    def __init__(self, *, apart: bool = False) -> None:
        self.lifeline, self.workers_lifeline = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        self._arenas: dict[int, MappedArena] = {}
        self._connection, self.workers_end = socket.socketpair()
        self._connection.settimeout(TIMEOUT)
        self._reader = FrameReader(self._connection)
        self._channel = None if apart else WorkerChannel(self.workers_end)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._channel is not None:
            self._channel.close()
        self.workers_end.close()
        self._connection.close()
        self.lifeline.close()
        self.workers_lifeline.close()

    @property
    def channel(self) -> WorkerChannel:
        """The worker's end, in this process."""
        assert self._channel is not None, "the worker is a process of its own"
        return self._channel

    def send(self, message: ToWorker) -> None:
        """Send a message to the worker."""
        self._connection.sendall(framed(self._encode(message)))

    def receive(self) -> FromWorker:
        """Wait for the next message of the worker."""
        while (data := self._reader.take()) is None:
            self._reader.fill()
        return self._decode(data)

    def attach(self, number: int, size: int) -> MappedArena:
        """Give the worker an arena, and return it as this end sees it."""
        descriptor = create_memory("tritonpy-test", size)
        arena = self._arenas[number] = MappedArena(descriptor, size, writable=True)
        send_descriptor(self.lifeline, number, descriptor)
        os.close(descriptor)
        self.send(AttachArena(number, size))
        return arena

    def data_of(self, tensor: Tensor) -> bytes:
        """The bytes of a tensor, wherever it lies."""
        data = tensor.data
        if isinstance(data, Span):
            return bytes(self._arenas[data.arena].view(data.offset, data.size))
        assert isinstance(data, memoryview)
        return bytes(data)


class Background(threading.Thread):
    """A call on a thread of its own, whose outcome is asked for in the end."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._result: object = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Run the call."""
        try:
            self._result = self._call()
        except BaseException as error:  # told in `result`
            self._error = error

    def result(self) -> object:
        """Wait for the call, and return or raise what it did."""
        self.join(TIMEOUT)
        assert not self.is_alive(), "the call never returned"
        if self._error is not None:
            raise self._error
        return self._result
