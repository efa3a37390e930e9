"""Tests for tritonpy.worker.python.sender, and the answer and the abandoned requests behind it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from tritonpy.ipc.errors import CancelledError, InternalError, UnavailableError
from tritonpy.worker.backend import Request, Response
from tritonpy.worker.python.abandoned import Abandoned
from tritonpy.worker.python.answer import Answer, State
from tritonpy.worker.python.errors import TritonError, TritonModelException
from tritonpy.worker.python.responses import TRITONSERVER_RESPONSE_COMPLETE_FINAL as FINAL
from tritonpy.worker.python.responses import InferenceResponse
from tritonpy.worker.python.sender import InferenceResponseSender
from tritonpy.worker.python.tensors import Tensor


class Desk:
    """One request, and what left for its client."""

    def __init__(self, abandoned: Abandoned, decoupled: bool) -> None:
        self.sent: list[tuple[Response | None, bool]] = []
        request = Request(1, "r", {}, ["OUT"], {}, 0, 0, 0, 0, self._respond, lambda: False)
        self.answer = Answer(request, decoupled, abandoned)
        self.sender = InferenceResponseSender(self.answer, request.is_cancelled)

    def _respond(self, response: Response | None, final: bool) -> None:
        self.sent.append((response, final))

    @property
    def outline(self) -> list[tuple[list[float] | str | None, bool]]:
        """The first output of each response, or its error."""
        return [(_content(response), final) for response, final in self.sent]


def _content(response: Response | None) -> list[float] | str | None:
    if response is None:
        return None
    return response.error.message if response.error else response.outputs["OUT"].tolist()


def answer_of(*values: float) -> InferenceResponse:
    return InferenceResponse([Tensor("OUT", np.array(values))])


@pytest.fixture
def abandoned() -> Iterator[Abandoned]:
    abandoned = Abandoned("m_0_0")
    yield abandoned
    abandoned.stop()


@pytest.fixture
def decoupled(abandoned: Abandoned) -> Desk:
    return Desk(abandoned, True)


@pytest.fixture
def plain(abandoned: Abandoned) -> Desk:
    return Desk(abandoned, False)


# --- decoupled
# -------------------------------------------------------------------------------------


def test_a_decoupled_model_sends_many_responses_and_ends(decoupled: Desk) -> None:
    decoupled.sender.send(answer_of(1))
    decoupled.sender.send(answer_of(2))
    decoupled.sender.send(flags=FINAL)

    assert decoupled.outline == [([1.0], False), ([2.0], False), (None, True)]
    assert decoupled.answer.state is State.ANSWERED


def test_an_answer_says_how_far_it_is(decoupled: Desk) -> None:
    assert repr(decoupled.answer) == "<Answer to request 'r' open>"
    decoupled.sender.send(answer_of(1))
    assert repr(decoupled.answer) == "<Answer to request 'r' sent>"
    decoupled.answer.fail(InternalError("broken"))
    assert repr(decoupled.answer) == "<Answer to request 'r' closed>"


def test_a_decoupled_model_may_send_nothing_but_the_end(decoupled: Desk) -> None:
    decoupled.sender.send(flags=FINAL)

    assert decoupled.outline == [(None, True)]


def test_the_last_response_may_carry_the_end(decoupled: Desk) -> None:
    decoupled.sender.send(answer_of(1), FINAL)

    assert decoupled.outline == [([1.0], True)]


def test_nothing_is_sent_after_the_end(decoupled: Desk) -> None:
    decoupled.sender.send(flags=FINAL)

    with pytest.raises(
        TritonModelException,
        match=r"^Unable to send response. Response sender has been closed\.$",
    ):
        decoupled.sender.send(answer_of(1))
    assert len(decoupled.sent) == 1


def test_an_error_is_a_response(decoupled: Desk) -> None:
    error = TritonError("too late", TritonError.CANCELLED)
    decoupled.sender.send(InferenceResponse(error=error), FINAL)

    response, _ = decoupled.sent[0]
    assert response is not None
    assert isinstance(response.error, CancelledError)


def test_outputs_that_nobody_asked_for_are_left_out(decoupled: Desk) -> None:
    extra = Tensor("EXTRA", np.zeros(1))
    decoupled.sender.send(
        InferenceResponse([extra, Tensor("OUT", np.ones(1))], parameters={"k": 1}), FINAL
    )

    response, _ = decoupled.sent[0]
    assert response is not None
    assert list(response.outputs) == ["OUT"]
    assert response.parameters == {"k": 1}


def test_a_refusal_of_the_worker_reaches_the_model(
    decoupled: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(response: Response | None, final: bool) -> None:
        raise UnavailableError("no room")

    monkeypatch.setattr(decoupled.answer._request, "respond", respond)
    with pytest.raises(TritonModelException, match=r"^Unable to send response\. no room$"):
        decoupled.sender.send(answer_of(1))

    monkeypatch.undo()
    decoupled.sender.send(answer_of(2), FINAL)
    assert decoupled.outline == [([2.0], True)]


# --- not decoupled
# ---------------------------------------------------------------------------------


def test_the_one_response_leaves_with_the_end(plain: Desk) -> None:
    array = np.array([1.0])
    plain.sender.send(InferenceResponse([Tensor("OUT", array)]))
    assert plain.outline == []

    array[0] = 9  # the model goes on working
    plain.sender.send(flags=FINAL)
    assert plain.outline == [([1.0], True)]


def test_the_one_response_may_carry_the_end(plain: Desk) -> None:
    plain.sender.send(answer_of(1), FINAL)

    assert plain.outline == [([1.0], True)]


def test_a_second_response_is_refused(plain: Desk) -> None:
    message = r"^Unable to send response. Non-decoupled model cannot send more than one response\.$"
    plain.sender.send(answer_of(1))
    with pytest.raises(TritonModelException, match=message):
        plain.sender.send(answer_of(2))
    plain.sender.send(flags=FINAL)
    with pytest.raises(TritonModelException, match=message):
        plain.sender.send(answer_of(2), FINAL)


def test_an_end_before_the_response_is_refused(plain: Desk) -> None:
    with pytest.raises(
        TritonModelException,
        match=(
            "^Unable to send response. Non-decoupled model cannot send complete final before "
            r"sending a response\.$"
        ),
    ):
        plain.sender.send(flags=FINAL)
    plain.sender.send(answer_of(1), FINAL)


def test_a_second_end_is_refused(plain: Desk) -> None:
    plain.sender.send(answer_of(1), FINAL)

    with pytest.raises(TritonModelException, match="Response sender has been closed"):
        plain.sender.send(flags=FINAL)


# --- arguments
# -------------------------------------------------------------------------------------


def test_an_unknown_flag_is_refused(decoupled: Desk) -> None:
    with pytest.raises(
        TritonModelException, match=r"^Unable to send response. Unsupported flag provided\.$"
    ):
        decoupled.sender.send(answer_of(1), 2)
    decoupled.sender.send(flags=FINAL)


def test_nothing_at_all_is_refused(decoupled: Desk) -> None:
    with pytest.raises(
        TritonModelException,
        match=(
            "^Inference Response object must be provided when the response flags is set to "
            r"zero\.$"
        ),
    ):
        decoupled.sender.send()
    decoupled.sender.send(flags=FINAL)


def test_something_that_is_no_response_is_refused(decoupled: Desk) -> None:
    with pytest.raises(TypeError, match="send expects an InferenceResponse, got list"):
        decoupled.sender.send([])  # type: ignore[arg-type]
    decoupled.sender.send(flags=FINAL)


# --- the backend ends it
# ---------------------------------------------------------------------------


def test_after_a_failure_nothing_can_be_sent(decoupled: Desk) -> None:
    error = InternalError("broken")

    failed = decoupled.answer.fail(error)
    assert failed is not None
    assert failed.error is error
    assert decoupled.answer.fail(error) is None
    with pytest.raises(TritonModelException, match="Response sender has been closed"):
        decoupled.sender.send(answer_of(1))


def test_a_failure_does_not_replace_a_response_that_was_held_back(plain: Desk) -> None:
    plain.sender.send(answer_of(1))

    plain.answer.fail_now(InternalError("broken"))
    assert plain.outline == [([1.0], True)]


def test_of_many_threads_one_ends_the_request(decoupled: Desk) -> None:
    start = threading.Barrier(8)
    refused: list[TritonModelException] = []

    def end() -> None:
        start.wait()
        try:
            decoupled.sender.send(flags=FINAL)
        except TritonModelException as error:
            refused.append(error)

    threads = [threading.Thread(target=end) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused) == 7
    assert decoupled.outline == [(None, True)]


# --- nobody ends it
# --------------------------------------------------------------------------------


def let_go(desk: Desk, abandoned: Abandoned) -> None:
    abandoned.start()
    del desk.answer, desk.sender
    gc.collect()
    abandoned.stop()


def test_a_request_that_is_let_go_without_a_response_fails(
    decoupled: Desk, abandoned: Abandoned
) -> None:
    let_go(decoupled, abandoned)

    assert decoupled.outline == [
        (
            "Failed to process the request(s) for model 'm_0_0', message: the model let go of the "
            "request without sending a response.",
            True,
        )
    ]


def test_a_request_that_is_let_go_after_responses_is_ended(
    decoupled: Desk, abandoned: Abandoned
) -> None:
    decoupled.sender.send(answer_of(1))
    let_go(decoupled, abandoned)

    assert decoupled.outline == [([1.0], False), (None, True)]


def test_a_response_that_was_held_back_is_sent_when_its_request_is_let_go(
    plain: Desk, abandoned: Abandoned
) -> None:
    plain.sender.send(answer_of(1))
    let_go(plain, abandoned)

    assert plain.outline == [([1.0], True)]


def test_a_request_that_was_ended_is_not_ended_again(decoupled: Desk, abandoned: Abandoned) -> None:
    decoupled.sender.send(flags=FINAL)
    let_go(decoupled, abandoned)

    assert decoupled.outline == [(None, True)]
