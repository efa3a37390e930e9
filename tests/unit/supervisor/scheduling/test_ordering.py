"""Responses wait for those of earlier requests."""

from __future__ import annotations

from support.fakes import Asker, answer

from tritonpy.supervisor.request import InferResponse
from tritonpy.supervisor.scheduling.ordering import Ordering


def test_an_early_answer_waits_for_the_requests_before_it() -> None:
    asker, ordering = Asker(), Ordering()
    works = [asker.work(id=f"r{number}") for number in range(3)]
    for work in works:
        ordering.track(work)

    answer(works[2])
    answer(works[1])
    assert asker.responses == []
    answer(works[0])

    assert [response.id for response in asker.responses] == ["r0", "r1", "r2"]
    assert len(ordering) == 0


def test_responses_of_the_first_request_go_at_once_and_hold_the_others_until_the_last() -> None:
    asker, ordering = Asker(), Ordering()
    first, second = asker.work(id="first"), asker.work(id="second")
    ordering.track(first)
    ordering.track(second)

    first.answer(InferResponse("m", 1, "first", final=False))
    answer(second)
    assert [response.id for response in asker.responses] == ["first"]
    answer(first)

    assert [response.id for response in asker.responses] == ["first", "first", "second"]


def test_a_request_that_is_sent_a_second_time_keeps_its_place() -> None:
    asker, ordering = Asker(), Ordering()
    first, second = asker.work(id="first"), asker.work(id="second")
    for work in (first, second, first):
        ordering.track(work)

    answer(second)
    answer(first)

    assert [response.id for response in asker.responses] == ["first", "second"]
    assert len(ordering) == 0


def test_a_fault_of_one_who_asked_holds_up_nobody() -> None:
    asker, ordering = Asker(), Ordering()
    first, second = asker.work(id="first"), asker.work(id="second")

    def fail(_response: InferResponse) -> None:
        raise ValueError("gone")

    first.respond = fail
    ordering.track(first)
    ordering.track(second)

    answer(second)
    answer(first)

    assert [response.id for response in asker.responses] == ["second"]
