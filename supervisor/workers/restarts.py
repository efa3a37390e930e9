"""Pure: may a worker that ended be started again, and when?

The first restart is immediate, because most crashes are single. Each further one without a healthy
stretch between waits twice as long, and after too many the worker is given up: a model that cannot
run must not burn a core for ever.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How patient we are with a worker. Times in seconds."""

    first_delay: float = 0.5
    longest_delay: float = 30.0
    #: A worker that was READY for so long has proven itself: earlier failures are forgotten.
    healthy_after: float = 10.0
    #: So many failures without a healthy stretch between, and the worker is given up.
    give_up_after: int = 10


class Restarts:
    """The failures of one worker so far."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self.failures = 0
        self._ready_since: float | None = None

    def __repr__(self) -> str:
        return f"<Restarts {self.failures} of {self._policy.give_up_after} failures>"

    def ready(self, now: float) -> None:
        """The worker has loaded its model."""
        self._ready_since = now

    def ended(self, now: float) -> float | None:
        """The worker has ended unasked: how long to wait before the next start; None for never."""
        policy = self._policy
        if self._ready_since is not None and now - self._ready_since >= policy.healthy_after:
            self.failures = 0
        self._ready_since = None
        self.failures += 1
        if self.failures >= policy.give_up_after:
            return None
        if self.failures == 1:
            return 0.0
        return min(policy.longest_delay, policy.first_delay * 2.0 ** (self.failures - 2))
