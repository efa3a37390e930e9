"""The table of a worker's states: everything in it leads somewhere, nothing else may happen."""

from __future__ import annotations

import itertools

import pytest

from tritonpy.supervisor.workers.states import (
    ALIVE,
    ENDED,
    TRANSITIONS,
    InvalidTransition,
    WorkerEvent,
    WorkerState,
    transition,
)

FIRST = WorkerState.BACKOFF


@pytest.mark.parametrize(("state", "event"), TRANSITIONS, ids=lambda one: one.name)
def test_the_table_is_obeyed(state: WorkerState, event: WorkerEvent) -> None:
    assert transition("x", state, event) is TRANSITIONS[state, event]


@pytest.mark.parametrize(
    ("state", "event"),
    [pair for pair in itertools.product(WorkerState, WorkerEvent) if pair not in TRANSITIONS],
    ids=lambda one: one.name,
)
def test_everything_else_is_a_bug_that_says_whose_it_is(
    state: WorkerState, event: WorkerEvent
) -> None:
    with pytest.raises(InvalidTransition, match=f"digits_0: '{event.value}'.*{state.value}"):
        transition("digits_0", state, event)


def test_every_state_is_reached_from_the_first() -> None:
    reached = {FIRST}
    while more := {to for (at, _), to in TRANSITIONS.items() if at in reached} - reached:
        reached |= more
    assert reached == set(WorkerState)


def test_every_event_can_happen() -> None:
    assert {event for _state, event in TRANSITIONS} == set(WorkerEvent)


def test_nothing_comes_back_from_the_end() -> None:
    for (state, _event), after in TRANSITIONS.items():
        if state in ENDED:
            assert after is state


def test_a_state_is_alive_ended_or_waiting() -> None:
    assert ALIVE | ENDED | {WorkerState.BACKOFF} == set(WorkerState)
    assert not ALIVE & ENDED


@pytest.mark.parametrize("state", WorkerState)
def test_a_worker_may_be_stopped_in_every_state(state: WorkerState) -> None:
    after = transition("x", state, WorkerEvent.STOP_REQUESTED)

    assert after is WorkerState.STOPPING if state in ALIVE else after in ENDED
