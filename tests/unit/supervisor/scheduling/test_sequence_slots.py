"""Which sequence holds which slot: every rule, on times that the test names."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError, UnavailableError
from tritonpy.supervisor.scheduling.sequence_slots import Head, SequenceSlots

IDLE = 1000


@pytest.fixture
def slots() -> SequenceSlots[str]:
    """An instance with two slots."""
    made: SequenceSlots[str] = SequenceSlots("m", IDLE)
    made.add_instance(0, 2, 0)
    return made


def held(slots: SequenceSlots[str], instance: int = 0) -> list[tuple[int, str]]:
    return [(head.slot, head.item) for head in slots.heads(instance)]


def test_sequences_take_the_lowest_slots_of_all_instances_first() -> None:
    slots: SequenceSlots[str] = SequenceSlots("m", IDLE)
    slots.add_instance(0, 2, 0)
    slots.add_instance(1, 2, 0)
    for number, item in enumerate("abcd", 1):
        slots.enqueue(item, number, 0, start=True)

    assert held(slots, 0) == [(0, "a"), (1, "c")]
    assert held(slots, 1) == [(0, "b"), (1, "d")]


def test_it_is_known_at_which_instance_a_sequence_is() -> None:
    slots: SequenceSlots[str] = SequenceSlots("m", IDLE)
    slots.add_instance(4, 1, 0)
    slots.enqueue("a", 1, 0, start=True)
    slots.enqueue("b", 2, 0, start=True)

    assert slots.instance_of(1) == 4
    assert slots.instance_of(2) is None, "it waits for a slot"
    assert slots.instance_of(3) is None


def test_a_sequence_runs_one_request_at_a_time_in_its_order(slots: SequenceSlots[str]) -> None:
    slots.enqueue("a1", 1, 0, start=True)
    slots.enqueue("a2", 1, 1)

    assert slots.take(0, 0) == ("a1", True, False)
    assert slots.heads(0) == []
    slots.executed("a1", 5)

    assert slots.heads(0) == [Head(0, "a2", 5)]
    assert slots.take(0, 0) == ("a2", False, False)


def test_a_request_without_a_start_for_an_unknown_id_is_refused(slots: SequenceSlots[str]) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        slots.enqueue("x", 7, 0)

    assert refused.value.message == (
        "inference request for sequence 7 to model 'm' must specify the START flag on the first "
        "request of the sequence"
    )
    assert (slots.open, slots.queued) == (0, 0)


def test_numbers_and_texts_are_different_ids(slots: SequenceSlots[str]) -> None:
    slots.enqueue("a", 1, 0, start=True)

    with pytest.raises(InvalidArgumentError):
        slots.enqueue("b", "1", 0)
    slots.enqueue("b", "1", 0, start=True)

    assert slots.open == 2


def test_the_slot_is_free_when_the_end_is_executed_and_not_before(
    slots: SequenceSlots[str],
) -> None:
    slots.enqueue("a1", 1, 0, start=True)
    slots.enqueue("a2", 1, 0, end=True)
    slots.enqueue("b", 2, 0, start=True)
    slots.enqueue("c", 3, 0, start=True)
    assert "1 sequences wait" in repr(slots)
    slots.take(0, 0)
    slots.executed("a1", 1)
    slots.take(0, 0)
    assert held(slots) == [(1, "b")]

    slots.executed("a2", 2)

    assert held(slots) == [(0, "c"), (1, "b")]


def test_after_an_end_the_id_is_free_while_its_requests_still_run(
    slots: SequenceSlots[str],
) -> None:
    slots.enqueue("a1", 1, 0, start=True, end=True)

    with pytest.raises(InvalidArgumentError):
        slots.enqueue("a2", 1, 0)
    assert not slots.enqueue("b1", 1, 0, start=True)

    assert held(slots) == [(0, "a1"), (1, "b1")]


def test_the_backlog_is_first_in_first_out_and_keeps_whole_sequences(
    slots: SequenceSlots[str],
) -> None:
    for id in (1, 2, 3, 4):
        slots.enqueue(f"{id}.1", id, 0, start=True)
        slots.enqueue(f"{id}.2", id, 0, end=True)
    assert (slots.open, slots.queued) == (4, 8)
    for item in ("1.1", "1.2"):
        slots.take(0, 0)
        slots.executed(item, 1)

    assert held(slots) == [(0, "3.1"), (1, "2.1")]
    slots.take(0, 0)
    slots.executed("3.1", 2)

    assert held(slots) == [(0, "3.2"), (1, "2.1")]


def test_a_start_of_an_active_id_goes_on_in_its_slot_behind_what_was_there(
    slots: SequenceSlots[str],
) -> None:
    slots.enqueue("a1", 1, 0, start=True)
    slots.enqueue("a2", 1, 0)

    assert slots.enqueue("b1", 1, 0, start=True) is True

    assert slots.open == 1
    taken = []
    for item in ("a1", "a2", "b1"):
        taken.append(slots.take(0, 0))
        slots.executed(item, 1)
    assert taken == [("a1", True, False), ("a2", False, False), ("b1", True, False)]


def test_a_start_of_an_id_in_the_backlog_stays_in_its_place(slots: SequenceSlots[str]) -> None:
    for id in (1, 2, 3):
        slots.enqueue(f"{id}", id, 0, start=True)

    assert slots.enqueue("3b", 3, 0, start=True) is True

    assert slots.open == 3


# --- time -----------------------------------------------------------------------------------------


def test_an_idle_sequence_loses_its_slot_and_must_start_anew(slots: SequenceSlots[str]) -> None:
    slots.enqueue("a", 1, 0, start=True)
    slots.enqueue("b", 2, 0, start=True)
    slots.enqueue("c", 3, 0, start=True)
    slots.take(0, 0)
    slots.executed("a", 100)
    assert slots.next_end_ns() == 100 + IDLE

    assert slots.expire(100 + IDLE - 1) == []
    assert held(slots) == [(1, "b")]
    assert slots.expire(100 + IDLE) == []

    assert held(slots) == [(0, "c"), (1, "b")]
    with pytest.raises(InvalidArgumentError, match="START"):
        slots.enqueue("a2", 1, 100 + IDLE)


def test_a_request_keeps_its_sequence_alive(slots: SequenceSlots[str]) -> None:
    slots.enqueue("a", 1, 0, start=True)
    slots.take(0, 0)
    slots.executed("a", 0)
    slots.enqueue("a2", 1, IDLE - 1)
    slots.take(0, 0)
    slots.executed("a2", IDLE - 1)

    slots.expire(IDLE + 1)

    assert slots.is_active(1)


def test_a_sequence_that_waits_or_runs_is_not_idle(slots: SequenceSlots[str]) -> None:
    for id in (1, 2, 3):
        slots.enqueue(f"{id}", id, 0, start=True)
    slots.take(0, 0)

    assert slots.next_end_ns() is None
    assert slots.expire(100 * IDLE) == []

    assert all(slots.is_active(id) for id in (1, 2, 3))


def test_a_sequence_that_waits_longer_for_a_slot_than_its_timeout_is_given_up(
    slots: SequenceSlots[str],
) -> None:
    for id in (1, 2, 3, 4):
        slots.enqueue(f"{id}", id, 0, start=True)
    slots.enqueue("3b", 3, 10, timeout_ns=200)
    slots.enqueue("3c", 3, 20, timeout_ns=30)
    slots.enqueue("1b", 1, 0, timeout_ns=5)  # it has its slot
    assert slots.next_end_ns() == 50

    assert slots.expire(49) == []
    assert slots.expire(50) == ["3", "3b", "3c"]

    assert not slots.is_active(3)
    assert slots.is_active(4)
    assert slots.is_active(1)


# --- cancelling -----------------------------------------------------------------------------------


def test_cancelling_a_request_takes_back_all_of_its_sequence_that_waits(
    slots: SequenceSlots[str],
) -> None:
    for item in ("a1", "a2", "a3"):
        slots.enqueue(item, 1, 0, start=item == "a1")
    slots.enqueue("b", 2, 0, start=True)
    slots.take(0, 0)

    assert slots.cancel("a3", 1) == ["a2", "a3"]

    assert not slots.is_active(1)
    assert slots.open == 2  # a1 still runs in its slot
    slots.executed("a1", 2)
    assert slots.open == 1
    assert held(slots) == [(1, "b")]


def test_cancelling_what_runs_takes_back_what_waits_behind_it(slots: SequenceSlots[str]) -> None:
    slots.enqueue("a1", 1, 0, start=True)
    slots.enqueue("a2", 1, 0)
    slots.take(0, 0)

    assert slots.cancel("a1", 1) == ["a2"]
    assert slots.cancel("a1", 1) == []
    assert slots.cancel("unknown", 1) == []


def test_cancelling_in_the_backlog_lets_others_move_up(slots: SequenceSlots[str]) -> None:
    for id in (1, 2, 3, 4):
        slots.enqueue(f"{id}", id, 0, start=True, end=id != 3)

    assert slots.cancel("3", 1) == ["3"]
    slots.take(0, 0)
    slots.executed("1", 2)

    assert held(slots) == [(0, "4"), (1, "2")]


# --- rescheduling ---------------------------------------------------------------------------------


def test_a_rescheduled_request_runs_again_before_the_others_and_without_a_start(
    slots: SequenceSlots[str],
) -> None:
    slots.enqueue("a1", 1, 0, start=True)
    slots.enqueue("a2", 1, 0)
    slots.take(0, 0)

    assert slots.rescheduled("a1", 3) is True

    assert slots.heads(0) == [Head(0, "a1", 3)]
    assert slots.take(0, 0) == ("a1", False, False)
    slots.executed("a1", 4, ended=True)
    assert not slots.is_active(1)
    assert held(slots) == [(0, "a2")]


def test_a_request_whose_sequence_was_lost_is_not_rescheduled(slots: SequenceSlots[str]) -> None:
    slots.enqueue("a1", 1, 0, start=True)
    slots.take(0, 0)
    slots.lose_instance(0, "it fell over", 1)

    assert slots.rescheduled("a1", 2) is False


def test_with_an_implicit_end_the_slot_is_free_after_the_request(
    slots: SequenceSlots[str],
) -> None:
    slots.enqueue("a", 1, 0, start=True)
    slots.take(0, 0)

    slots.executed("a", 1, ended=True)

    assert slots.open == 0
    assert not slots.is_active(1)


# --- losing instances -----------------------------------------------------------------------------


def test_a_lost_instance_ends_its_sequences_until_they_start_anew(
    slots: SequenceSlots[str],
) -> None:
    slots.add_instance(1, 1, 0)
    for id in (1, 2, 3):
        slots.enqueue(f"{id}a", id, 0, start=True)
        slots.enqueue(f"{id}b", id, 0)
    slots.take(0, 0)

    assert slots.lose_instance(0, "it fell over", 10) == ["1b", "3a", "3b"]

    assert held(slots, 1) == [(0, "2a")]
    with pytest.raises(UnavailableError) as refused:
        slots.enqueue("1c", 1, 20)
    assert refused.value.message == (
        "sequence 1 of model 'm' is lost: it fell over; begin it anew, with the START flag"
    )
    slots.executed("1a", 30)  # too late
    slots.add_instance(2, 2, 30)
    slots.enqueue("1d", 1, 30, start=True)
    slots.enqueue("1e", 1, 30)
    assert held(slots, 2) == [(0, "1d")]


def test_what_was_lost_is_forgotten_when_it_would_have_been_idle(
    slots: SequenceSlots[str],
) -> None:
    slots.enqueue("a", 1, 0, start=True)
    slots.lose_instance(0, "it fell over", 10)

    with pytest.raises(InvalidArgumentError, match="START"):
        slots.enqueue("b", 1, 10 + IDLE)


def test_the_slots_of_a_lost_instance_are_given_to_nobody(slots: SequenceSlots[str]) -> None:
    slots.lose_instance(0, "it fell over", 0)
    slots.enqueue("a", 1, 0, start=True)
    assert slots.open == 1

    slots.add_instance(1, 1, 5)

    assert held(slots, 1) == [(0, "a")]


def test_all_sequences_can_be_ended_at_once(slots: SequenceSlots[str]) -> None:
    for id in (1, 2, 3):
        slots.enqueue(f"{id}", id, 0, start=True)
    slots.take(0, 0)

    assert slots.fail_all(1) == ["2", "3"]

    assert slots.queued == 0
    slots.executed("1", 2)
    assert slots.open == 0
