"""A worker's calls on their way: what is lent to whom, when it comes back, and the worker's end."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Collection

import pytest
from support.fakes import identity_request

from tritonpy.ipc import messages
from tritonpy.ipc.arena import Arena
from tritonpy.ipc.errors import NotFoundError
from tritonpy.ipc.messages import (
    Answer,
    AskReady,
    Call,
    Done,
    Error,
    Request,
    Returned,
    ToWorker,
    Withdraw,
)
from tritonpy.ipc.tensor import INLINE_LIMIT_BYTES, Span, Tensor
from tritonpy.supervisor.memory.buffers import InputArena, OutputArena
from tritonpy.supervisor.request import InferResponse
from tritonpy.supervisor.scheduling.scheduler import Work
from tritonpy.supervisor.workers.calls import Control, Execution, ModelCall, WorkerCalls

pytestmark = pytest.mark.anyio

MEBIBYTE = 1 << 20
LARGE = bytes(range(256)) * (INLINE_LIMIT_BYTES // 128)


class FakeDoor:
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.calls: list[ModelCall] = []
        self.questions: list[tuple[Control, str, Callable[[Done], None]]] = []

    def infer(self, call: ModelCall) -> None:
        self.calls.append(call)

    def control(self, question: Control, asker: str, answer: Callable[[Done], None]) -> None:
        self.questions.append((question, asker, answer))


class FakeTrace:
    """Makes children only."""

    def __init__(self) -> None:
        self.children: list[FakeTrace] = []

    def child(self) -> FakeTrace:
        self.children.append(FakeTrace())
        return self.children[-1]


class FakeCaller:
    """The instance whose model calls, with one request."""

    def __init__(self) -> None:
        request = identity_request()
        request.trace = FakeTrace()  # type: ignore[assignment]
        self.work = Work(request, lambda _: None, lambda _work, _response, _failure: None)
        self.executing: Collection[int] = [3]
        self.loading = "mine"
        self.waits = 0

    def work_of(self, key: int) -> Work | None:
        return self.work if key in (0, self.work.key) else None

    def execution_of(self, work: Work) -> Execution | None:
        return Execution(self, 3) if self.executing else None

    def calls_now(self) -> None:
        self.waits += 1


class FakeWorker:
    """Keeps what it is told, and can read what it is shown."""

    def __init__(self) -> None:
        self.told: list[ToWorker] = []
        self.attached: dict[int, int] = {}

    def send(self, message: ToWorker) -> None:
        self.told.append(message)

    def attach_arena(self, number: int, descriptor: int, size: int) -> None:
        assert number not in self.attached, "an arena is shown once"
        self.attached[number] = os.dup(descriptor)

    def detach_arena(self, number: int) -> None:
        os.close(self.attached.pop(number))

    def read(self, span: Span) -> bytes:
        return os.pread(self.attached[span.arena], span.size, span.offset)

    def answer(self) -> Answer:
        message = self.told[-1]
        assert isinstance(message, Answer)
        return message


class Outputs:
    """An arena of a worker's outputs, and the worker's end of it."""

    def __init__(self) -> None:
        self.released: list[int] = []
        self.arena = OutputArena(MEBIBYTE, self.released.extend)
        self.writer = Arena(self.arena.descriptor, self.arena.size, owner="test")

    def place(self, data: bytes) -> Span:
        """Write an output, as the worker would."""
        offset = self.writer.allocate(len(data))
        self.writer.view(offset, len(data))[:] = data
        return Span(0, offset, len(data))


class Bench:
    """The calls of one worker, and the arena of another model's worker."""

    def __init__(self) -> None:
        self.door, self.caller, self.worker = FakeDoor(), FakeCaller(), FakeWorker()
        self.own, self.other = Outputs(), Outputs()
        self.inputs = InputArena(1, MEBIBYTE, "test")
        self.calls = WorkerCalls(self.door, self.caller, self.own.arena, self.inputs, self.worker)

    def call(self, *inputs: Tensor, number: int = 1, **more: object) -> ModelCall:
        """The worker calls."""
        request = Request(number, list(inputs), ["OUT"])
        self.calls.take(Call("m", -1, request, **more))  # type: ignore[arg-type]
        return self.door.calls[-1]

    def large(self, call: ModelCall, *, final: bool = True, kept: bool = False) -> Answer:
        """Another model answers with a large output."""
        view = self.other.arena.view(self.other.place(LARGE))
        tensor = Tensor("OUT", "UINT8", (len(LARGE),), view)
        call.respond(InferResponse("m", 1, "", [tensor], final=final, kept=kept))
        return self.worker.answer()

    async def settle(self) -> None:
        """Let what was dropped be noticed."""
        gc.collect()
        await asyncio.sleep(0)

    def close(self) -> None:
        self.calls.close()
        self.door.calls.clear()
        gc.collect()
        for outputs in (self.own, self.other):
            outputs.arena.retire()
        self.inputs.close()
        for number in list(self.worker.attached):
            self.worker.detach_arena(number)


