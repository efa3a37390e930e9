"""What can never be answered is found, whatever the graph of who waits for whom looks like."""

from __future__ import annotations

from collections.abc import Set
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from tritonpy.supervisor.scheduling.waits import Need, Waiting, stuck


def full(*holders: str) -> Need[str]:
    """A model whose instances all execute: one of these has to end."""
    return partial(_all_in, frozenset(holders))


def _all_in(holders: frozenset[str], blocked: Set[str]) -> bool:
    return holders <= blocked


def waiting(by: str, *needs: Need[str]) -> Waiting[str]:
    return Waiting([by] if by else [], needs)


def test_a_call_of_a_model_that_has_room_is_not_stuck() -> None:
    assert stuck([waiting("a")]) == []
    assert stuck([]) == []


def test_a_model_with_one_instance_that_calls_itself_is_stuck() -> None:
    assert stuck([waiting("a", full("a"))]) == [0]


def test_an_instance_that_computes_will_be_free() -> None:
    assert stuck([waiting("a", full("a", "other"))]) == []


def test_a_circle_is_stuck_as_a_whole_and_what_waits_for_it_too() -> None:
    circle = [waiting("a", full("b")), waiting("b", full("c")), waiting("c", full("a"))]
    beside = [waiting("d", full("a")), waiting("e", full("f"))]
    assert stuck([*circle, *beside]) == [0, 1, 2, 3]


def test_two_instances_that_wait_for_their_own_model_are_stuck_together() -> None:
    one = waiting("a0", full("a0", "a1"))
    assert stuck([one]) == []
    assert stuck([one, waiting("a1", full("a0", "a1"))]) == [0, 1]


def test_all_needs_of_a_call_must_be_met() -> None:
    assert stuck([waiting("a", full("b"), full("a"))]) == [0]


def test_a_call_that_nobody_waits_for_holds_nobody_up() -> None:
    assert stuck([waiting("", full("a")), waiting("a", full("b"))]) == []


_NAMES = st.sampled_from("abcdef")
_CALLS = st.lists(
    st.tuples(_NAMES, st.lists(st.frozensets(_NAMES, min_size=1), max_size=2)), max_size=7
)


@given(_CALLS)
def test_what_is_not_stuck_is_answered_and_what_is_stuck_never(
    drawn: list[tuple[str, list[frozenset[str]]]],
) -> None:
    calls = [waiting(by, *(full(*group) for group in groups)) for by, groups in drawn]

    # Execute: whoever waits for nothing ends, and what needs an end is answered then.
    answered: set[int] = set()
    while True:
        held = {by for i, (by, _) in enumerate(drawn) if i not in answered}
        more = {
            i
            for i, (_, groups) in enumerate(drawn)
            if i not in answered and all(not group <= held for group in groups)
        }
        if not more:
            break
        answered |= more

    assert set(stuck(calls)) == set(range(len(drawn))) - answered
