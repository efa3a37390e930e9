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
from ..ipc.errors import UnavailableError
from ..ipc.messages import (
    Answer,
    AttachArena,
    AttachClaims,
    AttachCudaRegion,
    AttachReadiness,
    AttachRegion,
    Cancel,
    Describe,
    DetachArena,
    DetachRegion,
    Done,
    Execute,
    Load,
    Release,
    Stop,
    ToWorker,
    Trim,
)
from .ongoing import Ongoing

#: What the main loop does, one after the other.
Work = (
    Describe
    | Load
    | DetachArena
    | AttachRegion
    | AttachCudaRegion
    | DetachRegion
    | AttachClaims
    | AttachReadiness
    | Execute
    | Ongoing
    | Trim
    | Stop
)


class Inbox:
    """The one receiver of a worker's messages, shared by all its threads.

    It knows which requests are open: they have arrived and are not answered for the last time.
    """

    def __init__(self, channel: WorkerChannel, on_release: Callable[[list[int]], None]) -> None:
        self._channel = channel
        self._on_release = on_release
        #: What is done at once by whoever receives, since a busy main loop may wait for it.
        self.on_arena: Callable[[AttachArena], None] = _nothing
        self.on_answer: Callable[[Answer | Done], None] = _nothing
        # Reentrant: the garbage collector may run a model's finalizers anywhere, and one of them
        # may end a request.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._has_leader = False
        #: How many threads wait for the leader, or for the lead.
        self._followers = 0
        self._closed = False
        self._work: deque[Work] = deque()
        self._open: set[int] = set()
        #: A part of the open ones.
        self._cancelled: set[int] = set()

    def __repr__(self) -> str:
        return (
            f"<Inbox: {len(self._work)} things to do, {len(self._open)} open requests, "
            f"{len(self._cancelled)} of them cancelled>"
        )

    def next_work(self, *, only_messages: bool = False) -> Work:
        """Wait for the next thing that the main loop has to do.

        With `only_messages` nobody may `add` anything meanwhile: a system call less.
        """
        work = self._work
        while not work:
            channel = self._channel
            receive = channel.receive if only_messages else channel.receive_unless_woken
            self._take_turn(self._has_work, receive)
        return work.popleft()

    def _has_work(self) -> bool:
        return bool(self._work)

    def add(self, work: Work) -> None:
        """Give the main loop something to do that no message has brought; from any thread."""
        with self._lock:
            self._work.append(work)
            self.wake()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is asked again after every message and `wake`.

        Raises UnavailableError when the inbox is closed.
        """
        while self._take_turn(condition, self._channel.receive_unless_woken):
            pass

    def _take_turn(
        self, condition: Callable[[], bool], receive: Callable[[], ToWorker | None]
    ) -> bool:
        """Wait until the condition holds (False), or until this thread has led: then ask again."""
        with self._lock:
            while not condition():
                if self._closed:
                    raise UnavailableError("the model is being unloaded")
                if not self._has_leader:
                    self._has_leader = True
                    break
                self._follow()
            else:
                return False
        self._receive_one(receive)
        return True

    def _follow(self) -> None:
        """Wait for a change; called with the lock."""
        self._followers += 1
        try:
            self._changed.wait()
        finally:
            self._followers -= 1

    def wake(self) -> None:
        """Have every waiting thread ask its condition again: something else than a message came."""
        with self._lock:
            if self._has_leader:
                self._channel.wake()
            if self._followers:
                self._changed.notify_all()

    def close(self) -> None:
        """Stop receiving: who waits now or later gets an error. The channel may be closed then."""
        with self._lock:
            self._closed = True
            self.wake()
            while self._has_leader:
                self._follow()

    def is_open(self, key: int) -> bool:
        """Whether the request may still be answered."""
        return key in self._open

    def is_cancelled(self, key: int) -> bool:
        """Whether the client of this request has gone, as far as anybody has said until now."""
        with self._lock:
            if self._has_leader or self._closed:
                return key in self._cancelled
            self._has_leader = True
        try:
            while (message := self._channel.receive_nowait()) is not None:
                self._file(message)
        finally:
            self._step_down()
        return key in self._cancelled

    def finish(self, key: int) -> bool:
        """Claim the last answer to a request: True for the first who does, and for nobody else."""
        with self._lock:
            if key not in self._open:
                return False
            self._open.discard(key)
            self._cancelled.discard(key)
            return True

    def forget(self, taken_back: Execute) -> None:
        """Close the requests of this batch, apart from those that another one brings again."""
        with self._lock:
            waiting = (work for work in self._work if isinstance(work, Execute))
            again = {request.key for work in waiting for request in work.requests}
            gone = {request.key for request in taken_back.requests} - again
            self._open -= gone
            self._cancelled -= gone

    def _receive_one(self, receive: Callable[[], ToWorker | None]) -> None:
        """As the leader: receive one message, file it, and give up the lead."""
        try:
            message = receive()
            if message is not None:
                self._file(message)
        finally:
            self._step_down()

    def _step_down(self) -> None:
        with self._lock:
            self._has_leader = False
            if self._followers:
                self._changed.notify_all()

    def _file(self, message: ToWorker) -> None:
        if isinstance(message, Execute):
            with self._lock:
                self._open.update([each.key for each in message.requests if not each.null])
                self._work.append(message)
            return
        if isinstance(message, Release):
            self._on_release(message.offsets)
            return
        if isinstance(message, (Answer, Done)):
            self.on_answer(message)
            return
        if isinstance(message, AttachArena):
            self.on_arena(message)
            return
        with self._lock:
            if isinstance(message, Cancel):
                # A late one names a request that is answered: nobody would ever forget it.
                self._cancelled.update(self._open.intersection(message.keys))
            else:
                self._work.append(message)


def _nothing(_message: object) -> None:
    """What is done for those that nobody handles."""
