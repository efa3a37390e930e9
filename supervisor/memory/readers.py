"""The workers that were given an arena of somebody else."""

from __future__ import annotations

import weakref

from ..request import ArenaReader


class Readers:
    """Who has an arena, so that each worker gets it once, as long as it lives."""

    def __init__(self) -> None:
        self._readers: weakref.WeakSet[ArenaReader] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"<Readers: {len(self._readers)}>"

    def __len__(self) -> int:
        return len(self._readers)

    def show(self, worker: ArenaReader, number: int, descriptor: int, size: int) -> None:
        """Hand the arena over to a worker that does not have it."""
        if worker not in self._readers:
            self._readers.add(worker)
            worker.attach_arena(number, descriptor, size)

    def dismiss(self, number: int) -> None:
        """The arena is gone: have everybody let go of it."""
        for worker in self._readers:
            worker.detach_arena(number)
        self._readers.clear()
