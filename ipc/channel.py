"""The message channel between the supervisor and one worker: two ZeroMQ PUSH/PULL pairs.

Each end binds its PULL socket in the worker's runtime directory and connects its PUSH socket to the
other's. The supervisor connects when the worker has said that it is up, so a send never waits for
a peer; neither queue is bounded, because what is in flight is bounded by credits (the pool sends a
worker no more batches than it has slots).

The supervisor's end is driven by the descriptor that ZeroMQ offers for polling. That descriptor
is edge-triggered: it says that something changed, not that something is there, so every wake-up
must read EVENTS until it is clear. `zmq.asyncio` does the same with a future for every message,
which costs more than the message.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import cast

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from .messages import FromWorker, ToWorker

#: After so many messages the loop gets a turn, lest one busy worker starve everybody else.
MESSAGES_PER_WAKE = 64

#: How long `drain` waits for the end of a dead worker's connection (seconds). Only a process that
#: a model forked, and that holds the connection too, makes it wait so long.
DRAIN_PATIENCE = 0.2

Socket = zmq.Socket[bytes]
Context = zmq.Context[zmq.Socket[bytes]]

_TO_WORKER = "to-worker"
_FROM_WORKER = "from-worker"
_WAKE = "inproc://wake"


def _socket(context: Context, kind: int) -> Socket:
    made = context.socket(kind)
    made.setsockopt(zmq.LINGER, 0)
    made.setsockopt(zmq.SNDHWM, 0)
    made.setsockopt(zmq.RCVHWM, 0)
    return made


def _bound(context: Context, address: str) -> Socket:
    """A PULL socket that listens there. Raises OSError when the system refuses."""
    made = _socket(context, zmq.PULL)
    try:
        made.bind(address)
    except zmq.ZMQError as error:
        made.close()
        raise OSError(error.errno, f"listening at {address} failed: {error.strerror}") from None
    return made


def _readable(pull: Socket) -> bool:
    return bool(cast(int, pull.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def _wait_for_disconnect(monitor: Socket) -> None:
    """Wait until everybody who connected has disconnected, or DRAIN_PATIENCE is over."""
    deadline = time.monotonic() + DRAIN_PATIENCE
    connected = 0
    while True:
        left = deadline - time.monotonic() if connected else 0.0
        if not monitor.poll(max(0, int(left * 1000))):
            return
        event = recv_monitor_message(monitor, zmq.NOBLOCK)["event"]
        connected += 1 if event == zmq.EVENT_ACCEPTED else -1


def _address(directory: str, name: str) -> str:
    path = os.path.join(directory, name)
    if len(os.fsencode(path)) > 107:
        raise ValueError(f"the socket path '{path}' is longer than the 107 bytes the system allows")
    return f"ipc://{path}"


class SupervisorChannel:
    """The supervisor's end, on the event loop: sends never wait, messages arrive by callback.

    `on_error` is told of a message that cannot be read, or at which `on_message` failed.
    """

    def __init__(
        self,
        context: Context,
        directory: str,
        on_message: Callable[[FromWorker], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._context = context
        self._directory = directory
        self._on_message = on_message
        self._on_error = on_error
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode: Callable[[bytes], FromWorker] = msgspec.msgpack.Decoder(FromWorker).decode
        self._push: Socket | None = None
        self._pull: Socket | None = None
        #: Tells of the worker's coming and going.
        self._monitor: Socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Bind, and listen on the running loop. To be called before the worker is started.

        Raises OSError when the system refuses, ValueError when the directory's path is too long.
        """
        self._loop = asyncio.get_running_loop()
        self._pull = _bound(self._context, _address(self._directory, _FROM_WORKER))
        self._monitor = self._pull.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._loop.add_reader(self._pull.fileno(), self._receive)
        self._receive()

    def connect(self) -> None:
        """Connect to the worker, which has said that it listens."""
        self._push = _socket(self._context, zmq.PUSH)
        self._push.connect(_address(self._directory, _TO_WORKER))

    def send(self, message: ToWorker) -> None:
        """Queue a message for the worker. Its buffers are copied before this returns."""
        assert self._push is not None, "connect() comes first"
        self._push.send(self._encode(message), zmq.NOBLOCK)

    def drain(self) -> None:
        """Deliver everything that the worker has said, however much: for when it has died.

        Its last messages may still be in the system's buffers, so this waits until the end of the
        connection has come through: some microseconds, and DRAIN_PATIENCE at most.
        """
        if self._monitor is not None:
            _wait_for_disconnect(self._monitor)
        while self._receive_some():
            pass

    def close(self) -> None:
        """Stop listening and forget what was not sent."""
        if self._pull is not None:
            assert self._loop is not None
            self._loop.remove_reader(self._pull.fileno())
            if self._monitor is not None:
                self._pull.disable_monitor()
                self._monitor.close()
                self._monitor = None
            self._pull.close()
            self._pull = None
        if self._push is not None:
            self._push.close()
            self._push = None

    def _receive(self) -> None:
        if self._receive_some():
            assert self._loop is not None
            self._loop.call_soon(self._receive)

    def _receive_some(self) -> bool:
        """Deliver up to MESSAGES_PER_WAKE messages; True when there may be more."""
        for _ in range(MESSAGES_PER_WAKE):
            # A callback may have closed the channel.
            pull = self._pull
            if pull is None or not _readable(pull):
                return False
            data = pull.recv(zmq.NOBLOCK)
            try:
                self._on_message(self._decode(data))
            except Exception as error:  # one bad message must not keep back those behind it
                self._on_error(error)
        return True


class WorkerChannel:
    """The worker's end: receives block, and any thread may send.

    Only one thread at a time may receive, only one may wake, and neither while it is closed; the
    inbox sees to that.
    """

    def __init__(self, directory: str) -> None:
        to_worker, from_worker = (_address(directory, name) for name in (_TO_WORKER, _FROM_WORKER))
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode: Callable[[bytes], ToWorker] = msgspec.msgpack.Decoder(ToWorker).decode
        self._context: Context = zmq.Context()
        # Reentrant: the garbage collector may run in the middle of a send, and what a model's
        # finalizers do there includes logging, which sends.
        self._sending = threading.RLock()
        self._pull = _bound(self._context, to_worker)
        self._pull.bind(_WAKE)
        self._waker = _socket(self._context, zmq.PUSH)
        self._waker.connect(_WAKE)
        self._push = _socket(self._context, zmq.PUSH)
        # The last words of a dying worker (a failed load) must still get out.
        self._push.setsockopt(zmq.LINGER, 5000)
        self._push.connect(from_worker)

    def send(self, message: FromWorker) -> None:
        """Send a message to the supervisor; its buffers are copied before this returns.

        After `close` nobody listens, and the message is dropped.
        """
        data = self._encode(message)
        with self._sending:
            if not self._push.closed:
                self._push.send(data)

    def wake(self) -> None:
        """Have the thread that is in `receive`, or else the next one, return without a message."""
        self._waker.send(b"")

    def receive(self) -> ToWorker | None:
        """Wait for the next message; None when it was `wake` that ended the waiting."""
        data = self._pull.recv()
        return self._decode(data) if data else None

    def receive_nowait(self) -> ToWorker | None:
        """The next message, or None when none has arrived."""
        while _readable(self._pull):
            data = self._pull.recv(zmq.NOBLOCK)
            if data:
                return self._decode(data)
        return None

    def close(self) -> None:
        """Send what is queued, then close."""
        with self._sending:
            self._push.close()
        self._waker.close()
        self._pull.close()
        self._context.term()
