"""Tests for tritonpy.worker.python.bls, response_iterator and model_control: what models call."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from support.peers import Background

from tritonpy.ipc.errors import CancelledError, StatusError, UnavailableError
from tritonpy.ipc.messages import MetricChanges
from tritonpy.worker.peers import Outgoing, Reply
from tritonpy.worker.python import bls, pb_utils
from tritonpy.worker.python.errors import TritonError, TritonModelException
from tritonpy.worker.python.response_iterator import ResponseIterator
from tritonpy.worker.python.responses import InferenceResponse


class Talk:
    """A conversation whose replies the test has ready, or gives later."""

    def __init__(self, replies: list[Reply]) -> None:
        self.replies = deque(replies)
        self.on_reply: Callable[[], None] | None = None
        self.withdrawn = self.forgotten = 0

    def next(self) -> Reply:
        if not self.replies:
            raise UnavailableError("the model is being unloaded")
        return self.replies.popleft()

    def withdraw(self) -> None:
        self.withdrawn += 1

    def forget(self) -> None:
        self.forgotten += 1


class Others:
    """The server's other models."""

    def __init__(self) -> None:
        self.asked: list[Outgoing] = []
        self.talk = Talk([reply(1.0)])
        self.refusal: StatusError | None = None
        self.done: list[object] = []

    def ask(self, outgoing: Outgoing, on_reply: Callable[[], None] | None = None) -> Talk:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(outgoing)
        self.talk.on_reply = on_reply
        return self.talk

    def load(self, model: str, config: str, files: Mapping[str, bytes]) -> None:
        self._do("load", model, config, files)

    def unload(self, model: str, *, dependents: bool) -> None:
        self._do("unload", model, dependents)

    def is_ready(self, model: str, version: str) -> bool:
        self._do("ready", model, version)
        return True

    def declare_family(self, name: str, description: str, kind: str) -> None:
        self._do("family", name)

    def tell_metrics(self, changes: MetricChanges) -> None:
        self._do("metrics")

    def _do(self, *what: object) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.done.append(what)


def reply(*values: float, final: bool = True, error: StatusError | None = None) -> Reply:
    outputs = {"OUT": np.array(values, np.float32)} if values else {}
    return Reply(outputs, {"p": 1.5}, error, final)


@pytest.fixture
def others() -> Iterator[Others]:
    made = Others()
    bls.enter(bls.Stage.BESIDE, "m_0_0", made)
    bls.enter(bls.Stage.SERVING)
    yield made
    bls.enter(bls.Stage.OUTSIDE)


def made(**fields: Any) -> pb_utils.InferenceRequest:
    tensor = pb_utils.Tensor("IN", np.array([3.0], np.float32))
    fields = {"inputs": [tensor], "requested_output_names": ["B", "A", "B"], **fields}
    return pb_utils.InferenceRequest(model_name="other", **fields)


def told(response: object) -> list[float] | str:
    assert isinstance(response, InferenceResponse)
    error = response.error()
    if error is not None:
        return error.message()
    return [float(tensor.as_numpy()[0]) for tensor in response.output_tensors()]


def iterated(answer: object) -> list[list[float] | str]:
    assert isinstance(answer, ResponseIterator)
    return [told(response) for response in answer]


def test_a_request_goes_out_as_it_was_made(others: Others) -> None:
    made(request_id="r", correlation_id="s", flags=1, timeout=7, parameters={"a": True},
         model_version=3).exec()  # fmt: skip

    (sent,) = others.asked
    assert (sent.model, sent.version, list(sent.outputs)) == ("other", 3, ["B", "A"])
    assert [(name, array.tolist()) for name, array in sent.inputs] == [("IN", [3.0])]
    assert (sent.id, sent.correlation_id, sent.flags, sent.timeout_us) == ("r", "s", 1, 7)
    assert (sent.parameters, sent.decoupled, sent.traced) == ({"a": True}, False, 0)


def test_a_response_is_read_like_one_that_was_made(others: Others) -> None:
    response = made().exec()

    assert told(response) == [1.0]
    assert isinstance(response, InferenceResponse)
    assert not response.has_error()
    assert response.parameters() == '{"p": 1.5}'


def test_an_error_is_a_response(others: Others) -> None:
    others.talk = Talk([reply(error=CancelledError("withdrawn"))])
    response = made().exec()
    assert isinstance(response, InferenceResponse)
    assert response.has_error()
    error = response.error()
    assert error is not None
    assert (error.message(), error.code()) == ("withdrawn", TritonError.CANCELLED)


