"""Pure: since when each request at a worker has waited for a sign of its model.

While a batch is executed, a response to any of its requests is a sign for all of them: a model may
take them one after the other. Afterwards, with a decoupled model, each request is on its own.

All times are nanoseconds of one clock.
"""

from __future__ import annotations

from collections.abc import Iterable


class ExecutionTimes:
    """The requests that one worker has begun, the one that has waited longest first."""

    def __init__(self, limit_ns: int) -> None:
        self._limit_ns = limit_ns
        #: Since when they have waited; in the order of these times.
        self._since: dict[int, int] = {}
        #: The requests of each batch that is being executed, and of each such request its batch.
        self._requests: dict[int, list[int]] = {}
        self._batch: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<ExecutionTimes of {len(self._since)} requests in {len(self._requests)} batches>"

    @property
    def next_end_ns(self) -> int | None:
        """When the first of them has waited for too long; None when there is none."""
        for since in self._since.values():
            return since + self._limit_ns
        return None

    def begin(self, batch: int, requests: Iterable[int], now_ns: int) -> None:
        """The worker has this batch to execute; one that is known already has begun before."""
        if batch in self._requests:
            return
        keys = self._requests[batch] = list(requests)
        for key in keys:
            self._batch[key] = batch
            self._since[key] = now_ns

    def heard(self, key: int, now_ns: int) -> None:
        """The model has sent a response that is not the last one."""
        batch = self._batch.get(key)
        together = (key,) if batch is None else self._requests[batch]
        for each in together:
            if each in self._since:
                del self._since[each]
                self._since[each] = now_ns

    def ended(self, key: int) -> None:
        """A request is answered, or is not at the worker any more."""
        self._since.pop(key, None)

    def executed(self, batch: int, now_ns: int) -> None:
        """The batch is executed: what is still open of it has time again from now on."""
        for key in self._requests.pop(batch, ()):
            del self._batch[key]
            if key in self._since:
                del self._since[key]
                self._since[key] = now_ns
