"""When a cache that failed is asked again, and when its failure is told."""

from __future__ import annotations

#: A cache that has just failed is left alone for so long (seconds).
PAUSE_SECS = 1.0

#: A failure that goes on is told again after so long (seconds).
SILENCE_SECS = 60.0


class Outage:
    """The failures of one cache. Times are seconds of any one clock that does not go back."""

    def __init__(self) -> None:
        self._failing = False
        self._ask_again = 0.0
        self._tell_again = 0.0

    def __repr__(self) -> str:
        return f"<Outage {'lasting' if self._failing else 'over'}>"

    def may_ask(self, now: float) -> bool:
        """Whether the cache may be asked now; while it fails, by one request in a while."""
        if not self._failing:
            return True
        if now < self._ask_again:
            return False
        self._ask_again = now + PAUSE_SECS
        return True

    def failed(self, now: float) -> bool:
        """It has failed. True when that should be told."""
        self._failing = True
        self._ask_again = now + PAUSE_SECS
        if now < self._tell_again:
            return False
        self._tell_again = now + SILENCE_SECS
        return True

    def ended(self) -> None:
        """It has answered."""
        self._failing = False
