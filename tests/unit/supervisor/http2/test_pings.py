"""How often a client may ping, and when it is pinged; on a clock of the test."""

from __future__ import annotations

from tritonpy.supervisor.http2.limits import Patience
from tritonpy.supervisor.http2.pings import PingRules, Pings


def test_pings_that_come_too_soon_are_counted() -> None:
    pings = Pings(PingRules(interval=10, most_strikes=2), 0)
    assert pings.came(0, has_calls=True)
    assert pings.came(10, has_calls=True)
    assert [pings.came(now, has_calls=True) for now in (11, 12, 13)] == [True, True, False]


def test_an_answer_forgives_them() -> None:
    pings = Pings(PingRules(interval=10, most_strikes=1), 0)
    assert [pings.came(0, has_calls=True) for _ in range(2)] == [True, True]
    pings.sent_data()
    assert [pings.came(0, has_calls=True) for _ in range(3)] == [True, True, False]


def test_a_client_without_calls_may_ping_every_two_hours_unless_that_is_permitted() -> None:
    for without_calls, welcome in ((False, False), (True, True)):
        rules = PingRules(interval=10, most_strikes=1, without_calls=without_calls)
        pings = Pings(rules, 0)
        found = [pings.came(now, has_calls=False) for now in (0, 20, 40)]
        assert found == [True, True, welcome]
    pings = Pings(PingRules(interval=10, most_strikes=1), 0)
    assert all(pings.came(now, has_calls=False) for now in (0, 7200, 14400))


def test_any_number_may_be_allowed() -> None:
    pings = Pings(PingRules(most_strikes=0), 0)
    assert all(pings.came(0, has_calls=True) for _ in range(1000))


def test_a_silent_client_is_pinged_and_then_given_up() -> None:
    pings = Pings(PingRules(time=100, timeout=10), 0)
    assert not pings.due(99, has_calls=True)
    assert pings.next_look(99) == 1
    assert not pings.due(100, has_calls=False)
    assert pings.next_look(100) == 100
    assert pings.due(100, has_calls=True)
    assert not pings.due(101, has_calls=True)
    assert (pings.next_look(101), pings.is_dead(109)) == (9, False)
    assert pings.is_dead(110)


def test_whatever_comes_is_a_sign_of_life() -> None:
    pings = Pings(PingRules(time=100, timeout=10), 0)
    assert pings.due(100, has_calls=True)
    pings.heard(105)
    assert not pings.is_dead(120)
    assert pings.next_look(120) == 85


def test_no_more_pings_than_allowed_go_out_without_data() -> None:
    pings = Pings(PingRules(time=10, timeout=5, most_without_data=2), 0)
    for now in (10, 30):
        assert pings.due(now, has_calls=True)
        pings.heard(now)
    assert not pings.due(50, has_calls=True)
    pings.sent_data()
    assert pings.due(50, has_calls=True)


def test_patience_runs_out_and_comes_back_with_time() -> None:
    patience = Patience(3, 2)
    assert [patience.spend(5.0) for _ in range(4)] == [True, True, True, False]
    assert [patience.spend(6.0) for _ in range(3)] == [True, True, False]
    assert [patience.spend(100.0) for _ in range(4)] == [True, True, True, False]
