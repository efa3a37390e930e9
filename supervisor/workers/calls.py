"""The calls of one worker's model to others, from their message to the last answer.

    Call      its large tensors lie in the worker's output arena, and are lent to the model called
    Answer    large outputs lie in that model's worker's arena, and are lent to this one
    Returned  the worker reads them no more

Who answers is not decided here: that is behind the door.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...ipc import messages
from ...ipc.errors import StatusError
from ...ipc.messages import Answer, AskReady, Done, LoadModel, UnloadModel
from ...ipc.tensor import INLINE_LIMIT_BYTES, Span, Tensor
from ..memory.buffers import InputArena, OutputArena
from ..memory.lending import lend, loan_of
from ..request import ArenaReader, Hold, InferRequest, InferResponse, RequestedOutput, RequestTrace

#: A question that is no inference request.
Control = LoadModel | UnloadModel | AskReady


@dataclass(slots=True, eq=False)
class ModelCall:
    """A request that a model has made, until it is answered for the last time."""

    number: int
    request: InferRequest
    #: Whether it may be answered more than once.
    decoupled: bool
    #: Who wants to know of each answer, on the event loop.
    respond: Callable[[InferResponse], None]
    #: Ends it early, once it is under way; the final answer still comes.
    cancel: Callable[[], None] | None = None
    #: Nobody waits for it any more.
    abandoned: bool = False


class Door(Protocol):
    """Where calls go: the server, as a client of itself."""

    def infer(self, call: ModelCall) -> None:
        """Have a request answered; what is wrong with it is an answer too, and may come at once."""
        ...

    def control(self, question: Control, answer: Callable[[Done], None]) -> None:
        """Have a model loaded or unloaded, or say whether it is ready."""
        ...


class WorkerCalls:
    """What one worker has asked for and not got yet, and what it was lent."""

    def __init__(
        self,
        door: Door,
        outputs: OutputArena,
        inputs: InputArena,
        worker: ArenaReader,
        send: Callable[[messages.ToWorker], None],
    ) -> None:
        self._door = door
        self._outputs = outputs
        #: Where answers are put that lie in no arena: those of the response cache.
        self._inputs = inputs
        self._worker = worker
        self._send = send
        self._open: dict[int, ModelCall] = {}
        self._lent: dict[int, Hold] = {}
        self._loans = itertools.count(1)
        self._closed = False

    def __repr__(self) -> str:
        return f"<WorkerCalls: {len(self._open)} open, {len(self._lent)} tensors lent>"

    def begin(self, message: messages.Call, trace: RequestTrace | None) -> None:
        """The model has made a request, to be traced as a part of this trace."""
        number = message.request.key
        request = self._request(message)
        if trace is not None:
            request.trace = trace.child()

        def respond(response: InferResponse) -> None:
            self._answer(call, response)

        call = ModelCall(number, request, message.decoupled, respond)
        self._open[number] = call
        self._door.infer(call)

    def withdraw(self, number: int) -> None:
        """The model wants no more answers to a call."""
        call = self._open.get(number)
        if call is not None:
            call.abandoned = True
            if call.cancel is not None:
                call.cancel()

    def control(self, question: Control) -> None:
        """The model asks for something else than an inference."""
        self._door.control(question, self._tell)

    def returned(self, loans: Sequence[int]) -> None:
        """The worker reads these outputs no more."""
        for number in loans:
            self._lent.pop(number).release()

    def close(self) -> None:
        """The worker is gone: cancel what it has asked for, and take back what it was lent."""
        self._closed = True
        for number in list(self._open):
            self.withdraw(number)
        lent, self._lent = self._lent, {}
        for hold in lent.values():
            hold.release()

    # --- inside -----------------------------------------------------------------------------------

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
            self.returned(list(loans.values()))
            outputs, loans, failure = [], {}, error
        told = messages.Response(
            call.number,
            outputs,
            response.final,
            None if failure is None else messages.error_of(failure),
            response.parameters,
        )
        self._send(Answer(told, loans, list(loans) if response.kept else []))

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
            self._send(done)
