"""What is queued: it is answered, counted and told, whatever the one who asked does."""

from __future__ import annotations

import logging

import pytest
from support.fakes import Asker, answer, identity_request

from tritonpy.supervisor.request import FailureReason, InferResponse
from tritonpy.supervisor.scheduling.scheduler import Work


def test_only_the_final_response_is_told_to_whom_accepted_the_request() -> None:
    asker = Asker()
    work = asker.work()

    work.answer(InferResponse("m", 1, "", final=False))
    assert asker.finals == []
    work.answer(InferResponse("m", 1, ""), "REJECTED")

    assert work.responses == 2
    assert len(asker.responses) == 2
    assert [reason for _work, _response, reason in asker.finals] == ["REJECTED"]


def test_the_books_are_closed_before_the_client_hears_of_it() -> None:
    order: list[str] = []

    def accepted(_work: Work, _response: InferResponse, _reason: FailureReason | None) -> None:
        order.append("books")

    answer(Work(identity_request(), lambda _response: order.append("client"), accepted))

    assert order == ["books", "client"]


def test_a_client_whose_callback_fails_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_response: InferResponse) -> None:
        raise RuntimeError("the connection's own fault")

    asker = Asker()
    with caplog.at_level(logging.ERROR):
        answer(Work(identity_request(id="r7"), fail, asker.on_final))

    assert len(asker.finals) == 1
    assert "[request id: r7] delivering a response failed" in caplog.text


def test_keys_are_never_used_twice() -> None:
    asker = Asker()
    keys = [asker.work().key for _ in range(100)]
    assert len(set(keys)) == 100
