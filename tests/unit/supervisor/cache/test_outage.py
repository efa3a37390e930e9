"""A cache that fails is asked now and then only, and its failure is told now and then only."""

from __future__ import annotations

from tritonpy.supervisor.cache.outage import PAUSE_SECS, SILENCE_SECS, Outage


def test_what_works_is_asked() -> None:
    outage = Outage()
    assert outage.may_ask(0.0)
    outage.ended()
    assert outage.may_ask(0.0)
    assert "over" in repr(outage)


def test_after_a_failure_one_request_asks_in_a_while() -> None:
    outage = Outage()
    outage.failed(10.0)
    assert "lasting" in repr(outage)
    assert not outage.may_ask(10.0 + PAUSE_SECS / 2)
    assert outage.may_ask(10.0 + PAUSE_SECS)
    assert not outage.may_ask(10.0 + PAUSE_SECS)  # somebody else finds out
    outage.ended()
    assert outage.may_ask(10.0 + PAUSE_SECS)


def test_a_failure_that_goes_on_is_told_again_after_a_while() -> None:
    outage = Outage()
    told = [outage.failed(at) for at in (0.0, 1.0, SILENCE_SECS - 1, SILENCE_SECS, SILENCE_SECS)]
    assert told == [True, False, False, True, False]
