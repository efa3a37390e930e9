"""The tables of states are whole: nothing is unreachable, stuck or forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from tritonpy.supervisor.models import states as models
from tritonpy.supervisor.workers import states as workers

Table = Mapping[tuple[Enum, Enum], Enum]


class Machine(NamedTuple):
    """A table, where it begins, and where it may end."""

    module: ModuleType
    states: type[Enum]
    events: type[Enum]
    table: Any
    first: Enum
    ended: frozenset[Enum]


MACHINES = [
    pytest.param(
        Machine(
            workers,
            workers.WorkerState,
            workers.WorkerEvent,
            workers.TRANSITIONS,
            workers.WorkerState.BACKOFF,
            frozenset(workers.ENDED),
        ),
        id="workers",
    ),
    pytest.param(
        Machine(
            models,
            models.VersionState,
            models.VersionEvent,
            models.TRANSITIONS,
            models.VersionState.UNKNOWN,
            frozenset(),
        ),
        id="versions",
    ),
]


def reachable(table: Table, first: Enum) -> set[Enum]:
    """All states that some events lead to from the first one."""
    found = {first}
    new = {first}
    while new:
        new = {to for (state, _), to in table.items() if state in new} - found
        found |= new
    return found


@pytest.mark.parametrize("machine", MACHINES)
def test_every_state_can_be_reached(machine: Machine) -> None:
    assert reachable(machine.table, machine.first) == set(machine.states)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_event_can_happen(machine: Machine) -> None:
    assert {event for _, event in machine.table} == set(machine.events)


@pytest.mark.parametrize("machine", MACHINES)
def test_only_states_that_are_the_end_are_never_left(machine: Machine) -> None:
    left = {state for (state, _), to in machine.table.items() if to is not state}

    assert set(machine.states) - left == machine.ended


@pytest.mark.parametrize("machine", MACHINES)
def test_the_end_can_be_reached_from_everywhere(machine: Machine) -> None:
    for state in machine.states:
        assert not machine.ended or reachable(machine.table, state) & machine.ended


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_not_in_the_table_raises_and_says_whose_it_was(machine: Machine) -> None:
    for state in machine.states:
        for event in machine.events:
            if (state, event) in machine.table:
                to = machine.module.transition("model 'm'", state, event)
                assert to is machine.table[state, event]
            else:
                with pytest.raises(machine.module.InvalidTransition) as raised:
                    machine.module.transition("model 'm'", state, event)
                assert str(raised.value) == (
                    f"model 'm': '{event.value}' cannot happen in state {state.value}"
                )


def test_a_process_exists_in_exactly_the_states_that_something_may_be_lost_in() -> None:
    alive = {
        state
        for state, event in workers.TRANSITIONS
        if event in (workers.WorkerEvent.LOST, workers.WorkerEvent.EXITED)
    }

    assert alive == workers.ALIVE
    assert not workers.ALIVE & workers.ENDED


def test_the_words_of_version_states_are_tritons() -> None:
    assert [state.value for state in models.VersionState] == [
        "UNKNOWN",
        "LOADING",
        "READY",
        "UNLOADING",
        "UNAVAILABLE",
    ]
