"""The calls of one worker's model to others, from their message to the last answer.

    Call      its large tensors lie in the worker's output arena, and are lent to the model called
    Answer    large outputs lie in that model's worker's arena, and are lent to this one
    Returned  the worker reads them no more

Who answers is not decided here: that is behind the door.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ...ipc import messages
from ...ipc.errors import StatusError
from ...ipc.messages import Answer, AskReady, Done, LoadModel, Returned, UnloadModel, Withdraw
from ...ipc.tensor import INLINE_LIMIT_BYTES, Span, Tensor
from ..memory.buffers import InputArena, OutputArena
from ..memory.lending import lend, loan_of
from ..request import ArenaReader, Hold, InferRequest, InferResponse, RequestedOutput
from ..scheduling.scheduler import Work

#: A question that is no inference request.
Control = LoadModel | UnloadModel | AskReady

#: What a worker may say of its calls.
CallMessage = messages.Call | Withdraw | Returned | Control
CALL_MESSAGES = (messages.Call, Withdraw, Returned, LoadModel, UnloadModel, AskReady)


class Caller(Protocol):
    """An instance whose model calls others."""

    @property
    def loading(self) -> str:
        """The name of its model while that is being loaded; "" afterwards."""
        ...

    @property
    def executing(self) -> Collection[int]:
        """The numbers of the batches that it has begun and not ended."""
        ...

    def work_of(self, key: int) -> Work | None:
        """An open request, by its key; without one the only one that there is."""
        ...

    def execution_of(self, work: Work) -> Execution | None:
        """The execution of an open request, unless it is over or has not begun."""
        ...

    def calls_now(self) -> None:
        """What it executes waits for another model."""
        ...


class Execution(NamedTuple):
    """A batch that an instance executes, by its number there."""

    instance: Caller
    number: int

    @property
    def is_under_way(self) -> bool:
        """Whether it has not ended."""
        return self.number in self.instance.executing


@dataclass(slots=True, eq=False)
class ModelCall:
    """A request that a model has made, until it is answered for the last time."""

    number: int
    request: InferRequest
    #: Whether it may be answered more than once.
    decoupled: bool
    #: Who wants to know of each answer, on the event loop.
    respond: Callable[[InferResponse], None]
    #: What does not end before it is answered: an execution of the model that has made it, and
    #: the call that this model answers.
    execution: Execution | None = None
    serves: object = None
    #: The request on its way, once it is.
    work: Work | None = None
    #: Ends it early, once it is under way; the final answer still comes.
    cancel: Callable[[], None] | None = None
    #: Nobody waits for it any more.
    abandoned: bool = False


class Door(Protocol):
    """Where calls go: the server, as a client of itself."""

    def infer(self, call: ModelCall) -> None:
        """Have a request answered; what is wrong with it is an answer too, and may come at once."""
        ...

    def control(self, question: Control, asker: str, answer: Callable[[Done], None]) -> None:
        """Have a model loaded or unloaded, or say whether it is ready.

        `asker` is the model whose own load waits for that, "" for none.
        """
        ...


class Reader(ArenaReader, Protocol):
    """A worker, as somebody who is told answers."""

    def send(self, message: messages.ToWorker) -> None:
        """Queue a message for the worker."""
        ...


class WorkerCalls:
    """What one worker has asked for and not got yet, and what it was lent."""

    def __init__(
        self,
        door: Door,
        caller: Caller,
        outputs: OutputArena,
        inputs: InputArena,
        worker: Reader,
    ) -> None:
        self._door = door
        self._caller = caller
        self._outputs = outputs
        #: Where answers are put that lie in no arena: those of the response cache.
        self._inputs = inputs
        self._worker = worker
        self._open: dict[int, ModelCall] = {}
        self._lent: dict[int, Hold] = {}
        self._loans = itertools.count(1)
        self._closed = False

    def __repr__(self) -> str:
        return f"<WorkerCalls: {len(self._open)} open, {len(self._lent)} tensors lent>"

    def take(self, message: CallMessage) -> None:
        """The worker has said this."""
        if isinstance(message, messages.Call):
            self._begin(message)
        elif isinstance(message, Withdraw):
            self._withdraw(message.call)
        elif isinstance(message, Returned):
            self._give_back(message.loans)
        else:
            self._door.control(message, self._caller.loading, self._tell)

    def close(self) -> None:
        """The worker is gone: cancel what it has asked for, and take back what it was lent."""
        self._closed = True
        for number in list(self._open):
            self._withdraw(number)
        lent, self._lent = self._lent, {}
        for hold in lent.values():
            hold.release()

    # --- inside -----------------------------------------------------------------------------------

    def _begin(self, message: messages.Call) -> None:
        number = message.request.key
        request = self._request(message)

        def respond(response: InferResponse) -> None:
            self._answer(call, response)

        call = ModelCall(number, request, message.decoupled, respond)
        request.call = call
        self._trace_back(call, message)
        self._open[number] = call
        if call.execution is not None:
            self._caller.calls_now()
        self._door.infer(call)

    def _trace_back(self, call: ModelCall, message: messages.Call) -> None:
        """Say what the call was made for."""
        work = self._caller.work_of(message.within)
        if work is not None:
            call.serves = work.request.call
            if message.waits:
                call.execution = self._caller.execution_of(work)
        traced = self._caller.work_of(message.traced) if message.traced else None
        if traced is not None and traced.request.trace is not None:
            call.request.trace = traced.request.trace.child()

    def _withdraw(self, number: int) -> None:
        """Nobody wants more answers to a call."""
        call = self._open.get(number)
        if call is not None:
            call.abandoned = True
            if call.cancel is not None:
                call.cancel()

    def _give_back(self, loans: Iterable[int]) -> None:
        """The worker reads these outputs no more."""
        for number in loans:
            self._lent.pop(number).release()

    def _request(self, message: messages.Call) -> InferRequest:
        asked = message.request
        request = InferRequest(
            message.model,
            None if message.version == -1 else message.version,
            [],
            [RequestedOutput(name) for name in asked.outputs],
            asked.id,
            asked.parameters,
            asked.correlation_id,
            asked.flags,
            timeout_us=asked.timeout_us,
        )
        for tensor in asked.inputs:
            data = tensor.data
            if isinstance(data, Span):
                data = lend(self._outputs.view(data), request, request)
            request.inputs.append(Tensor(tensor.name, tensor.datatype, tensor.shape, data))
        return request

    def _answer(self, call: ModelCall, response: InferResponse) -> None:
        if response.final:
            del self._open[call.number]
        if self._closed:
            return
        loans: dict[str, int] = {}
        try:
            outputs = [self._lend(tensor, loans) for tensor in response.outputs]
            failure = response.error
        except StatusError as error:  # no room for them
            self._give_back(loans.values())
            outputs, loans, failure = [], {}, error
        told = messages.Response(
            call.number,
            outputs,
            response.final,
            None if failure is None else messages.error_of(failure),
            response.parameters,
        )
        self._worker.send(Answer(told, loans, list(loans) if response.kept else []))

    def _lend(self, tensor: Tensor, loans: dict[str, int]) -> Tensor:
        """An output as the worker reads it; what it has to give back is entered.

        Raises UnavailableError when there is no room for one that lies in no arena.
        """
        data = tensor.data
        assert isinstance(data, memoryview), "a model names no regions"
        span: Span
        hold: Hold
        loan = loan_of(data)
        if loan is not None:
            loan.show_to(self._worker)
            span, hold = loan.span, loan
        elif len(data) <= INLINE_LIMIT_BYTES:
            return tensor
        else:
            hold = lease = self._inputs.lease(len(data))
            try:
                lease.write(0, data)
            except StatusError:
                lease.release()
                raise
            span = lease.span(0, len(data))
        number = next(self._loans)
        self._lent[number] = hold
        loans[tensor.name] = number
        return Tensor(tensor.name, tensor.datatype, tensor.shape, span)

    def _tell(self, done: Done) -> None:
        if not self._closed:
            self._worker.send(done)