@pytest.fixture
async def bench(anyio_backend: str) -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.close()


# --- requests -------------------------------------------------------------------------------------


async def test_a_call_becomes_a_request_like_that_of_a_client(bench: Bench) -> None:
    small = Tensor("IN", "UINT8", (2,), memoryview(b"ab"))
    request = Request(7, [small], ["A", "B"], "r", {"p": 1}, "s", 3, timeout_us=9)
    bench.calls.take(Call("m", 4, request, True))

    (call,) = bench.door.calls
    made = call.request
    assert (call.number, call.decoupled, made.model, made.version) == (7, True, "m", 4)
    assert [output.name for output in made.outputs] == ["A", "B"]
    assert (made.id, made.parameters, made.correlation_id) == ("r", {"p": 1}, "s")
    assert (made.flags, made.timeout_us, made.priority) == (3, 9, 0)
    assert (made.inputs, made.loans, made.trace) == ([small], [], None)
    assert made.call is call
    assert bench.call().request.version is None


async def test_a_large_tensor_is_lent_to_whoever_answers_and_given_back(bench: Bench) -> None:
    span = bench.own.place(LARGE)
    request = bench.call(Tensor("IN", "UINT8", (len(LARGE),), span)).request

    (tensor,) = request.inputs
    assert tensor.data == Span(bench.own.arena.number, span.offset, span.size)
    reader = FakeWorker()
    (loan,) = request.loans
    loan.show_to(reader)
    assert isinstance(tensor.data, Span)
    assert reader.read(tensor.data) == LARGE
    await bench.settle()
    assert bench.own.released == []

    for hold in request.leases:
        hold.release()
    await bench.settle()
    assert bench.own.released == [span.offset]
    reader.detach_arena(bench.own.arena.number)


async def test_a_call_is_traced_where_the_model_says_so(bench: Bench) -> None:
    trace = bench.caller.work.request.trace
    assert isinstance(trace, FakeTrace)
    key = bench.caller.work.key
    assert bench.call(traced=key).request.trace is trace.children[0]
    assert bench.call(traced=key + 1, number=2).request.trace is None


async def test_it_is_known_what_a_call_was_made_for(bench: Bench) -> None:
    outer = bench.call()
    bench.caller.work.request.call = outer
    key = bench.caller.work.key

    call = bench.call(within=key, waits=True, number=2)
    assert (call.serves, call.execution) == (outer, Execution(bench.caller, 3))
    assert call.execution is not None
    assert call.execution.is_under_way
    assert bench.caller.waits == 1
    bench.caller.executing = []
    assert not call.execution.is_under_way

    late = bench.call(within=key, number=3)
    assert (late.serves, late.execution, bench.caller.waits) == (outer, None, 1)
    alone = bench.call(number=4)
    assert alone.serves is outer, "there is no other request that it could be for"
    unknown = bench.call(within=key + 1, waits=True, number=5)
    assert (unknown.serves, unknown.execution) == (None, None)


# --- answers --------------------------------------------------------------------------------------


