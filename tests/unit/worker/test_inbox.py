"""Whichever thread waits receives for all, and nobody misses what is meant for him."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from support.peers import TIMEOUT, Background, Peer

from tritonpy.ipc.errors import UnavailableError
from tritonpy.ipc.messages import Cancel, Execute, Release, Request, Stop, ToWorker, Trim
from tritonpy.worker.inbox import Inbox


class Released:
    """The spans that came back, as the worker's memory would count them."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def __call__(self, offsets: list[int]) -> None:
        self.offsets.extend(offsets)

    def has(self, offset: int) -> Callable[[], bool]:
        return lambda: offset in self.offsets


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as made:
        yield made


@pytest.fixture
def released() -> Released:
    return Released()


@pytest.fixture
def inbox(peer: Peer, released: Released) -> Iterator[Inbox]:
    made = Inbox(peer.channel, released)
    yield made
    made.close()


def execute(*keys: int) -> Execute:
    return Execute(1, [Request(key, [], ["y"]) for key in keys])


def waits_for(inbox: Inbox, condition: Callable[[], bool]) -> tuple[Background, threading.Event]:
    """A thread that waits, and an event that says that it has looked at its condition."""
    looked = threading.Event()

    def look() -> bool:
        holds = condition()
        looked.set()
        return holds

    thread = Background(lambda: inbox.wait_for(look))
    assert looked.wait(TIMEOUT)
    return thread, looked


def test_work_comes_in_order(peer: Peer, inbox: Inbox) -> None:
    messages: list[ToWorker] = [execute(1), Trim(), execute(2), Stop()]
    for message in messages:
        peer.send(message)

    assert [inbox.next_work() for _ in messages] == messages


def test_what_is_no_work_is_filed_on_the_way(peer: Peer, inbox: Inbox, released: Released) -> None:
    for message in (execute(1), Release([64, 128]), Cancel([1]), Stop()):
        peer.send(message)

    assert [inbox.next_work(), inbox.next_work()] == [execute(1), Stop()]
    assert released.offsets == [64, 128]
    assert inbox.is_cancelled(1)


def test_a_condition_that_holds_is_not_waited_for(inbox: Inbox) -> None:
    inbox.wait_for(lambda: True)


def test_a_thread_that_the_main_thread_joins_gets_its_message(
    peer: Peer, inbox: Inbox, released: Released
) -> None:
    thread, _ = waits_for(inbox, released.has(64))

    peer.send(Release([64]))

    thread.result()


def test_a_thread_receives_the_work_of_the_main_thread_for_it(
    peer: Peer, inbox: Inbox, released: Released
) -> None:
    leader, _ = waits_for(inbox, released.has(64))
    main = Background(inbox.next_work)
    peer.send(Trim())
    assert main.result() == Trim()

    peer.send(Release([64]))
    leader.result()


def test_the_main_thread_receives_what_a_thread_waits_for(
    peer: Peer, inbox: Inbox, released: Released
) -> None:
    main = Background(inbox.next_work)
    follower, _ = waits_for(inbox, released.has(64))
    peer.send(Release([64]))
    follower.result()

    peer.send(Stop())
    assert main.result() == Stop()


def test_a_follower_takes_the_lead_when_the_leader_has_what_it_wanted(
    peer: Peer, inbox: Inbox, released: Released
) -> None:
    first, _ = waits_for(inbox, released.has(64))
    second, _ = waits_for(inbox, released.has(128))
    peer.send(Release([64]))
    first.result()

    peer.send(Release([128]))
    second.result()


