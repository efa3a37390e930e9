"""Which models on demand are loaded, on a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tritonpy.supervisor.models.identifier import ModelIdentifier
from tritonpy.supervisor.models.residency import (
    TRANSITIONS,
    Residence,
    ResidenceEvent,
    Residency,
    Verdict,
)

A, B, C = (ModelIdentifier("", name) for name in "abc")


def core(*models: ModelIdentifier, idle_secs: float = 100) -> Residency:
    """Models on demand that are loaded and not used, each a second later than the one before."""
    made = Residency(idle_secs)
    for second, model in enumerate(models):
        made.admit(model)
        assert made.request(model, second) is Verdict.LOAD
        made.loaded(model, second)
        made.release(model, second)
    return made


def evicted(
    made: Residency,
    now: float,
    excess: int = 0,
    sizes: Mapping[ModelIdentifier, int] | None = None,
    busy: Collection[ModelIdentifier] = (),
) -> list[ModelIdentifier]:
    return [one.model for one in made.evict(now, excess, sizes, busy)]


def test_the_first_request_loads_a_model_and_those_that_follow_wait() -> None:
    made = Residency(100)
    made.admit(A)
    assert made.state(A) is Residence.ABSENT
    assert [made.request(A, 0) for _ in range(3)] == [Verdict.LOAD, Verdict.WAIT, Verdict.WAIT]
    made.loaded(A, 5)
    assert made.request(A, 6) is Verdict.SERVE
    assert made.residents == [A]
    assert repr(made) == "<Residency: 1 of 1 models loaded>"


def test_an_idle_model_is_unloaded_and_loaded_by_its_next_request() -> None:
    made = core(A)
    assert evicted(made, 99) == []
    assert evicted(made, 100) == [A]
    assert made.state(A) is Residence.ABSENT
    assert evicted(made, 1000) == []
    assert made.request(A, 1000) is Verdict.LOAD


def test_each_request_begins_the_idle_time_anew_when_it_ends() -> None:
    made = core(A)
    assert made.request(A, 50) is Verdict.SERVE
    assert evicted(made, 10_000) == []
    made.release(A, 10_000)
    assert evicted(made, 10_099) == []
    assert evicted(made, 10_100) == [A]


def test_without_an_idle_time_nothing_is_unloaded_for_idleness() -> None:
    assert evicted(core(A, idle_secs=0), 1e9) == []


def test_when_memory_is_short_the_least_recently_used_go_until_it_is_enough() -> None:
    made = core(A, B, C)
    made.release(A, 0)  # one too many is harmless
    made.request(A, 10)
    made.release(A, 11)
    sizes = {A: 50, B: 40, C: 30}
    assert evicted(made, 12, 0, sizes) == []
    assert evicted(made, 12, 41, sizes) == [B, C]
    assert made.residents == [A]
    assert evicted(made, 12, 1, sizes) == [A]
    assert evicted(made, 12, 1000, sizes) == []


def test_what_goes_for_idleness_counts_as_memory_that_is_freed() -> None:
    made = core(A, B)
    assert evicted(made, 100, 40, {A: 50, B: 50}) == [A]


@pytest.mark.parametrize("excess", [0, 1000])
def test_a_model_that_is_used_never_goes(excess: int) -> None:
    made = core(A, B)
    made.request(A, 5)
    assert evicted(made, 1000, excess, {A: 50, B: 50}, busy=[B]) == []
    # The use by others was a use as well.
    assert evicted(made, 1099, 0, busy=[]) == []
    assert evicted(made, 1100, 0, busy=[]) == [B]


def test_after_a_failed_load_requests_are_refused_for_a_while_that_grows() -> None:
    made = Residency(100)
    made.admit(A)
    now = 0.0
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        assert made.request(A, now) is Verdict.LOAD
        made.load_failed(A, "no weights", now)
        made.release(A, now)
        assert made.request(A, now + pause - 0.1) is Verdict.REFUSE
        assert made.reason(A) == "no weights"
        now += pause
    assert made.request(A, now) is Verdict.LOAD
    made.loaded(A, now)
    assert made.reason(A) == ""


def test_a_model_that_is_admitted_again_may_be_tried_at_once() -> None:
    made = Residency(100)
    made.admit(A)
    made.request(A, 0)
    made.load_failed(A, "no", 0)
    assert made.request(A, 0.5) is Verdict.REFUSE
    made.admit(A)
    assert made.reason(A) == ""
    assert made.request(A, 0.5) is Verdict.LOAD


def test_a_load_by_somebody_else_counts() -> None:
    made = Residency(100)
    made.loaded(A, 0)
    assert made.request(A, 1) is Verdict.SERVE
    made.admit(B)
    made.request(B, 1)
    made.loaded(B, 2)
    made.load_failed(B, "too late", 3)
    assert made.state(B) is Residence.RESIDENT


def test_what_is_forgotten_is_nobodys_concern() -> None:
    made = core(A)
    made.request(A, 1)
    made.forget(A)
    made.release(A, 2)
    made.load_failed(A, "no", 2)
    assert len(made) == 0
    assert evicted(made, 1000, 1000) == []


def test_every_state_may_be_reached_and_only_a_resident_goes() -> None:
    assert set(TRANSITIONS.values()) == set(Residence)
    goes = [state for state, event in TRANSITIONS if event is ResidenceEvent.EVICTED]
    assert goes == [Residence.RESIDENT]


class Requests(RuleBasedStateMachine):
    """Any order of requests, loads, failures, evictions: who uses a model finds it loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Residency(10)
        self.now = 0.0
        self.using = dict.fromkeys((A, B), 0)
        self.waiting = dict.fromkeys((A, B), 0)
        for model in self.using:
            self.core.admit(model)

    @rule(seconds=st.floats(0, 20))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(model=st.sampled_from([A, B]))
    def request(self, model: ModelIdentifier) -> None:
        loading = self.core.state(model) is Residence.LOADING
        verdict = self.core.request(model, self.now)
        assert (verdict is Verdict.WAIT) == loading
        if verdict is Verdict.SERVE:
            self.using[model] += 1
        elif verdict is not Verdict.REFUSE:
            self.waiting[model] += 1

    @rule(model=st.sampled_from([A, B]), well=st.booleans())
    def load_ends(self, model: ModelIdentifier, well: bool) -> None:
        if self.core.state(model) is not Residence.LOADING:
            return
        if well:
            self.core.loaded(model, self.now)
            self.using[model] += self.waiting[model]
        else:
            self.core.load_failed(model, "no", self.now)
            for _ in range(self.waiting[model]):
                self.core.release(model, self.now)
        self.waiting[model] = 0

    @precondition(lambda self: any(self.using.values()))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from([one for one, uses in self.using.items() if uses]))
        self.core.release(model, self.now)
        self.using[model] -= 1

    @rule(excess=st.integers(0, 100))
    def evict(self, excess: int) -> None:
        for eviction in self.core.evict(self.now, excess, {A: 50, B: 50}):
            assert not self.using[eviction.model]

    @invariant()
    def whoever_uses_a_model_finds_it_loaded(self) -> None:
        for model, uses in self.using.items():
            assert not uses or self.core.state(model) is Residence.RESIDENT


TestRequests = Requests.TestCase
