"""Which instances can take a batch, and in which order they are asked.

      idle ──sent as many as it executes──> spare ──sent one more──> ahead
        ^                                     │ ^                      │
        └──────────────── freed ──────────────┘ └── freed, taken back ─┘

A spare one whose model calls another stands aside until it is freed: it may take long.
An instance that executes several batches at once is idle until it has as many, then stands nowhere.
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
        #: Those that would begin a batch at once.
        self.idle: list[Instance] = []
        #: Those that are busy with one batch, and may be sent one more ahead.
        self.spare: list[Instance] = []
        #: Those that were sent a batch ahead, the one that has had it longest first.
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

    def sent_ahead(self) -> None:
        """The first that had room to spare was sent a batch ahead."""
        self.ahead.append(self.spare.pop(0))

    def taken_back(self, instance: Instance) -> None:
        """What it was sent ahead is here again."""
        self.ahead.remove(instance)
        self.spare.append(instance)

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
        elif instance.load == 0:
            (self.waiting if instance in self.waiting else self.spare).remove(instance)
            self.idle.append(instance)
        else:
            self.ahead.remove(instance)
            self.spare.append(instance)

    def remove(self, instances: Collection[Instance]) -> None:
        """These take nothing any more."""
        for standing in (self.idle, self.spare, self.ahead, self.waiting):
            standing[:] = [instance for instance in standing if instance not in instances]

    def _executes_several(self, instance: Instance) -> bool:
        return instance.concurrency > 1 and not self._one_at_a_time


def _load(instance: Instance) -> int:
    return instance.load
