"""The shell around rate_limiter.py: pools ask it before an instance runs, and get their turns."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from ..scheduling.rate_limiter import Demand, Explicit, RateLimiter
from .instance import Instance


class Waiter(Protocol):
    """A pool that had something to run and was not let."""

    def turn_given(self, instance: Instance) -> None:
        """This instance may run now, and holds its resources until it has, or declines."""
        ...


class Turns:
    """The turns of all instances of a server, while the rate limiter is on."""

    def __init__(self, explicit: Iterable[Explicit] = ()) -> None:
        self._limiter: RateLimiter[Instance] = RateLimiter(explicit)
        self._waiters: dict[Instance, Waiter] = {}
        #: Of each instance that waits, which others would do as well: one of them gets the turn.
        self._asked: dict[Instance, Sequence[Instance]] = {}
        self._look_soon: asyncio.Handle | None = None

    def __repr__(self) -> str:
        return f"<Turns by {self._limiter!r}>"

    def check(self, demands: Iterable[Demand]) -> None:
        """Refuse demands that could never be met. Raises InvalidArgumentError."""
        self._limiter.check(demands)

    def join(self, instance: Instance, waiter: Waiter) -> None:
        """An instance begins; its pool is told when it is its turn."""
        self._waiters[instance] = waiter
        self._limiter.join(instance, instance.recipe.demand)

    def leave(self, instance: Instance) -> None:
        """An instance is gone for good, and its demand with it."""
        if self._waiters.pop(instance, None) is not None:
            self._limiter.leave(instance)
            self._asked.pop(instance, None)
            self._look()

    def ask(self, instances: Sequence[Instance]) -> Instance | None:
        """Which of these idle instances may run; None when the pool has to wait for its turn."""
        alternatives = tuple(instances)
        for instance in alternatives:
            self._limiter.wait(instance)
            self._asked[instance] = alternatives
        return self._give(alternatives)

    def never(self, instance: Instance, held: Collection[Instance]) -> bool:
        """Whether it cannot be an instance's turn while these do not end."""
        return self._limiter.never(instance, held)

    def finished(self, instance: Instance) -> None:
        """A batch is executed, or lost with its worker."""
        self._limiter.release(instance)
        self._look()

    def withdraw(self, instance: Instance) -> None:
        """An instance that may have asked can run nothing any more."""
        self._limiter.withdraw(instance)
        self._asked.pop(instance, None)
        self._look()

    def decline(self, instance: Instance) -> None:
        """There was nothing left to run when the turn came."""
        self._limiter.release(instance, unused=True)
        self._look()

    def _look(self) -> None:
        """Give turns when this turn of the loop is over, and everybody has said what he wants."""
        if self._look_soon is None and self._asked:
            self._look_soon = asyncio.get_running_loop().call_soon(self._give)

    def _give(self, asking: Sequence[Instance] = ()) -> Instance | None:
        """Let go everybody who can; returns the instance of the one who is asking."""
        if self._look_soon is not None:
            self._look_soon.cancel()
            self._look_soon = None
        found: Instance | None = None
        while (instance := self._limiter.next()) is not None:
            for other in self._asked.pop(instance):
                if other is not instance:
                    self._limiter.withdraw(other)
                    self._asked.pop(other, None)
            if instance in asking:
                found = instance
            else:
                self._waiters[instance].turn_given(instance)
        return found


def explicit_resources(texts: Iterable[str]) -> list[Explicit]:
    """The resources that the command line gives, each as `<name>:<count>[:<device>]`."""
    parts = (text.split(":") for text in texts)
    return [
        Explicit(name, int(count), int(device[0]) if device else None)
        for name, count, *device in parts
    ]
