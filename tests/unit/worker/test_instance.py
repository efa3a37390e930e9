"""Batches run, answers leave, and what goes wrong concerns the guilty request alone."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from support.peers import TIMEOUT, Background, Peer

from tritonpy.ipc import messages
from tritonpy.ipc.arena import CHUNK_BYTES, MappedArena, create_memory
from tritonpy.ipc.dtypes import from_numpy
from tritonpy.ipc.errors import InvalidArgumentError, NotFoundError, UnavailableError
from tritonpy.ipc.messages import FLAG_SEQUENCE_START as START
from tritonpy.ipc.messages import Cancel, Execute, Executed, Release, Responded, Trim
from tritonpy.ipc.tensor import Span, Tensor, decode_bytes, encode_bytes
from tritonpy.worker.backend import (
    Array,
    Backend,
    Finish,
    Model,
    Request,
    RequestBackend,
    Response,
    TensorBackend,
)
from tritonpy.worker.inbox import Inbox
from tritonpy.worker.instance import Instance
from tritonpy.worker.memory import Memory
from tritonpy.worker.ongoing import Ongoing

ARENA = 4 * CHUNK_BYTES

Run = Callable[[dict[str, Array]], dict[str, Array]]
Answer = Callable[[Request], Response | None]


class Tensors(TensorBackend):
    """Runs what a test says, and remembers what it was given."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.batches: list[dict[str, Array]] = []
        self.wanted: list[list[str]] = []
        self.unloaded = 0

    def load(self, model: Model) -> None:
        pass

    def unload(self) -> None:
        self.unloaded += 1

    def run(self, inputs: dict[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        self.batches.append(inputs)
        self.wanted.append(list(outputs))
        return self._run(inputs)


class Requests(RequestBackend):
    """Answers each request as a test says, and remembers the requests."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.requests: list[Request] = []

    def load(self, model: Model) -> None:
        pass

    def unload(self) -> None:
        pass

    def execute(self, requests: Sequence[Request]) -> Sequence[Response | None]:
        self.requests.extend(requests)
        return [self._answer(request) for request in requests]


class Together(Requests):
    """Executes several batches at once; a test ends them, one by one."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.done: list[Callable[[], None]] = []
        self.refuses: Exception | None = None

    @property
    def concurrency(self) -> int:
        return 4

    def begin(self, requests: Sequence[Request], done: Callable[[], None]) -> Finish:
        if self.refuses is not None:
            raise self.refuses
        self.done.append(done)
        return partial(self.execute, requests)


class Rig:
    """An instance with a backend of the test, and its supervisor's end."""

    def __init__(self, peer: Peer, backend: Backend, config: Mapping[str, Any]) -> None:
        self._peer = peer
        self._memory = Memory()
        self._descriptor = create_memory("tritonpy-test", ARENA)
        self._memory.attach(0, self._descriptor, ARENA)
        self._outputs = MappedArena(self._descriptor, ARENA, writable=False)
        self._inbox = Inbox(peer.channel, self._memory.release)
        model = Model(
            "m",
            3,
            "/models/m",
            "/models/m/3",
            dict(config),
            messages.Instance("m_0", "CPU", 0, 1),
            {},
        )
        self.instance = Instance(model, backend, self._memory, self._inbox, peer.channel)

    def close(self) -> None:
        self._inbox.close()
        os.close(self._descriptor)

    def execute(self, *requests: messages.Request) -> Executed:
        """Have the batch arrive and run."""
        executed = self.begin(1, *requests)
        assert executed is not None, "it goes on"
        return executed

    def begin(self, batch: int, *requests: messages.Request) -> Executed | None:
        """Have the batch arrive, and run unless it goes on."""
        self._peer.send(Execute(batch, list(requests)))
        message = self._inbox.next_work()
        assert isinstance(message, Execute)
        return self.instance.execute(message)

    def finish(self) -> Executed:
        """Answer the batch whose execution was over next."""
        ongoing = self._inbox.next_work()
        assert isinstance(ongoing, Ongoing)
        return self.instance.finish(ongoing)

    def answers(self, *requests: messages.Request) -> dict[int, messages.Response]:
        """Run the batch, and return its responses by their requests' keys."""
        responses = self.execute(*requests).responses
        answers = {response.key: response for response in responses}
        assert len(answers) == len(responses), "a request was answered twice"
        return answers

    def responded(self) -> messages.Response:
        """The next response outside of execute's result."""
        message = self._peer.receive()
        assert isinstance(message, Responded)
        return message.response

    def bytes_of(self, tensor: Tensor) -> bytes:
        data = tensor.data
        if isinstance(data, Span):
            return bytes(self._outputs.view(data.offset, data.size))
        assert isinstance(data, memoryview)
        return bytes(data)

    def array(self, response: messages.Response, output: int = 0) -> Array:
        """An output of a response."""
        assert response.error is None
        tensor = response.outputs[output]
        if tensor.datatype == "BYTES":
            flat: Array = decode_bytes(self.bytes_of(tensor), int(np.prod(tensor.shape)))
        else:
            flat = np.frombuffer(self.bytes_of(tensor), _dtype(tensor))
        return flat.reshape(tensor.shape)

    def release(self, *responses: messages.Response) -> None:
        """Read the responses and give their spans back."""
        offsets = [
            tensor.data.offset
            for response in responses
            for tensor in response.outputs
            if isinstance(tensor.data, Span)
        ]
        self._peer.send(Release(offsets))
        self._peer.send(Trim())
        assert self._inbox.next_work() == Trim()

    def cancel(self, key: int) -> None:
        self._peer.send(Cancel([key]))

    @property
    def memory(self) -> str:
        return repr(self._memory)

    @property
    def inbox(self) -> str:
        return repr(self._inbox)


def _dtype(tensor: Tensor) -> str:
    return {"FP32": "f4", "INT32": "i4", "UINT8": "u1"}[tensor.datatype]


def request(key: int, array: Array, *, outputs: Sequence[str] = ("y",)) -> messages.Request:
    """A request with the input x."""
    data = encode_bytes(array.ravel().tolist()) if array.dtype == object else array.tobytes()
    tensor = Tensor("x", from_numpy(array.dtype), array.shape, memoryview(data))
    return messages.Request(key, [tensor], list(outputs))


def row(value: float, width: int = 2) -> Array:
    return np.full((1, width), value, np.float32)


def config(max_batch_size: int = 8, **more: Any) -> dict[str, Any]:
    return {"max_batch_size": max_batch_size, "output": [{"name": "y"}, {"name": "z"}], **more}


def doubled(inputs: dict[str, Array]) -> dict[str, Array]:
    return {"y": inputs["x"] * 2, "z": inputs["x"] * 3}


def error_of(response: messages.Response) -> tuple[str, str]:
    assert response.error is not None
    assert response.outputs == []
    return response.error.code, response.error.message


MakeRig = Callable[..., Rig]


@pytest.fixture
def rig() -> Iterator[MakeRig]:
    made: list[Rig] = []
    with Peer() as peer:

        def make(backend: Backend, settings: Mapping[str, Any] | None = None) -> Rig:
            made.append(Rig(peer, backend, config() if settings is None else settings))
            return made[-1]

        yield make
        for each in made:
            each.close()


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What fails on purpose is logged, and not shown."""
    caplog.set_level(logging.CRITICAL + 1, "tritonpy.worker")


NOTHING_USED = "<Allocator 0 of"
NOTHING_OPEN = "<Inbox: 0 things to do, 0 open requests, 0 of them cancelled>"


# --- backends that run tensors --------------------------------------------------------------------


def test_a_batch_is_run_once_and_every_request_gets_its_rows(rig: MakeRig) -> None:
    backend = Tensors(doubled)
    answers = rig(backend).answers(request(1, row(1)), request(2, row(2)), request(3, row(3)))

    assert len(backend.batches) == 1
    assert backend.batches[0]["x"].tolist() == [[1, 1], [2, 2], [3, 3]]
    assert sorted(answers) == [1, 2, 3]


def test_outputs_are_those_that_the_client_wants(rig: MakeRig) -> None:
    backend = Tensors(doubled)
    running = rig(backend)

    answers = running.answers(
        request(1, row(1), outputs=["z"]), request(2, row(2), outputs=["y", "z"])
    )

    assert [tensor.name for tensor in answers[1].outputs] == ["z"]
    assert [tensor.name for tensor in answers[2].outputs] == ["y", "z"]
    assert running.array(answers[1]).tolist() == [[3, 3]]
    assert running.array(answers[2], 1).tolist() == [[6, 6]]


def test_the_backend_is_asked_for_what_anybody_wants_and_nothing_else(rig: MakeRig) -> None:
    backend = Tensors(doubled)
    running = rig(backend)

    running.answers(request(1, row(1), outputs=["z"]))
    running.answers(request(2, row(1), outputs=["z"]), request(3, row(1), outputs=["y", "z"]))

    assert backend.wanted == [["z"], ["y", "z"]]


def test_times_are_in_order(rig: MakeRig) -> None:
    for run in (doubled, _fail):
        message = rig(Tensors(run)).execute(request(1, row(1)))

        assert message.batch == 1
        times = [message.start_ns, message.input_end_ns, message.output_start_ns, message.end_ns]
        assert times == sorted(times)


def test_a_reshaped_model_sees_its_own_shapes_and_clients_see_theirs(rig: MakeRig) -> None:
    backend = Tensors(lambda inputs: {"y": inputs["x"]})
    running = rig(backend, RESHAPED)

    answers = running.answers(request(1, row(1, 4)))

    assert backend.batches[0]["x"].shape == (1, 2, 2)
    assert running.array(answers[1]).shape == (1, 4)


def test_no_request_is_open_after_a_batch(rig: MakeRig) -> None:
    running = rig(Tensors(doubled))

    running.answers(request(1, row(1)), request(2, row(2)))

    assert running.inbox == NOTHING_OPEN


def test_an_unreadable_request_fails_alone(rig: MakeRig) -> None:
    backend = Tensors(doubled)
    running = rig(backend)
    broken = messages.Request(2, [Tensor("x", "BYTES", (1,), memoryview(b"\1"))], ["y"])
    short = messages.Request(3, [Tensor("x", "FP32", (1, 2), memoryview(b"1234"))], ["y"])
    lost = messages.Request(4, [Tensor("x", "FP32", (1, 2), Span(99, 0, 8))], ["y"])

    answers = running.answers(request(1, row(1)), broken, short, lost)

    assert running.array(answers[1]).tolist() == [[2, 2]]
    assert error_of(answers[2])[0] == error_of(answers[3])[0] == "INVALID_ARG"
    assert error_of(answers[4]) == ("INTERNAL", "arena 99 was never attached to this worker")
    assert len(backend.batches[0]["x"]) == 1
    assert running.inbox == NOTHING_OPEN


def test_a_batch_of_unreadable_requests_does_not_reach_the_model(rig: MakeRig) -> None:
    backend = Tensors(doubled)
    broken = messages.Request(1, [Tensor("x", "BYTES", (1,), memoryview(b"\1"))], ["y"])

    answers = rig(backend).answers(broken)

    assert error_of(answers[1])[0] == "INVALID_ARG"
    assert backend.batches == []


def test_of_a_batch_with_a_wrong_input_only_the_guilty_request_fails(rig: MakeRig) -> None:
    def refuse_negative(inputs: dict[str, Array]) -> dict[str, Array]:
        if (inputs["x"] < 0).any():
            raise InvalidArgumentError("x must not be negative")
        return doubled(inputs)

    running = rig(Tensors(refuse_negative))

    answers = running.answers(request(1, row(1)), request(2, row(-1)), request(3, row(3)))

    assert running.array(answers[1]).tolist() == [[2, 2]]
    assert error_of(answers[2]) == ("INVALID_ARG", "x must not be negative")
    assert running.array(answers[3]).tolist() == [[6, 6]]


def test_another_failure_of_a_batch_is_everybodys_and_is_not_tried_again(rig: MakeRig) -> None:
    backend = Tensors(_fail)

    answers = rig(backend).answers(request(1, row(1)), request(2, row(2)))

    expected = ("INTERNAL", "model 'm' version 3 failed: RuntimeError: out of cheese")
    assert [error_of(answers[1]), error_of(answers[2])] == [expected, expected]
    assert len(backend.batches) == 1


def test_a_status_of_the_backend_reaches_the_client_as_it_is(rig: MakeRig) -> None:
    def fail(_inputs: dict[str, Array]) -> dict[str, Array]:
        raise UnavailableError("the GPU is busy")

    answers = rig(Tensors(fail)).answers(request(1, row(1)))

    assert error_of(answers[1]) == ("UNAVAILABLE", "the GPU is busy")


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("I am not to be printed")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (MemoryError(), "MemoryError: "),
        (_Mute(), "_Mute"),
        (ValueError("file \udcff"), "ValueError: file \\udcff"),
    ],
)
def test_whatever_a_backend_raises_becomes_an_answer(
    rig: MakeRig, error: BaseException, message: str
) -> None:
    def fail(_inputs: dict[str, Array]) -> dict[str, Array]:
        raise error

    answers = rig(Tensors(fail)).answers(request(1, row(1)))

    assert error_of(answers[1]) == ("INTERNAL", f"model 'm' version 3 failed: {message}")


def test_outputs_that_do_not_match_the_batch_are_the_models_fault(rig: MakeRig) -> None:
    answers = rig(Tensors(lambda _inputs: {"y": np.zeros(5)})).answers(
        request(1, row(1)), request(2, row(2))
    )

    assert error_of(answers[1]) == error_of(answers[2])
    assert "returned output 'y' with shape [5] for a batch of 2" in error_of(answers[1])[1]


def test_an_output_that_cannot_be_sent_fails_its_own_request_alone(rig: MakeRig) -> None:
    def texts(inputs: dict[str, Array]) -> dict[str, Array]:
        return {"y": np.array([["\udcff"] if x[0] == 2 else ["fine"] for x in inputs["x"]], object)}

    running = rig(Tensors(texts))

    answers = running.answers(request(1, row(1)), request(2, row(2)), request(3, row(3)))

    assert running.array(answers[1]).tolist() == [[b"fine"]]
    assert "UnicodeEncodeError" in error_of(answers[2])[1]
    assert running.array(answers[3]).tolist() == [[b"fine"]]


def test_a_response_that_fails_half_way_keeps_no_memory(rig: MakeRig) -> None:
    def large_and_impossible(inputs: dict[str, Array]) -> dict[str, Array]:
        return {"y": np.zeros((1, 100_000), np.uint8), "z": np.zeros((1, 2), np.complex64)}

    running = rig(Tensors(large_and_impossible))

    answers = running.answers(request(1, row(1), outputs=["y", "z"]))

    assert "complex64 has no Triton datatype" in error_of(answers[1])[1]
    assert NOTHING_USED in running.memory


def test_many_large_outputs_leave_in_one_message(rig: MakeRig) -> None:
    def widen(inputs: dict[str, Array]) -> dict[str, Array]:
        wide = np.repeat(inputs["x"][:, :1].astype(np.uint8), 400_000, axis=1)
        return {"y": wide, "z": wide + 100}

    running = rig(Tensors(widen))
    requests = [request(key, row(key), outputs=["y", "z"]) for key in range(1, 5)]

    for _ in range(3):  # the memory is given back in between
        answers = running.answers(*requests)
        for key in range(1, 5):
            assert (running.array(answers[key]) == key).all()
            assert (running.array(answers[key], 1) == key + 100).all()
        running.release(*answers.values())

    assert NOTHING_USED in running.memory


def test_outputs_that_do_not_fit_beside_their_own_batch_fail_and_do_not_hang(
    rig: MakeRig,
) -> None:
    running = rig(Tensors(lambda inputs: {"y": np.zeros((len(inputs["x"]), 1_500_000), np.uint8)}))

    answers = running.answers(*[request(key, row(key)) for key in range(1, 5)])

    assert [answers[key].error is None for key in range(1, 5)] == [True, True, False, False]
    code, message = error_of(answers[4])
    assert (code, "the shared memory of the worker's outputs is full" in message) == (
        "UNAVAILABLE",
        True,
    )
    running.release(*answers.values())
    assert NOTHING_USED in running.memory


def test_outputs_wait_for_the_readers_of_the_batch_before(rig: MakeRig) -> None:
    running = rig(Tensors(lambda inputs: {"y": np.zeros((len(inputs["x"]), 3_000_000), np.uint8)}))
    first = running.answers(request(1, row(1)))
    data = first[1].outputs[0].data
    assert isinstance(data, Span)
    answers: dict[int, messages.Response] = {}
    second = Background(lambda: answers.update(running.answers(request(2, row(2)))))

    running._peer.send(Release([data.offset]))  # pyright: ignore[reportPrivateUsage]

    second.result()
    assert answers[2].error is None


def test_unloading_is_passed_on(rig: MakeRig) -> None:
    backend = Tensors(doubled)

    rig(backend).instance.unload()

    assert backend.unloaded == 1


def _fail(_inputs: dict[str, Array]) -> dict[str, Array]:
    raise RuntimeError("out of cheese")


RESHAPED = {
    "max_batch_size": 8,
    "input": [{"name": "x", "dims": [4], "reshape": {"shape": [2, 2]}}],
    "output": [{"name": "y", "dims": [4], "reshape": {"shape": [2, 2]}}],
}


# --- backends that run requests -------------------------------------------------------------------


def echo(request: Request) -> Response:
    return Response({"y": request.inputs["x"]})


def test_requests_are_handed_over_as_they_came(rig: MakeRig) -> None:
    backend = Requests(echo)
    running = rig(backend)
    sent = messages.Request(
        7, request(0, row(5)).inputs, ["y"], "id", {"p": 1}, "sequence", 3, 2, 1000
    )

    answers = running.answers(sent)

    (seen,) = backend.requests
    assert (seen.key, seen.id, seen.outputs, seen.parameters) == (7, "id", ["y"], {"p": 1})
    assert (seen.correlation_id, seen.flags, seen.priority, seen.timeout_us) == (
        "sequence",
        3,
        2,
        1000,
    )
    assert running.array(answers[7]).tolist() == [[5, 5]]
    assert running.inbox == NOTHING_OPEN


def test_outputs_that_nobody_wants_are_left_out(rig: MakeRig) -> None:
    both = Requests(lambda request: Response({"y": row(1), "w": row(2)}))

    answers = rig(both).answers(request(1, row(1)))

    assert [tensor.name for tensor in answers[1].outputs] == ["y"]


def test_parameters_travel_with_a_response(rig: MakeRig) -> None:
    parameters: dict[str, messages.Parameter] = {"a": "text", "b": 1, "c": False, "d": 1.5}
    answers = rig(Requests(lambda request: Response({}, parameters))).answers(request(1, row(1)))

    assert answers[1].parameters == parameters


@pytest.mark.parametrize("value", ["\udcff", 2**64, None, b"bytes", [1], {"a": 1}, object()])
def test_parameters_that_cannot_be_sent_fail_their_own_request_alone(
    rig: MakeRig, value: Any
) -> None:
    running = rig(
        Requests(lambda r: Response({"y": row(1)}, {"p": value} if r.key == 2 else {"p": 1}))
    )

    answers = running.answers(request(1, row(1)), request(2, row(2)))

    assert answers[1].error is None
    code, message = error_of(answers[2])
    assert code == "INTERNAL"
    assert "returned parameters that cannot be sent" in message


def test_a_reshaped_model_of_requests_sees_its_own_shapes_too(rig: MakeRig) -> None:
    backend = Requests(echo)
    running = rig(backend, RESHAPED)

    answers = running.answers(request(1, row(1, 4)), request(2, row(2, 4)))

    assert [seen.inputs["x"].shape for seen in backend.requests] == [(1, 2, 2), (1, 2, 2)]
    assert running.array(answers[2]).tolist() == [[2, 2, 2, 2]]


def test_responses_sent_by_a_reshaped_model_itself_have_the_clients_shape(rig: MakeRig) -> None:
    def respond(request: Request) -> None:
        request.respond(Response({"y": request.inputs["x"]}), True)

    running = rig(Requests(respond), RESHAPED)

    assert running.answers(request(1, row(1, 4))) == {}

    assert running.array(running.responded()).shape == (1, 4)


def test_an_input_that_cannot_be_reshaped_fails_its_own_request_alone(rig: MakeRig) -> None:
    backend = Requests(echo)
    running = rig(backend, RESHAPED)

    answers = running.answers(request(1, row(1, 3)), request(2, row(2, 4)))

    assert error_of(answers[1])[0] == "INVALID_ARG"
    assert "unable to reshape input 'x'" in error_of(answers[1])[1]
    assert running.array(answers[2]).tolist() == [[2, 2, 2, 2]]
    assert len(backend.requests) == 1


def test_an_output_that_cannot_be_reshaped_is_the_models_fault(rig: MakeRig) -> None:
    answers = rig(Requests(lambda _request: Response({"y": row(1, 3)})), RESHAPED).answers(
        request(1, row(1, 4))
    )

    assert error_of(answers[1])[0] == "INTERNAL"
    assert "unable to reshape output 'y'" in error_of(answers[1])[1]


def test_a_batch_of_unreadable_requests_is_not_executed(rig: MakeRig) -> None:
    backend = Requests(echo)
    broken = messages.Request(1, [Tensor("x", "BYTES", (1,), memoryview(b"\1"))], ["y"])

    answers = rig(backend).answers(broken)

    assert error_of(answers[1])[0] == "INVALID_ARG"
    assert backend.requests == []


def test_one_bad_response_fails_that_request_alone(rig: MakeRig) -> None:
    bad: dict[int, Any] = {
        2: Response({"y": np.array([["\udcff"]], object)}),
        3: Response({"y": np.zeros((1, 2), np.complex64)}),
        4: Response({"y": "no array"}),  # type: ignore[dict-item]
        5: "no response",
        6: Response(error=NotFoundError("no such \udcff")),
    }
    running = rig(Requests(lambda request: bad.get(request.key, echo(request))))

    answers = running.answers(*[request(key, row(key)) for key in range(1, 8)])

    assert [answers[key].error is None for key in range(1, 8)] == [True, *[False] * 5, True]
    assert "UnicodeEncodeError" in error_of(answers[2])[1]
    assert "complex64" in error_of(answers[3])[1]
    assert error_of(answers[6]) == ("NOT_FOUND", "no such \\udcff")
    assert running.inbox == NOTHING_OPEN


def test_a_backend_that_fails_answers_with_its_error(rig: MakeRig) -> None:
    def fail(_request: Request) -> Response:
        raise SystemExit("I quit")

    answers = rig(Requests(fail)).answers(request(1, row(1)), request(2, row(2)))

    expected = ("INTERNAL", "model 'm' version 3 failed: SystemExit: I quit")
    assert [error_of(answers[1]), error_of(answers[2])] == [expected, expected]


def test_a_backend_that_answers_too_few_fails_all(rig: MakeRig) -> None:
    class Forgetful(Requests):
        def execute(self, requests: Sequence[Request]) -> Sequence[Response | None]:
            return super().execute(requests)[1:]

    answers = rig(Forgetful(echo)).answers(request(1, row(1)), request(2, row(2)))

    expected = ("INTERNAL", "the backend of model 'm' returned 1 responses to 2 requests")
    assert [error_of(answers[1]), error_of(answers[2])] == [expected, expected]


# --- responses outside of execute -----------------------------------------------------------------


def test_a_request_may_be_answered_many_times_by_a_thread(rig: MakeRig) -> None:
    threads: list[Background] = []

    def count(request: Request) -> None:
        def respond() -> None:
            for number in range(3):
                request.respond(Response({"y": row(number)}), False)
            request.respond(None, True)

        threads.append(Background(respond))

    running = rig(Requests(count))

    assert running.answers(request(1, row(1)), request(2, row(2))) == {}

    seen: dict[int, list[float]] = {1: [], 2: []}
    ended: set[int] = set()
    while ended != {1, 2}:
        response = running.responded()
        if response.final:
            ended.add(response.key)
        else:
            seen[response.key].append(float(running.array(response)[0, 0]))
    for thread in threads:
        thread.result()
    assert seen == {1: [0, 1, 2], 2: [0, 1, 2]}
    assert running.inbox == NOTHING_OPEN


def test_a_thread_that_execute_joins_may_answer_with_more_than_fits(rig: MakeRig) -> None:
    """The thread waits for space, and receives the release itself while execute waits for it."""

    def respond_three_times(request: Request) -> None:
        def respond() -> None:
            for number in range(3):
                request.respond(Response({"y": np.full(3_000_000, number, np.uint8)}), False)
            request.respond(None, True)

        Background(respond).result()

    running = rig(Requests(respond_three_times))
    executing = Background(lambda: running.execute(request(1, row(1))))

    for number in range(3):
        response = running.responded()
        assert (running.array(response) == number).all()
        data = response.outputs[0].data
        assert isinstance(data, Span)
        running._peer.send(Release([data.offset]))  # pyright: ignore[reportPrivateUsage]

    assert running.responded() == messages.Response(1, [], True)
    executed = executing.result()
    assert isinstance(executed, Executed)
    assert executed.responses == []


def test_what_comes_after_the_end_is_dropped(rig: MakeRig) -> None:
    backend = Requests(echo)
    running = rig(backend)
    running.answers(request(1, row(1)))
    (seen,) = backend.requests

    seen.respond(Response({"y": row(2)}), False)
    seen.respond(Response({"y": row(3)}), True)
    seen.respond(None, True)

    running._peer.channel.send(Responded(messages.Response(99, [])))  # pyright: ignore[reportPrivateUsage]
    assert running.responded().key == 99


def test_a_request_is_ended_once_when_threads_and_execute_compete(rig: MakeRig) -> None:
    def compete(request: Request) -> Response:
        threads = [Background(lambda: request.respond(Response(), True)) for _ in range(3)]
        for thread in threads:
            thread.result()
        return Response({"y": row(1)})

    running = rig(Requests(compete))

    assert running.answers(request(1, row(1))) == {}

    assert running.responded() == messages.Response(1, [], True)
    assert running.inbox == NOTHING_OPEN


def test_a_failing_execute_does_not_answer_what_a_thread_has_answered(rig: MakeRig) -> None:
    def answer_and_fail(request: Request) -> None:
        if request.key == 1:
            request.respond(Response({"y": row(1)}), True)
        else:
            raise RuntimeError("out of cheese")

    running = rig(Requests(answer_and_fail))

    answers = running.answers(request(1, row(1)), request(2, row(2)))

    assert sorted(answers) == [2]
    assert running.responded().key == 1


def test_a_response_that_cannot_be_sent_leaves_as_an_error(rig: MakeRig) -> None:
    def respond(request: Request) -> None:
        large = np.zeros((1, 100_000), np.uint8)
        request.respond(Response({"y": large, "z": np.array(["\udcff"], object)}), False)
        request.respond(Response({"y": row(1)}), True)

    running = rig(Requests(respond))
    running.answers(request(1, row(1), outputs=["y", "z"]))

    first = running.responded()

    assert not first.final
    assert "UnicodeEncodeError" in error_of(first)[1]
    assert running.responded().final
    assert NOTHING_USED in running.memory


def test_an_error_may_be_sent_and_more_may_follow(rig: MakeRig) -> None:
    def respond(request: Request) -> None:
        request.respond(Response(error=NotFoundError("no such token")), False)
        request.respond(None, True)

    running = rig(Requests(respond))
    running.answers(request(1, row(1)))

    response = running.responded()
    assert (error_of(response), response.final) == (("NOT_FOUND", "no such token"), False)
    assert running.responded() == messages.Response(1, [], True)


def test_a_thread_that_waits_for_space_goes_on_when_another_response_fails(
    rig: MakeRig,
) -> None:
    """No message comes: the space is given back inside of the worker."""
    elements: list[Any] = []
    placed, waiting = threading.Event(), threading.Event()

    class Slow:
        """Text that is encoded when the other thread waits, and that cannot be."""

        def __str__(self) -> str:
            placed.set()
            assert waiting.wait(TIMEOUT)
            return "\udcff"

    elements.append(Slow())

    def respond(request: Request) -> None:
        def doomed() -> None:
            outputs: dict[str, Array] = {
                "y": np.zeros(3_000_000, np.uint8),
                "z": np.array(elements, object),
            }
            request.respond(Response(outputs), False)

        failing = Background(doomed)
        assert placed.wait(TIMEOUT)
        succeeding = Background(
            lambda: request.respond(Response({"y": np.ones(3_000_000, np.uint8)}), False)
        )
        while not running.someone_waits():
            pass
        waiting.set()
        failing.result()
        succeeding.result()
        request.respond(None, True)

    class Watched(Rig):
        def someone_waits(self) -> bool:
            return bool(self._memory._waiting)  # pyright: ignore[reportPrivateUsage]

    with Peer() as peer:
        running = Watched(peer, Requests(respond), config())
        running.execute(request(1, row(1), outputs=["y", "z"]))

        first_two = [running.responded() for _ in range(2)]
        assert running.responded().final
        running.close()

    (failure,) = [response for response in first_two if response.error is not None]
    assert "UnicodeEncodeError" in error_of(failure)[1]


def test_a_model_may_ask_whether_its_client_has_gone(rig: MakeRig) -> None:
    asked: list[bool] = []

    def wait_for_cancellation(request: Request) -> Response:
        asked.append(request.is_cancelled())
        running.cancel(request.key)
        while not request.is_cancelled():
            pass
        asked.append(request.is_cancelled())
        return Response()

    running = rig(Requests(wait_for_cancellation))

    running.answers(request(5, row(1)))

    assert asked == [False, True]
    assert running.inbox == NOTHING_OPEN


def test_an_instance_says_what_it_is(rig: MakeRig) -> None:
    assert repr(rig(Tensors(doubled)).instance).startswith("<Instance m_0 of <")


# --- sequences ------------------------------------------------------------------------------------

SUMS = config(
    4,
    sequence_batching={
        "state": [
            {"input_name": "s", "output_name": "t", "data_type": "TYPE_FP32", "dims": [-1]},
        ]
    },
)


def added(inputs: dict[str, Array]) -> dict[str, Array]:
    total = inputs["s"] + inputs["x"]
    return {"y": total, "z": total, "t": total}


def turn(key: int, value: float, slot: int, flags: int = 0, width: int = 1) -> messages.Request:
    """A request of the sequence in a slot."""
    made = request(key, row(value, width))
    made.slot, made.flags = slot, flags
    return made


def null() -> messages.Request:
    return messages.Request(0, [], [], null=True)


@pytest.mark.parametrize("kind", ["tensors", "requests"])
def test_a_sequences_state_is_kept_in_its_slot(rig: MakeRig, kind: str) -> None:
    backend: Backend = Tensors(added)
    if kind == "requests":
        backend = Requests(lambda request: Response(added(request.inputs)))
    running = rig(backend, SUMS)

    running.answers(turn(1, 1, 0, START), turn(2, 10, 1, START))
    answers = running.answers(turn(3, 2, 0), turn(4, 20, 1))

    assert running.array(answers[3]).tolist() == [[3]]
    assert running.array(answers[4]).tolist() == [[30]]
    assert [tensor.name for tensor in answers[3].outputs] == ["y"]


def test_a_null_request_fills_its_row_and_is_not_answered(rig: MakeRig) -> None:
    backend = Tensors(added)
    running = rig(backend, SUMS)

    answers = running.answers(null(), turn(1, 5, 1, START), null())

    assert backend.batches[0]["x"].tolist() == [[0], [5], [0]]
    assert backend.batches[0]["s"].tolist() == [[0], [0], [0]]
    assert list(answers) == [1]
    assert running.array(answers[1]).tolist() == [[5]]
    assert running.inbox == NOTHING_OPEN


def test_a_null_request_is_seen_by_a_backend_of_requests_and_not_answered(rig: MakeRig) -> None:
    backend = Requests(lambda request: Response({"y": request.inputs["x"]}))
    running = rig(backend, SUMS)

    answers = running.answers(null(), turn(1, 5, 1, START))

    assert [each.key for each in backend.requests] == [0, 1]
    assert list(answers) == [1]
    backend.requests[0].respond(Response({"y": row(1)}), True)  # nobody hears of it


def test_a_failing_batch_answers_no_null_request_and_keeps_the_state(rig: MakeRig) -> None:
    def refuse_negative(inputs: dict[str, Array]) -> dict[str, Array]:
        if (inputs["x"] < 0).any():
            raise InvalidArgumentError("x must not be negative")
        if (inputs["x"] > 99).any():
            raise RuntimeError("too much")
        return added(inputs)

    running = rig(Tensors(refuse_negative), SUMS)
    running.answers(turn(1, 1, 1, START))

    assert list(running.answers(null(), turn(2, -1, 1))) == [2]
    assert list(running.answers(null(), turn(3, 100, 1))) == [3]

    assert running.array(running.answers(null(), turn(4, 2, 1))[4]).tolist() == [[3]]


def test_sequences_whose_states_have_grown_apart_run_one_after_the_other(rig: MakeRig) -> None:
    def growing(inputs: dict[str, Array]) -> dict[str, Array]:
        return {"y": inputs["s"], "t": np.concatenate([inputs["s"], inputs["x"]], 1)}

    backend = Tensors(growing)
    running = rig(backend, SUMS)
    running.answers(turn(1, 1, 0, START))

    answers = running.answers(turn(2, 2, 0), turn(3, 3, 1, START))

    assert running.array(answers[2]).tolist() == [[0, 1]]
    assert running.array(answers[3]).tolist() == [[0]]
    assert len(backend.batches) == 3


def test_a_request_may_be_put_back_instead_of_answered(rig: MakeRig) -> None:
    def again(request: Request) -> Response | None:
        request.reschedule = request.inputs["x"].sum() > 1
        return None if request.reschedule else Response({"y": request.inputs["x"]})

    running = rig(Requests(again))

    executed = running.execute(request(1, row(1, 1)), request(2, row(2, 1)))

    assert [response.key for response in executed.responses] == [1]
    assert executed.rescheduled == [2]
    assert running.inbox == NOTHING_OPEN


# --- several batches at once ----------------------------------------------------------------------


def copied(request: Request) -> Response:
    return Response({"y": request.inputs["x"]})


def test_batches_that_go_on_are_answered_in_the_order_in_which_they_end(rig: MakeRig) -> None:
    backend = Together(copied)
    running = rig(backend)
    for batch in (1, 2, 3):
        assert running.begin(batch, request(batch, row(batch))) is None
    assert running.instance.ongoing == 3
    assert backend.requests == []

    for number in (2, 0, 1):
        Background(backend.done[number]).result()
        executed = running.finish()
        (response,) = executed.responses
        assert (executed.batch, response.key) == (number + 1, number + 1)
        assert running.array(response).tolist() == [[number + 1.0] * 2]
        assert executed.start_ns <= executed.input_end_ns <= executed.output_start_ns
        assert executed.output_start_ns <= executed.end_ns

    assert running.instance.ongoing == 0
    assert running.inbox == NOTHING_OPEN


def test_a_batch_that_ends_while_nothing_arrives_wakes_the_main_loop(rig: MakeRig) -> None:
    backend = Together(copied)
    running = rig(backend)
    running.begin(1, request(1, row(1)))
    waiting = Background(running.finish)

    backend.done[0]()

    executed = waiting.result()
    assert isinstance(executed, Executed)
    assert executed.batch == 1


def test_what_cannot_be_read_of_a_batch_that_goes_on_is_answered_with_it(rig: MakeRig) -> None:
    backend = Together(copied)
    running = rig(backend)
    broken = messages.Request(2, [Tensor("x", "FP32", (3,), memoryview(b"1234"))], ["y"])
    running.begin(1, request(1, row(1)), broken)

    backend.done[0]()
    executed = running.finish()

    answers = {response.key: response for response in executed.responses}
    assert answers[1].error is None
    assert error_of(answers[2])[0] == "INVALID_ARG"


def test_an_execution_that_cannot_begin_is_answered_at_once(rig: MakeRig) -> None:
    backend = Together(copied)
    backend.refuses = RuntimeError("no loop")
    running = rig(backend)

    executed = running.begin(1, request(1, row(1)))

    assert executed is not None
    (response,) = executed.responses
    assert error_of(response) == (
        "INTERNAL",
        "model 'm' version 3 failed: RuntimeError: no loop",
    )
    assert running.instance.ongoing == 0


def test_a_batch_that_goes_on_may_be_put_back(rig: MakeRig) -> None:
    def again(request: Request) -> None:
        request.reschedule = True

    backend = Together(again)
    running = rig(backend)
    running.begin(1, request(1, row(1)))

    backend.done[0]()

    assert running.finish().rescheduled == [1]