def test_a_request_that_cannot_be_sent_is_an_error_too(others: Others) -> None:
    others.refusal = UnavailableError("full")
    words = "Model other - Error when running inference: full"

    async def ask(decoupled: bool) -> object:
        return await made().async_exec(decoupled)

    assert told(made().exec()) == words
    assert iterated(made().exec(decoupled=True)) == [words]
    assert told(asyncio.run(ask(False))) == words
    assert iterated(asyncio.run(ask(True))) == [words]


@pytest.mark.parametrize("stage", [bls.Stage.BESIDE, bls.Stage.OUTSIDE])
def test_only_execute_may_call(others: Others, stage: bls.Stage) -> None:
    bls.enter(stage)

    async def ask() -> None:
        await made().async_exec()

    words = r"^BLS is only supported during the 'execute' function\.$"
    with pytest.raises(TritonModelException, match=words):
        made().exec()
    with pytest.raises(TritonModelException, match=words):
        asyncio.run(ask())
    assert not others.asked


def test_a_worker_that_ends_is_an_error(others: Others) -> None:
    others.talk = Talk([])
    assert told(made().exec()) == (
        "Model other - Error when running inference: the model is being unloaded"
    )
    assert iterated(made().exec(decoupled=True)) == ["the model is being unloaded"]


@pytest.mark.parametrize(
    "fields",
    [
        {"model_version": "1"},
        {"model_version": True},
        {"request_id": 5},
        {"timeout": 1.5},
        {"timeout": -1},
        {"flags": None},
        {"requested_output_names": [5]},
        {"inputs": ["IN"]},
    ],
)
def test_what_the_server_could_not_read_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="expect"):
        made(**fields)


def test_a_correlation_id_is_text_or_an_unsigned_number(others: Others) -> None:
    for wrong in (-1, 1 << 64):
        with pytest.raises(TritonModelException, match="unsigned integer of 64 bits"):
            made(correlation_id=wrong)
    made(correlation_id=True).exec(decoupled=1)  # type: ignore[arg-type]
    (sent,) = others.asked
    assert (type(sent.correlation_id), sent.correlation_id, sent.decoupled) == (int, 1, True)


def test_models_are_named_by_text() -> None:
    for call in (
        lambda: pb_utils.load_model(5),  # type: ignore[arg-type]
        lambda: pb_utils.unload_model(None),  # type: ignore[arg-type]
        lambda: pb_utils.is_model_ready("x", 1),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="expects its arguments to be str"):
            call()


# --- awaiting -------------------------------------------------------------------------------------


def test_what_is_awaited_comes_from_another_thread(others: Others) -> None:
    others.talk = Talk([])

    async def ask() -> object:
        future = made().async_exec()
        assert not future.done()
        others.talk.replies.append(reply(4.0))
        assert others.talk.on_reply is not None
        threading.Thread(target=others.talk.on_reply).start()
        return await future

    assert told(asyncio.run(ask())) == [4.0]


def test_awaited_of_a_decoupled_model_is_its_first_response(others: Others) -> None:
    others.talk = Talk([reply(1.0, final=False), reply(2.0)])

    async def ask() -> object:
        future = made().async_exec(decoupled=True)
        assert others.talk.on_reply is not None
        others.talk.on_reply()
        return await future

    assert iterated(asyncio.run(ask())) == [[1.0], [2.0]]


def test_a_cancelled_future_forgets_its_request(others: Others) -> None:
    async def ask() -> None:
        future = made().async_exec()
        future.cancel()
        await asyncio.sleep(0)
        assert others.talk.on_reply is not None
        others.talk.on_reply()  # and comes too late
        await asyncio.sleep(0)

    asyncio.run(ask())
    assert others.talk.forgotten == 1


def test_an_answer_after_the_end_of_its_loop_is_dropped(others: Others) -> None:
    async def ask() -> None:
        made().async_exec()

    asyncio.run(ask())
    assert others.talk.on_reply is not None
    others.talk.on_reply()


# --- iterating ------------------------------------------------------------------------------------


