"""Pings, as gRPC wants them: how often a client may ping, and when the server does (gRFC A8, A9).

All times are seconds of one clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: How often a client without calls may ping, where that is not permitted.
_IDLE_INTERVAL: Final = 7200.0


@dataclass(frozen=True, slots=True)
class PingRules:
    """A client may ping every `interval`, and do it too soon `most_strikes` times. The server pings
    after `time` of silence, waits `timeout` for an answer, and pings `most_without_data` times
    while it sends nothing else. Either count may be 0 for no limit.
    """

    interval: float = 300.0
    most_strikes: int = 2
    time: float = 7200.0
    timeout: float = 20.0
    without_calls: bool = False
    most_without_data: int = 2


class Pings:
    """The pings of one connection, both ways."""

    __slots__ = ("_came_at", "_heard_at", "_rules", "_sent_at", "_without_data", "strikes")

    def __init__(self, rules: PingRules, now: float) -> None:
        self._rules = rules
        #: The client's last ping, and how often it was too soon.
        self._came_at: float | None = None
        self.strikes = 0
        self._heard_at = now
        #: The ping that waits for an answer.
        self._sent_at: float | None = None
        self._without_data = 0

    def __repr__(self) -> str:
        waits = "" if self._sent_at is None else " waits for an answer"
        return f"<Pings strikes={self.strikes}{waits}>"

    def sent_data(self) -> None:
        """The server has sent fields or content, which forgives the client everything."""
        self._came_at = None
        self.strikes = 0
        self._without_data = 0

    def heard(self, now: float) -> None:
        """Something has come: the client is there."""
        self._heard_at = now
        self._sent_at = None

    def came(self, now: float, *, has_calls: bool) -> bool:
        """Note a ping of the client; False when that was one too many."""
        rules = self._rules
        last, self._came_at = self._came_at, now
        interval = rules.interval if has_calls or rules.without_calls else _IDLE_INTERVAL
        if last is None or last + interval <= now:
            return True
        self.strikes += 1
        return not rules.most_strikes or self.strikes <= rules.most_strikes

    def due(self, now: float, *, has_calls: bool) -> bool:
        """Whether the server has to ping now; what is due counts as done."""
        rules = self._rules
        if self._sent_at is not None or now < self._heard_at + rules.time:
            return False
        if not (has_calls or rules.without_calls):
            return False
        if rules.most_without_data and self._without_data >= rules.most_without_data:
            return False
        self._sent_at = now
        self._without_data += 1
        return True

    def is_dead(self, now: float) -> bool:
        """Whether the client has not answered in time."""
        return self._sent_at is not None and now >= self._sent_at + self._rules.timeout

    def next_look(self, now: float) -> float:
        """In how many seconds either of these may be another than now."""
        if self._sent_at is not None:
            return max(self._sent_at + self._rules.timeout - now, 0.0)
        left = self._heard_at + self._rules.time - now
        # A silent client that may not be pinged now may be so later, when it has calls.
        return left if left > 0 else self._rules.time
