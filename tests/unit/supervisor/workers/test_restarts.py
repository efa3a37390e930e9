"""When a worker is started again, on a clock that the test moves."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.workers.restarts import RestartPolicy, Restarts

POLICY = RestartPolicy(first_delay=1.0, longest_delay=5.0, healthy_after=10.0, give_up_after=6)


def test_the_first_restart_is_immediate_then_each_waits_twice_as_long_and_then_none() -> None:
    restarts = Restarts(POLICY)

    delays = [restarts.ended(now=0.0) for _ in range(6)]

    assert delays == [0.0, 1.0, 2.0, 4.0, 5.0, None]
    assert repr(restarts) == "<Restarts 6 of 6 failures>"


@pytest.mark.parametrize(("lasted", "delay"), [(10.0, 0.0), (9.9, 2.0)])
def test_a_worker_that_was_ready_long_enough_is_forgiven(lasted: float, delay: float) -> None:
    restarts = Restarts(POLICY)
    restarts.ended(now=0.0)
    restarts.ended(now=0.0)
    restarts.ready(now=100.0)

    assert restarts.ended(now=100.0 + lasted) == delay


def test_a_worker_that_dies_before_it_is_ready_gets_no_credit_for_an_earlier_life() -> None:
    restarts = Restarts(POLICY)
    restarts.ready(now=0.0)
    restarts.ended(now=5.0)

    assert restarts.ended(now=1000.0) == 1.0


def test_a_policy_of_one_failure_never_starts_again() -> None:
    assert Restarts(RestartPolicy(give_up_after=1)).ended(now=0.0) is None
