"""The value of one metric in this process, and what of it the supervisor has not been told."""

from __future__ import annotations

from bisect import bisect_left

from ...ipc.messages import MetricChange

#: Names and values, sorted by name.
Labels = tuple[tuple[str, str], ...]


class Series:
    """One metric: a counter, a gauge, or, with bounds of buckets, a histogram. Not thread-safe."""

    __slots__ = ("_added", "_base", "_bounds", "_counts", "family", "holders", "labels", "value")

    def __init__(self, family: str, labels: Labels, bounds: tuple[float, ...] | None) -> None:
        self.family = family
        self.labels = labels
        #: How many families of the model hold it.
        self.holders = 0
        #: What this process has made of it.
        self.value = 0.0
        self._bounds = bounds or ()
        self._counts = [] if bounds is None else [0] * (len(bounds) + 1)
        #: What it was set to since the last change was taken, and by how much raised after that.
        self._base: float | None = None
        self._added = 0.0

    def __repr__(self) -> str:
        return f"<Series {self.family}{dict(self.labels)}: {self.value:g}>"

    def increment(self, by: float) -> None:
        """Raise a counter or a gauge."""
        self.value += by
        self._added += by

    def set(self, to: float) -> None:
        """Set a gauge."""
        self.value = self._base = to
        self._added = 0.0

    def observe(self, value: float) -> None:
        """Count a value in a histogram."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._added += value

    def take_change(self, *, dropped: bool = False) -> MetricChange:
        """What has changed since this was called last."""
        # Each is read and put back in one go: a finalizer may run in between, and change it again.
        added, self._added = self._added, 0.0
        base, self._base = self._base, None
        counts, self._counts = self._counts, [0] * len(self._counts)
        bounds = list(self._bounds)
        return MetricChange(self.family, list(self.labels), added, base, bounds, counts, dropped)
