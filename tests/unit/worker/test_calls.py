"""Calls leave with their tensors, and every answer gets to whoever waits, on any thread."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from support.peers import TIMEOUT, Background, Peer

from tritonpy.ipc.arena import CHUNK_BYTES, MappedArena
from tritonpy.ipc.descriptors import DescriptorInbox
from tritonpy.ipc.errors import InternalError, NotFoundError, UnavailableError
from tritonpy.ipc.messages import (
    Answer,
    AskReady,
    AttachArena,
    Call,
    Done,
    Error,
    LoadModel,
    Response,
    Returned,
    Stop,
    UnloadModel,
    Withdraw,
)
from tritonpy.ipc.tensor import INLINE_LIMIT_BYTES, Span, Tensor, encode_bytes
from tritonpy.worker import execution
from tritonpy.worker.calls import Calls
from tritonpy.worker.inbox import Inbox
from tritonpy.worker.memory import Memory
from tritonpy.worker.peers import Outgoing, Reply

OTHERS = 9
LARGE = np.arange(INLINE_LIMIT_BYTES, dtype=np.float32)


class Worker:
    """The parts of a worker that call, and the supervisor that a test plays."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.memory = Memory()
        self.memory.writable_inputs = True
        self.inbox = Inbox(peer.channel, self.memory.release)
        self.calls = Calls(self.memory, self.inbox, peer.channel)
        self._descriptors = DescriptorInbox(peer.workers_lifeline)
        self.inbox.on_arena, self.inbox.on_answer = self._attach, self.calls.take
        self.own = peer.attach(0, 4 * CHUNK_BYTES)
        self.others: MappedArena | None = None
        peer.send(Stop())
        self.inbox.next_work()  # the arena has arrived before

    def _attach(self, message: AttachArena) -> None:
        descriptor = self._descriptors.take(message.number)
        self.memory.attach(message.number, descriptor, message.size)

    def asked(self) -> Call:
        message = self.peer.receive()
        assert isinstance(message, Call)
        return message

    def lend(self, data: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Tensor:
        """Put an output of another model where the worker can read it."""
        if self.others is None:
            self.others = self.peer.attach(OTHERS, CHUNK_BYTES)
        self.others.view(64, data.nbytes)[:] = data.tobytes()
        return Tensor("OUT", "FP32", data.shape, Span(OTHERS, 64, data.nbytes))

    def close(self) -> None:
        self.inbox.close()
        self.memory.detach(OTHERS)


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Peer() as peer:
        made = Worker(peer)
        yield made
        made.close()


def outgoing(*inputs: tuple[str, np.ndarray], **more: object) -> Outgoing:
    return Outgoing("other", -1, inputs, ["OUT"], **more)  # type: ignore[arg-type]


def small(key: int, *, final: bool = True) -> Answer:
    data = memoryview(np.array([7.0], np.float32).tobytes())
    return Answer(Response(key, [Tensor("OUT", "FP32", (1,), data)], final))


def values(reply: Reply) -> list[float]:
    assert reply.error is None
    return reply.outputs["OUT"].tolist()  # type: ignore[no-any-return]


def test_a_request_leaves_as_it_was_made(worker: Worker) -> None:
    array = np.array([1.0, 2.0], np.float32)
    worker.calls.ask(
        outgoing(("IN", array), id="r", parameters={"a": 1}, correlation_id="s", flags=3,
                 timeout_us=5, decoupled=True, traced=4)
    )  # fmt: skip

    message = worker.asked()
    request = message.request
    assert (message.model, message.version, message.decoupled) == ("other", -1, True)
    assert (message.within, message.traced) == (0, 4)
    assert (request.id, request.parameters, request.correlation_id) == ("r", {"a": 1}, "s")
    assert (request.flags, request.timeout_us, request.outputs) == (3, 5, ["OUT"])
    assert worker.peer.data_of(request.inputs[0]) == array.tobytes()


def test_a_large_tensor_lies_in_the_arena_until_it_is_released(worker: Worker) -> None:
    worker.calls.ask(outgoing(("IN", LARGE)))

    tensor = worker.asked().request.inputs[0]
    assert isinstance(tensor.data, Span)
    assert worker.peer.data_of(tensor) == LARGE.tobytes()
    worker.memory.release([tensor.data.offset])
    with pytest.raises(KeyError):
        worker.memory.release([tensor.data.offset])


def test_what_cannot_be_sent_leaves_nothing_behind(worker: Worker) -> None:
    bad = np.array([object.__new__(_Unprintable)], object)
    with pytest.raises(InternalError, match="ZeroDivisionError"):
        worker.calls.ask(outgoing(("A", LARGE), ("B", bad)))
    with pytest.raises(InternalError, match="OverflowError"):
        worker.calls.ask(outgoing(("A", LARGE), correlation_id=1 << 64))

    assert "0 spans placed" in repr(worker.memory)
    assert "0 open" in repr(worker.calls)
    with pytest.raises(KeyError):
        worker.memory.release([0])


class _Unprintable:
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_an_answer_gets_to_the_one_who_waits(worker: Worker) -> None:
    calls = [worker.calls.ask(outgoing()) for _ in range(2)]
    keys = [worker.asked().request.key for _ in calls]
    waiting = [Background(call.next) for call in calls]

    for key in reversed(keys):
        worker.peer.send(small(key))

    for thread in waiting:
        reply = thread.result()
        assert isinstance(reply, Reply)
        assert values(reply) == [7.0]


def test_several_answers_come_in_order_until_the_final_one(worker: Worker) -> None:
    call = worker.calls.ask(outgoing())
    key = worker.asked().request.key
    worker.peer.send(small(key, final=False))
    worker.peer.send(Answer(Response(key, [], True, Error("NOT_FOUND", "gone"))))

    assert (values(reply := call.next()), reply.final) == ([7.0], False)
    last = call.next()
    assert isinstance(last.error, NotFoundError)
    assert (last.error.message, last.final) == ("gone", True)
    assert "0 open" in repr(worker.calls)


def test_a_lent_output_is_read_in_place_and_returned_with_its_last_view(worker: Worker) -> None:
    call = worker.calls.ask(outgoing())
    key = worker.asked().request.key
    tensor = worker.lend(LARGE)
    worker.peer.send(Answer(Response(key, [tensor]), {"OUT": 41}))

    array = call.next().outputs["OUT"]
    np.testing.assert_array_equal(array, LARGE)
    array[0] = 5
    assert worker.others is not None
    assert np.frombuffer(worker.others.view(64, 4), np.float32)[0] == 5
    view = array[1:]
    del array
    gc.collect()
    del view

    assert worker.peer.receive() == Returned([41])


def test_a_shared_output_is_a_copy_and_returned_at_once(worker: Worker) -> None:
    call = worker.calls.ask(outgoing())
    key = worker.asked().request.key
    worker.peer.send(Answer(Response(key, [worker.lend(LARGE)]), {"OUT": 41}, ["OUT"]))

    array = call.next().outputs["OUT"]
    assert array.flags.writeable
    assert worker.peer.receive() == Returned([41])
    array[0] = 5
    assert worker.others is not None
    assert np.frombuffer(worker.others.view(64, 4), np.float32)[0] == 0


def test_bytes_are_read_and_returned(worker: Worker) -> None:
    call = worker.calls.ask(outgoing())
    key = worker.asked().request.key
    framed = np.frombuffer(encode_bytes([b"ab", b""]), np.uint8)
    tensor = worker.lend(framed)  # type: ignore[arg-type]
    tensor.datatype, tensor.shape = "BYTES", (2,)
    worker.peer.send(Answer(Response(key, [tensor]), {"OUT": 3}))

    assert call.next().outputs["OUT"].tolist() == [b"ab", b""]
    assert worker.peer.receive() == Returned([3])


def test_answers_that_nobody_wants_are_returned(worker: Worker) -> None:
    call = worker.calls.ask(outgoing())
    key = worker.asked().request.key
    call.forget()
    worker.peer.send(Answer(Response(key, [worker.lend(LARGE)], False), {"OUT": 1}))
    worker.peer.send(Answer(Response(key, [worker.lend(LARGE)]), {"OUT": 2}))
    worker.peer.send(Stop())
    worker.inbox.next_work()

    assert [worker.peer.receive(), worker.peer.receive()] == [Returned([1]), Returned([2])]


def test_an_answer_that_cannot_be_read_is_an_error_and_returned(worker: Worker) -> None:
    call = worker.calls.ask(outgoing())
    key = worker.asked().request.key
    lost = Tensor("LOST", "FP32", (1,), Span(77, 0, 4))
    worker.peer.send(Answer(Response(key, [lost, worker.lend(LARGE)]), {"LOST": 1, "OUT": 2}))

    reply = call.next()
    assert isinstance(reply.error, InternalError)
    assert "arena 77 was never attached" in reply.error.message
    assert [worker.peer.receive(), worker.peer.receive()] == [Returned([1]), Returned([2])]


def test_a_withdrawn_call_is_told_until_it_is_answered(worker: Worker) -> None:
    call = worker.calls.ask(outgoing())
    key = worker.asked().request.key
    call.withdraw()
    assert worker.peer.receive() == Withdraw(key)
    worker.peer.send(small(key))
    call.next()

    call.withdraw()  # too late: nothing is sent
    worker.calls.ask(outgoing())
    worker.asked()


def test_somebody_receives_for_a_coroutine_that_must_not_wait(worker: Worker) -> None:
    told = [threading.Event() for _ in range(3)]
    calls = [worker.calls.ask(outgoing(), event.set) for event in told]
    keys = [worker.asked().request.key for _ in calls]
    for key in keys:
        worker.peer.send(small(key, final=False))
    for event, call in zip(told, calls, strict=True):
        assert event.wait(TIMEOUT)
        assert values(call.next()) == [7.0]

    # Once all have their first reply, whoever waits receives for himself.
    worker.peer.send(small(keys[0]))
    assert values(calls[0].next()) == [7.0]
    again = threading.Event()
    call = worker.calls.ask(outgoing(), again.set)
    worker.peer.send(small(worker.asked().request.key))
    assert again.wait(TIMEOUT)
    assert values(call.next()) == [7.0]


def test_who_waits_when_the_worker_ends_is_told(worker: Worker) -> None:
    call = worker.calls.ask(outgoing())
    thread = Background(call.next)
    worker.inbox.close()

    with pytest.raises(UnavailableError, match="being unloaded"):
        thread.result()


def test_other_questions_are_answered_too(worker: Worker) -> None:
    loading = Background(lambda: worker.calls.load("m", "{}", {"file:1/a": b"x"}))
    message = worker.peer.receive()
    assert message == LoadModel(1, "m", "{}", {"file:1/a": b"x"})
    worker.peer.send(Done(1))
    assert loading.result() is None

    unloading = Background(lambda: worker.calls.unload("m", dependents=True))
    assert worker.peer.receive() == UnloadModel(2, "m", True)
    worker.peer.send(Done(2, error=Error("UNAVAILABLE", "not allowed")))
    with pytest.raises(UnavailableError, match="not allowed"):
        unloading.result()

    asking = Background(lambda: worker.calls.is_ready("m", "3"))
    assert worker.peer.receive() == AskReady(3, "m", "3")
    worker.peer.send(Done(3, ready=True))
    assert asking.result() is True


def test_a_question_that_cannot_be_sent_is_refused(worker: Worker) -> None:
    with pytest.raises(InternalError, match="cannot be sent"):
        worker.calls.is_ready("\ud800", "")


def test_a_call_names_the_execution_that_waits_for_it(worker: Worker) -> None:
    def origin() -> tuple[int, bool]:
        worker.calls.ask(outgoing())
        message = worker.asked()
        return message.within, message.waits

    token = execution.begin(11, awaits=True, joins=True)
    assert origin() == (11, True)
    execution.end(token)
    assert origin() == (0, False)
