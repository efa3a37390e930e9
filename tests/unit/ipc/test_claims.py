"""A batch that was sent ahead belongs to the worker or to the supervisor, never to both."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tritonpy.ipc.claims import Claims, Offers


@pytest.fixture
def offers() -> Iterator[Offers]:
    made = Offers()
    yield made
    made.close()


@pytest.fixture
def claims(offers: Offers) -> Claims:
    return Claims(offers.descriptor)


def test_a_batch_that_is_offered_is_the_workers_once(offers: Offers, claims: Claims) -> None:
    offers.offer(7)
    assert claims.claim(7)
    assert offers.take_back() is None


def test_a_batch_that_was_taken_back_is_not_the_workers(offers: Offers, claims: Claims) -> None:
    offers.offer(7)
    assert offers.take_back() == 7
    assert not claims.claim(7)


def test_the_next_offer_does_not_bring_a_batch_back(offers: Offers, claims: Claims) -> None:
    offers.offer(7)
    assert offers.take_back() == 7
    offers.offer(8)
    assert not claims.claim(7)
    assert offers.take_back() is None, "what the worker comes to next is its own already"
    assert claims.claim(8)


def test_an_offer_without_a_batch_is_passed_over(offers: Offers, claims: Claims) -> None:
    offers.offer(7)  # batch 7 could not be sent
    offers.offer(9)
    assert claims.claim(9)


def test_the_oldest_is_taken_back_first(offers: Offers, claims: Claims) -> None:
    offers.offer(2)
    offers.offer(3)
    assert offers.take_back() == 2
    assert not claims.claim(2)
    assert claims.claim(3)


def test_each_batch_is_one_sides_when_both_reach_for_it(offers: Offers, claims: Claims) -> None:
    batches = range(1, 3001)
    claimed: list[int] = []
    taken: list[int] = []
    sent = threading.Semaphore(0)

    def work() -> None:
        for batch in batches:
            sent.acquire()
            if claims.claim(batch):
                claimed.append(batch)

    worker = threading.Thread(target=work)
    worker.start()
    for batch in batches:
        offers.offer(batch)
        sent.release()
        if batch % 3 == 0:
            back = offers.take_back()
            if back is not None:
                taken.append(back)
    worker.join()

    assert sorted([*claimed, *taken]) == list(batches)