def test_no_wake_up_is_lost_among_many_threads(
    peer: Peer, inbox: Inbox, released: Released
) -> None:
    offsets = range(0, 64 * 40, 64)
    threads = [
        Background(lambda offset=offset: inbox.wait_for(released.has(offset)))  # type: ignore[misc]
        for offset in offsets
    ]
    work = Background(lambda: [inbox.next_work() for _ in range(200)])

    for number in range(200):
        peer.send(execute(number))
        if number % 5 == 0:
            peer.send(Release([64 * (number // 5)]))

    for thread in threads:
        thread.result()
    assert work.result() == [execute(number) for number in range(200)]


def test_what_happens_without_a_message_wakes_who_waits(inbox: Inbox) -> None:
    happened: list[int] = []
    leader, _ = waits_for(inbox, lambda: len(happened) > 0)
    follower, _ = waits_for(inbox, lambda: len(happened) > 0)

    happened.append(1)
    inbox.wake()

    leader.result()
    follower.result()


def test_waking_nobody_is_harmless(peer: Peer, inbox: Inbox) -> None:
    inbox.wake()
    peer.send(Stop())

    assert inbox.next_work() == Stop()


def test_a_request_is_open_from_its_arrival_to_its_end(peer: Peer, inbox: Inbox) -> None:
    assert not inbox.is_open(1)
    peer.send(execute(1, 2))
    inbox.next_work()
    assert inbox.is_open(1)

    assert inbox.finish(1)

    assert not inbox.is_open(1)
    assert inbox.is_open(2)


def test_the_requests_of_a_batch_that_was_taken_back_are_open_no_longer(
    peer: Peer, inbox: Inbox
) -> None:
    for message in (execute(1, 2), Cancel([1, 2]), execute(2, 3)):
        peer.send(message)
    taken_back = inbox.next_work()
    assert isinstance(taken_back, Execute)
    inbox.wait_for(lambda: inbox.is_open(3))
    assert inbox.is_cancelled(1)

    inbox.forget(taken_back)

    assert not inbox.is_open(1)
    assert not inbox.is_cancelled(1)
    assert inbox.is_open(2), "it came again with the batch that waits"
    assert inbox.next_work() == execute(2, 3)


def test_a_request_is_ended_by_the_first_who_does(peer: Peer, inbox: Inbox) -> None:
    peer.send(execute(*range(100)))
    inbox.next_work()
    ended: list[int] = []

    def end_all() -> None:
        ended.extend(key for key in range(100) if inbox.finish(key))

    for thread in [Background(end_all) for _ in range(4)]:
        thread.result()

    assert sorted(ended) == list(range(100))


def test_a_cancellation_is_seen_while_the_model_runs(peer: Peer, inbox: Inbox) -> None:
    peer.send(execute(1, 2))
    inbox.next_work()
    assert not inbox.is_cancelled(1)

    peer.send(Cancel([1]))
    peer.send(Trim())
    while not inbox.is_cancelled(1):
        pass

    assert not inbox.is_cancelled(2)
    assert inbox.next_work() == Trim()


def test_a_cancellation_is_seen_while_another_thread_receives(
    peer: Peer, inbox: Inbox, released: Released
) -> None:
    peer.send(execute(1))
    inbox.next_work()
    leader, _ = waits_for(inbox, released.has(64))
    assert not inbox.is_cancelled(1)

    peer.send(Cancel([1]))
    peer.send(Release([64]))
    leader.result()

    assert inbox.is_cancelled(1)


def test_a_cancellation_of_a_queued_request_is_kept(peer: Peer, inbox: Inbox) -> None:
    for message in (execute(1), execute(2), Cancel([2])):
        peer.send(message)
    inbox.next_work()
    while not inbox.is_cancelled(2):
        pass

    assert inbox.next_work() == execute(2)
    assert inbox.is_cancelled(2)


def test_a_cancellation_that_comes_too_late_is_not_remembered(peer: Peer, inbox: Inbox) -> None:
    peer.send(execute(1))
    inbox.next_work()
    inbox.finish(1)

    peer.send(Cancel([1]))
    peer.send(Stop())

    assert inbox.next_work() == Stop()
    assert repr(inbox) == "<Inbox: 0 things to do, 0 open requests, 0 of them cancelled>"


def test_a_cancellation_is_forgotten_with_its_request(peer: Peer, inbox: Inbox) -> None:
    for message in (execute(1), Cancel([1]), Trim()):
        peer.send(message)
    inbox.next_work()
    inbox.next_work()

    assert inbox.finish(1)

    assert not inbox.is_cancelled(1)
    assert repr(inbox) == "<Inbox: 0 things to do, 0 open requests, 0 of them cancelled>"


def test_closing_ends_every_wait_and_returns_when_nobody_receives(
    peer: Peer, released: Released
) -> None:
    inbox = Inbox(peer.channel, released)
    waiting = [waits_for(inbox, released.has(64))[0] for _ in range(3)]

    inbox.close()

    assert peer.channel.receive_nowait() is None  # nobody else has the socket
    for thread in waiting:
        with pytest.raises(UnavailableError, match="the model is being unloaded"):
            thread.result()
    with pytest.raises(UnavailableError, match="the model is being unloaded"):
        inbox.wait_for(released.has(64))


def test_a_closed_inbox_still_answers(peer: Peer, released: Released) -> None:
    inbox = Inbox(peer.channel, released)
    peer.send(execute(1))
    inbox.next_work()

    inbox.close()

    assert not inbox.is_cancelled(1)
    assert inbox.finish(1)
    inbox.wake()
