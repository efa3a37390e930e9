"""The calls of a model to others: requests out, answers in, from any thread.

There is no thread that waits for answers. Whoever waits for one receives for all (inbox.py); only
for coroutines, which must not block, one thread receives as long as any of them waits.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from ..ipc import messages
from ..ipc.channel import WorkerChannel
from ..ipc.errors import InternalError, StatusError, UnavailableError, from_code
from ..ipc.messages import (
    Answer,
    AskReady,
    DeclareFamily,
    Done,
    LoadModel,
    MetricChanges,
    Returned,
    UnloadModel,
    Withdraw,
)
from ..ipc.tensor import Span, Tensor
from . import execution
from .inbox import Inbox
from .memory import Memory
from .peers import Outgoing, Reply


class Call:
    """A request to another model, and the replies that nobody has taken yet."""

    __slots__ = ("_calls", "number", "on_reply", "replies")

    def __init__(self, calls: Calls, number: int, on_reply: Callable[[], None] | None) -> None:
        self._calls = calls
        self.number = number
        self.on_reply = on_reply
        self.replies: deque[Reply] = deque()

    def __repr__(self) -> str:
        return f"<Call {self.number}: {len(self.replies)} replies>"

    def next(self) -> Reply:
        """Wait for the next reply; none comes after a final one."""
        while True:
            try:
                return self.replies.popleft()
            except IndexError:
                self._calls.wait_for(self._has_reply)

    def withdraw(self) -> None:
        """Say that no more replies are wanted; a final one still comes."""
        self._calls.withdraw(self)

    def forget(self) -> None:
        """Drop all replies that have come and are to come."""
        self._calls.forget(self)

    def _has_reply(self) -> bool:
        return bool(self.replies)


class Calls:
    """All calls of this worker that are not answered for the last time.

    Dictionaries are changed by single operations only, which Python makes whole: no lock.
    """

    def __init__(self, memory: Memory, inbox: Inbox, channel: WorkerChannel) -> None:
        self._memory = memory
        self._inbox = inbox
        self._channel = channel
        self._numbers = itertools.count(1)
        self._open: dict[int, Call] = {}
        #: What came of the questions that are no requests.
        self._done: dict[int, Done] = {}
        #: Calls whose first reply a coroutine waits for.
        self._awaited: set[int] = set()
        self._has_awaited = threading.Event()
        self._receiver: threading.Thread | None = None
        self._starting = threading.Lock()

    def __repr__(self) -> str:
        return f"<Calls: {len(self._open)} open, {len(self._awaited)} of coroutines>"

    def ask(self, outgoing: Outgoing, on_reply: Callable[[], None] | None = None) -> Call:
        """Send a request. `on_reply` is called once, by any thread, when a reply is there.

        Raises StatusError when the request cannot be sent.
        """
        call = Call(self, next(self._numbers), on_reply)
        tensors: list[Tensor] = []
        try:
            for name, array in outgoing.inputs:
                tensors.append(self._memory.place(name, array, self._inbox.wait_for))
        except BaseException as error:
            self._memory.discard(tensors)
            self._inbox.wake()
            raise _status_of(error) from error
        self._open[call.number] = call
        if on_reply is not None:
            self._receive_for_coroutines(call.number)
        self._memory.hand_over(tensors)
        try:
            self._channel.send(_message(call.number, outgoing, tensors))
        except Exception as error:  # what cannot be encoded
            self.forget(call)
            self._memory.release([t.data.offset for t in tensors if isinstance(t.data, Span)])
            self._inbox.wake()
            raise _status_of(error) from error
        return call

    def load(self, model: str, config: str, files: Mapping[str, bytes]) -> None:
        """Have a model loaded, and wait for it. Raises StatusError."""
        number = next(self._numbers)
        self._answered(number, LoadModel(number, model, config, dict(files)))

    def unload(self, model: str, *, dependents: bool) -> None:
        """Have a model unloaded. Raises StatusError."""
        number = next(self._numbers)
        self._answered(number, UnloadModel(number, model, dependents))

    def is_ready(self, model: str, version: str) -> bool:
        """Whether a version is ready; "" is any. Raises StatusError."""
        number = next(self._numbers)
        return self._answered(number, AskReady(number, model, version)).ready

    def declare_family(self, name: str, description: str, kind: str) -> None:
        """Have a metric family. Raises InvalidArgumentError when its name stands for another."""
        number = next(self._numbers)
        self._answered(number, DeclareFamily(number, name, description, kind))

    def tell_metrics(self, changes: MetricChanges) -> None:
        """Tell how the model's own metrics have changed."""
        self._channel.send(changes)

    def withdraw(self, call: Call) -> None:
        """Say that no more replies to a call are wanted, unless the last one has come."""
        if call.number in self._open:
            self._channel.send(Withdraw(call.number))

    def forget(self, call: Call) -> None:
        """Nobody will take the replies to a call."""
        self._open.pop(call.number, None)
        self._awaited.discard(call.number)
        call.replies.clear()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds. Raises UnavailableError when the worker ends before."""
        self._inbox.wait_for(condition)

    def take(self, message: Answer | Done) -> None:
        """File what has arrived; called by whoever receives."""
        if isinstance(message, Done):
            self._done[message.call] = message
            return
        number, final = message.response.key, message.response.final
        call = self._open.pop(number, None) if final else self._open.get(number)
        reply = self._reply(message)  # also of one that nobody wants: its memory goes back with it
        if call is None:
            return
        call.replies.append(reply)
        on_reply, call.on_reply = call.on_reply, None
        if on_reply is not None:
            self._awaited.discard(number)
            on_reply()

    # --- inside -----------------------------------------------------------------------------------

    def _answered(
        self, number: int, message: LoadModel | UnloadModel | AskReady | DeclareFamily
    ) -> Done:
        try:
            self._channel.send(message)
        except (TypeError, ValueError, OverflowError) as error:
            raise InternalError(f"the request cannot be sent: {error}") from None
        self._inbox.wait_for(lambda: number in self._done)
        done = self._done.pop(number)
        if done.error is not None:
            raise from_code(done.error.code, done.error.message)
        return done

    def _reply(self, message: Answer) -> Reply:
        response = message.response
        if response.error is not None:
            error = from_code(response.error.code, response.error.message)
            return Reply(error=error, final=response.final)
        reply = Reply(parameters=response.parameters, final=response.final)
        try:
            for tensor in response.outputs:
                name = tensor.name
                loan = message.loans.pop(name, 0)
                if loan:
                    given_back = partial(self._give_back, [loan])
                    shared = name in message.shared
                    reply.outputs[name] = self._memory.lent(tensor, given_back, shared=shared)
                else:
                    reply.outputs[name] = self._memory.array(tensor, "", "")
        except Exception as error:  # whoever receives must go on; whoever asked is told
            if message.loans:
                self._give_back(list(message.loans.values()))
            return Reply(error=_status_of(error), final=response.final)
        return reply

    def _give_back(self, loans: list[int]) -> None:
        self._channel.send(Returned(loans))

    def _receive_for_coroutines(self, number: int) -> None:
        """See to it that somebody receives until this call has a reply."""
        self._awaited.add(number)
        self._has_awaited.set()
        if self._receiver is None:
            with self._starting:
                if self._receiver is None:
                    self._receiver = threading.Thread(
                        target=self._receive, name="receiver", daemon=True
                    )
                    self._receiver.start()

    def _receive(self) -> None:
        try:
            while True:
                self._has_awaited.wait()
                self._inbox.wait_for(self._has_all)
        except UnavailableError:
            pass  # the worker ends, and its coroutines with it

    def _has_all(self) -> bool:
        """Whether no coroutine waits any more; then the receiver sleeps until one does."""
        if self._awaited:
            return False
        self._has_awaited.clear()
        if self._awaited:  # just now
            self._has_awaited.set()
            return False
        return True


def _message(number: int, outgoing: Outgoing, tensors: list[Tensor]) -> messages.Call:
    request = messages.Request(
        number,
        tensors,
        list(outgoing.outputs),
        outgoing.id,
        outgoing.parameters,
        outgoing.correlation_id,
        outgoing.flags,
        timeout_us=outgoing.timeout_us,
    )
    within, waits = execution.origin()
    return messages.Call(
        outgoing.model,
        outgoing.version,
        request,
        outgoing.decoupled,
        within,
        waits,
        outgoing.traced,
    )


def _status_of(error: BaseException) -> StatusError:
    if isinstance(error, StatusError):
        return error
    if isinstance(error, Exception):
        return InternalError(f"{type(error).__name__}: {error}")
    raise error
