"""Since when requests at a worker have waited, and which of them for too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tritonpy.supervisor.workers.execution_times import ExecutionTimes

LIMIT = 100


def times() -> ExecutionTimes:
    return ExecutionTimes(LIMIT)


def test_nothing_that_is_not_begun_can_be_late() -> None:
    assert times().next_end_ns is None


def test_a_request_has_its_time_from_when_its_batch_begins() -> None:
    known = times()
    known.begin(1, [11, 12], 1000)
    known.begin(1, [11, 12], 1050)  # it is known

    assert known.next_end_ns == 1100
    assert repr(known) == "<ExecutionTimes of 2 requests in 1 batches>"
    known.ended(11)
    known.ended(12)
    assert known.next_end_ns is None


def test_the_request_that_has_waited_longest_counts() -> None:
    known = times()
    known.begin(1, [11], 1000)
    known.begin(2, [21], 1030)

    known.ended(11)

    assert known.next_end_ns == 1130


def test_a_response_during_an_execution_is_a_sign_for_the_whole_batch() -> None:
    known = times()
    known.begin(1, [11, 12], 1000)
    known.begin(2, [21], 1010)

    known.heard(11, 1050)

    assert known.next_end_ns == 1110
    known.ended(21)
    assert known.next_end_ns == 1150
    known.ended(11)
    assert known.next_end_ns == 1150


def test_after_the_execution_each_request_is_on_its_own() -> None:
    known = times()
    known.begin(1, [11, 12], 1000)
    known.executed(1, 1040)

    known.heard(11, 1080)

    assert known.next_end_ns == 1140
    known.ended(12)
    assert known.next_end_ns == 1180
    known.ended(11)
    assert repr(known) == "<ExecutionTimes of 0 requests in 0 batches>"


def test_what_is_not_known_changes_nothing() -> None:
    known = times()
    known.begin(1, [11], 1000)

    known.heard(99, 1050)
    known.ended(99)
    known.executed(9, 1050)

    assert known.next_end_ns == 1100


Step = tuple[str, int]


@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "heard", "ended", "executed"]), st.integers(0, 5)),
        max_size=40,
    )
)
def test_the_next_end_is_that_of_the_request_that_was_quiet_longest(steps: list[Step]) -> None:
    """Against a model that looks at everything each time; batch n has the requests 2n and 2n+1."""
    known = times()
    open_since: dict[int, int] = {}
    executing: set[int] = set()
    begun: set[int] = set()
    for now, (step, number) in enumerate(steps):
        batch = {2 * number, 2 * number + 1}
        if step == "begin" and number not in begun:
            begun.add(number)
            executing.add(number)
            open_since.update(dict.fromkeys(batch, now))
            known.begin(number, sorted(batch), now)
        elif step == "executed" and number in executing:
            executing.discard(number)
            open_since.update(dict.fromkeys(batch & open_since.keys(), now))
            known.executed(number, now)
        elif step == "heard":
            heard = batch if number in executing else {2 * number}
            open_since.update(dict.fromkeys(heard & open_since.keys(), now))
            known.heard(2 * number, now)
        elif step == "ended":
            open_since.pop(2 * number + 1, None)
            known.ended(2 * number + 1)
        expected = min(open_since.values()) + LIMIT if open_since else None
        assert known.next_end_ns == expected
