"""The table of a version's states: everything in it leads somewhere, nothing else may happen."""

from __future__ import annotations

import itertools

import pytest

from tritonpy.supervisor.models.states import (
    TRANSITIONS,
    InvalidTransition,
    VersionEvent,
    VersionState,
    transition,
)

FIRST = VersionState.UNKNOWN


@pytest.mark.parametrize(("state", "event"), TRANSITIONS, ids=lambda one: one.name)
def test_the_table_is_obeyed(state: VersionState, event: VersionEvent) -> None:
    assert transition("x", state, event) is TRANSITIONS[state, event]


@pytest.mark.parametrize(
    ("state", "event"),
    [pair for pair in itertools.product(VersionState, VersionEvent) if pair not in TRANSITIONS],
    ids=lambda one: one.name,
)
def test_everything_else_is_a_bug_that_says_whose_it_is(
    state: VersionState, event: VersionEvent
) -> None:
    with pytest.raises(InvalidTransition, match=f"model 'm' version 3: '{event.value}'"):
        transition("model 'm' version 3", state, event)


def test_every_state_is_reached_from_the_first() -> None:
    reached = {FIRST}
    while more := {to for (at, _), to in TRANSITIONS.items() if at in reached} - reached:
        reached |= more
    assert reached == set(VersionState)


def test_every_event_can_happen() -> None:
    assert {event for _state, event in TRANSITIONS} == set(VersionEvent)


@pytest.mark.parametrize("state", [one for one in VersionState if one.name != "LOADING"])
def test_a_load_may_be_asked_for_in_every_state_but_while_one_is_under_way(
    state: VersionState,
) -> None:
    assert transition("x", state, VersionEvent.LOAD_REQUESTED) in (
        VersionState.LOADING,
        VersionState.READY,
    )


def test_a_failed_reload_leaves_what_serves() -> None:
    state = transition("x", VersionState.READY, VersionEvent.LOAD_REQUESTED)
    assert transition("x", state, VersionEvent.LOAD_FAILED) is VersionState.READY