def test_responses_are_replayed_when_the_last_one_has_come(others: Others) -> None:
    others.talk = Talk([reply(1.0, final=False), reply(2.0, final=False), reply()])
    answers = made().exec(decoupled=True)
    assert isinstance(answers, ResponseIterator)

    assert told(next(answers)) == [1.0]
    assert iterated(answers) == [[2.0], []], "it goes on where it was"
    assert iterated(answers) == [[1.0], [2.0], []]
    with pytest.raises(StopIteration):
        next(answers)


def test_a_cancelled_request_is_withdrawn_once_it_makes_sense(others: Others) -> None:
    others.talk = Talk([reply(1.0, final=False), reply(error=CancelledError("gone"))])
    answers = made().exec(decoupled=True)
    assert isinstance(answers, ResponseIterator)

    answers.cancel()
    assert others.talk.withdrawn == 1
    assert iterated(answers) == [[1.0], "gone"]
    answers.cancel()
    assert others.talk.withdrawn == 1


def test_an_iterator_that_is_dropped_forgets_what_is_to_come(others: Others) -> None:
    others.talk = Talk([reply(1.0, final=False), reply()])
    answers = made().exec(decoupled=True)
    assert isinstance(answers, ResponseIterator)
    next(answers)
    del answers
    assert others.talk.forgotten == 1

    others.talk = Talk([reply()])
    assert iterated(made().exec(decoupled=True)) == [[]]
    assert others.talk.forgotten == 0, "there was nothing to come"


def test_threads_share_an_iterator(others: Others) -> None:
    count = 200
    others.talk = Talk([reply(float(n + 1), final=n == count - 1) for n in range(count)])
    answers = made().exec(decoupled=True)

    threads = [Background(lambda: iterated(answers)) for _ in range(4)]
    for thread in threads:
        thread.result()
    assert iterated(answers) == [[float(n + 1)] for n in range(count)]


def test_what_was_iterated_is_copied_before_it_fills_the_memory_of_the_other_model(
    others: Others,
) -> None:
    memory = [np.zeros(5 << 20, np.uint8) for _ in range(4)]
    talk = [Reply({"OUT": array[:]}, final=n == 3) for n, array in enumerate(memory)]
    others.talk = Talk(talk)
    answers = made().exec(decoupled=True)
    assert isinstance(answers, ResponseIterator)

    for array in memory:
        (tensor,) = next(answers).output_tensors()
        assert np.shares_memory(tensor.as_numpy(), array), "the last one is where it came"
    kept = [next(iter(one.output_tensors())).as_numpy() for one in answers]
    shared = [np.shares_memory(one, array) for one, array in zip(kept, memory, strict=True)]
    assert shared == [False, False, True, True]
    assert "4 responses" in repr(answers)


# --- model control --------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [bls.Stage.BESIDE, bls.Stage.SERVING])
def test_models_may_be_controlled_from_initialize_to_finalize(
    others: Others, stage: bls.Stage
) -> None:
    bls.enter(stage)
    pb_utils.load_model("x", config="{}", files={"file:1/a": b"b"})
    pb_utils.load_model(model_name="y")
    pb_utils.unload_model("x", unload_dependents=True)
    assert pb_utils.is_model_ready("x", "2")

    assert others.done == [
        ("load", "x", "{}", {"file:1/a": b"b"}),
        ("load", "y", "", {}),
        ("unload", "x", True),
        ("ready", "x", "2"),
    ]


def test_what_goes_wrong_with_other_models_is_raised(others: Others) -> None:
    others.refusal = UnavailableError("not allowed")
    words = "Failed to process the request for model 'm_0_0', message: not allowed"
    with pytest.raises(TritonModelException, match=f"^Failed to load model: {words}$"):
        pb_utils.load_model("x")
    with pytest.raises(TritonModelException, match=f"^Failed to unload model: {words}$"):
        pb_utils.unload_model("x")
    with pytest.raises(TritonModelException, match=f"^Failed to check model readiness: {words}$"):
        pb_utils.is_model_ready("x")


def test_files_are_bytes_by_path(others: Others) -> None:
    with pytest.raises(TypeError, match="dict from str to bytes, got str and str"):
        pb_utils.load_model("x", files={"file:1/a": "text"})  # type: ignore[dict-item]
    assert not others.done


def test_outside_of_a_worker_there_are_no_other_models(others: Others) -> None:
    bls.enter(bls.Stage.OUTSIDE)
    with pytest.raises(TritonModelException, match="load_model is only available to a model in a"):
        pb_utils.load_model("x")