async def test_small_answers_ride_in_the_message(bench: Bench) -> None:
    call = bench.call(number=9)
    small = Tensor("OUT", "UINT8", (2,), memoryview(b"ab"))
    call.respond(InferResponse("m", 1, "", [small], {"p": 1}, final=False))
    call.respond(InferResponse("m", 1, "", error=NotFoundError("gone")))

    error = Error("NOT_FOUND", "gone")
    assert bench.worker.told == [
        Answer(messages.Response(9, [small], False, None, {"p": 1})),
        Answer(messages.Response(9, [], True, error)),
    ]
    assert "0 open" in repr(bench.calls)


async def test_a_large_answer_is_lent_until_it_is_returned(bench: Bench) -> None:
    answer = bench.large(bench.call())
    (tensor,) = answer.response.outputs
    assert isinstance(tensor.data, Span)
    assert bench.worker.read(tensor.data) == LARGE
    assert (answer.loans, answer.shared) == ({"OUT": 1}, [])
    await bench.settle()
    assert bench.other.released == []

    bench.calls.take(Returned([1]))
    await bench.settle()
    assert bench.other.released == [0]


async def test_an_answer_that_others_read_too_is_shared(bench: Bench) -> None:
    assert bench.large(bench.call(), kept=True).shared == ["OUT"]


async def test_a_large_answer_in_no_arena_is_put_into_one(bench: Bench) -> None:
    tensor = Tensor("OUT", "UINT8", (len(LARGE),), memoryview(LARGE))
    bench.call().respond(InferResponse("m", 1, "", [tensor]))

    answer = bench.worker.answer()
    data = answer.response.outputs[0].data
    assert isinstance(data, Span)
    assert (data.arena, bench.inputs.read(data)) == (1, LARGE)
    assert bench.inputs.leases == 1
    bench.calls.take(Returned([answer.loans["OUT"]]))
    assert bench.inputs.leases == 0


async def test_an_answer_that_there_is_no_room_for_is_an_error(bench: Bench) -> None:
    view = bench.other.arena.view(bench.other.place(LARGE))
    first = Tensor("A", "UINT8", (len(LARGE),), view)
    second = Tensor("B", "UINT8", (2 * MEBIBYTE,), memoryview(bytes(2 * MEBIBYTE)))
    bench.call().respond(InferResponse("m", 1, "", [first, second]))

    answer = bench.worker.answer()
    assert answer.response.error is not None
    assert answer.response.error.code == "UNAVAILABLE"
    assert (answer.response.outputs, answer.loans) == ([], {})
    del view, first
    await bench.settle()
    assert bench.other.released == [0]


# --- the end --------------------------------------------------------------------------------------


async def test_a_call_is_withdrawn_now_or_when_it_is_under_way(bench: Bench) -> None:
    cancelled: list[int] = []
    call = bench.call()
    call.cancel = lambda: cancelled.append(1)
    bench.calls.take(Withdraw(1))
    assert cancelled == [1]
    bench.calls.take(Withdraw(77))  # answered meanwhile

    early = bench.call(number=2)
    bench.calls.take(Withdraw(2))
    assert early.abandoned


async def test_with_its_worker_a_call_is_cancelled_and_what_was_lent_comes_back(
    bench: Bench,
) -> None:
    bench.large(bench.call(), final=False)
    told = len(bench.worker.told)
    cancelled: list[int] = []
    (call,) = bench.door.calls
    call.cancel = lambda: cancelled.append(1)
    cached = Tensor("OUT", "UINT8", (len(LARGE),), memoryview(LARGE))
    bench.call(number=2).respond(InferResponse("m", 1, "", [cached]))
    assert bench.inputs.leases == 1
    told = len(bench.worker.told)

    bench.calls.close()
    await bench.settle()
    assert cancelled == [1]
    assert bench.inputs.leases == 0
    assert bench.other.released == [0]

    call.respond(InferResponse("m", 1, ""))
    assert len(bench.worker.told) == told, "nobody is told any more"


async def test_other_questions_are_passed_on(bench: Bench) -> None:
    question = AskReady(5, "m", "")
    bench.calls.take(question)
    ((asked, asker, answer),) = bench.door.questions
    assert (asked, asker) == (question, "mine")
    answer(Done(5, True))
    assert bench.worker.told == [Done(5, True)]

    bench.calls.close()
    answer(Done(5, True))
    assert len(bench.worker.told) == 1
