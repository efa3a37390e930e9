"""Which instances can take a batch, and in which order they are asked.

      idle ──sent as many as it executes──> spare ──sent more──> ahead
        ^                                     │ ^                  │
        └──────────────── freed ──────────────┘ └─ freed, taken back ─┘

An instance that was sent less ahead than it may be is `spare` and `ahead` at once. One that
executes several batches at once is idle until it has as many, then stands nowhere. Nothing is sent
ahead to one whose batch waits for another model (`waiting`).
"""

from __future__ import annotations

from collections.abc import Collection

from .instance import Instance


class Standing:
    """The instances of a pool that serve, by how much room they have.

    With `one_at_a_time` none is given several batches at once, and all wait for their turns.
    """

    def __init__(self, *, one_at_a_time: bool) -> None:
        self._one_at_a_time = one_at_a_time
        #: How many batches an instance may be sent beyond the one that it executes.
        self.most_ahead = 1
        #: Those that would begin a batch at once.
        self.idle: list[Instance] = []
        #: Those that are busy with one batch, and may be sent more ahead.
        self.spare: list[Instance] = []
        #: Those that were sent batches ahead, the one that has had them longest first.
        self.ahead: list[Instance] = []
        #: Those that are busy for as long as another model takes: nothing is sent ahead to them.
        self.waiting: list[Instance] = []

    def next_idle(self) -> Instance:
        """Which idle instance gets the next batch: the one that has the least to do."""
        latest = self.idle[-1]
        if latest.concurrency > 1:
            return min(reversed(self.idle), key=_load)
        return latest

    def sent(self, instance: Instance) -> None:
        """An idle instance was sent a batch."""
        if self._executes_several(instance):
            if instance.load >= instance.concurrency:
                self.idle.remove(instance)
            return
        self.idle.remove(instance)
        self.spare.append(instance)

    def next_spare(self) -> Instance:
        """Which busy instance is sent the next batch ahead: the one that has the least to do."""
        return self.spare[0] if len(self.spare) == 1 else min(self.spare, key=_load)

    def sent_ahead(self, instance: Instance) -> None:
        """One that had room to spare was sent a batch ahead."""
        if instance not in self.ahead:
            self.ahead.append(instance)
        if instance.load > self.most_ahead:
            self.spare.remove(instance)

    def taken_back(self, instance: Instance) -> None:
        """What it was sent ahead is here again, or a part of it."""
        self._settle(instance)

    def waits(self, instance: Instance) -> None:
        """Its only batch waits for another model."""
        if instance in self.spare:
            self.spare.remove(instance)
            self.waiting.append(instance)

    def freed(self, instance: Instance) -> None:
        """It has executed a batch, be it the one that another was sent ahead of."""
        if self._executes_several(instance):
            if instance not in self.idle:
                self.idle.append(instance)
            return
        if instance in self.waiting:
            self.waiting.remove(instance)
        self._settle(instance)
        if instance.load == 0:
            self.spare.remove(instance)
            self.idle.append(instance)

    def _settle(self, instance: Instance) -> None:
        """A busy instance has room again, and perhaps nothing more ahead."""
        if instance.load <= 1 and instance in self.ahead:
            self.ahead.remove(instance)
        if instance not in self.spare:
            self.spare.append(instance)

    def remove(self, instances: Collection[Instance]) -> None:
        """These take nothing any more."""
        for standing in (self.idle, self.spare, self.ahead, self.waiting):
            standing[:] = [instance for instance in standing if instance not in instances]

    def _executes_several(self, instance: Instance) -> bool:
        return instance.concurrency > 1 and not self._one_at_a_time


def _load(instance: Instance) -> int:
    return instance.load
