"""Everything that arrives at a worker, received by whichever thread happens to wait.

A worker has no receiving thread of its own: handing a message from one thread to another costs
more than the message. Whoever has to wait (the main loop for work, a thread for free arena space or
for an answer) becomes the leader, receives for all, files what is for others and wakes them; when
it has what it wanted, a follower takes the lead. So a thread that `execute` joins can still be
answered.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ..ipc.channel import WorkerChannel
from ..ipc.messages import (
    AttachArena,
    Cancel,
    Describe,
    Execute,
    Load,
    Release,
    Stop,
    ToWorker,
    Trim,
)

#: What the main loop does, one after the other.
Work = Describe | Load | AttachArena | Execute | Trim | Stop


class Inbox:
    """The one receiver of a worker's messages, shared by all its threads."""

    def __init__(self, channel: WorkerChannel, on_release: Callable[[list[int]], None]) -> None:
        self._channel = channel
        self._on_release = on_release
        self._changed = threading.Condition(threading.Lock())
        self._has_leader = False
        self._work: deque[Work] = deque()
        self._cancelled: set[int] = set()

    def next_work(self) -> Work:
        """Wait for the next thing that the main loop has to do."""
        work = self._work
        if not work:
            self.wait_for(lambda: bool(work))
        return work.popleft()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is asked again after every message."""
        while True:
            with self._changed:
                while not condition():
                    if not self._has_leader:
                        self._has_leader = True
                        break
                    self._changed.wait()
                else:
                    return
            self._receive_one()

    def is_cancelled(self, key: int) -> bool:
        """Whether the client of this request has gone, as far as anybody has said until now."""
        with self._changed:
            if self._has_leader:
                return key in self._cancelled
            while (message := self._channel.receive_nowait()) is not None:
                self._file(message)
            self._changed.notify_all()
            return key in self._cancelled

    def forget(self, key: int) -> None:
        """The request is answered for the last time; whether it was cancelled matters no more."""
        self._cancelled.discard(key)

    def _receive_one(self) -> None:
        """As the leader: receive one message, file it, and give up the lead."""
        message: ToWorker | None = None
        try:
            message = self._channel.receive()
        finally:
            with self._changed:
                self._has_leader = False
                if message is not None:
                    self._file(message)
                self._changed.notify_all()

    def _file(self, message: ToWorker) -> None:
        if isinstance(message, Release):
            self._on_release(message.offsets)
        elif isinstance(message, Cancel):
            self._cancelled.update(message.keys)
        else:
            self._work.append(message)
