"""All metrics of a model's own in this process, and how the supervisor learns of their changes.

A change costs the model an addition. What has changed is told all together: before each answer, so
that whoever has the answer finds the metrics, and else after a short while, by a thread of its own.
"""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue

from ...ipc.errors import InvalidArgumentError
from ...ipc.messages import MetricChange, MetricChanges
from ..peers import Board
from .metric_series import Labels, Series

#: How long changes are gathered that no answer follows (seconds).
_PAUSE = 0.2

#: Longer than telling takes. Only a finalizer that runs in the middle of it waits in vain.
_MOST_WAIT = 1.0


class Family:
    """A family as one of the model's objects holds it; others may hold one of the same name."""

    __slots__ = ("_registry", "is_closed", "name", "series")

    def __init__(self, registry: Registry, name: str) -> None:
        self._registry = registry
        self.name = name
        self.series: dict[Labels, Series] = {}
        #: The model's object is gone, and its metrics with it.
        self.is_closed = False

    def close(self) -> None:
        """The model's object is gone. A finalizer may say so, at any point of any thread."""
        self.is_closed = True
        self._registry.closed(self)


class Registry:
    """The families and metrics of this process. Thread-safe, also in finalizers."""

    def __init__(self) -> None:
        #: The name of the model instance, for messages.
        self.instance = ""
        self._board: Board | None = None
        self._thread: threading.Thread | None = None
        # Reentrant, as a model's finalizers may run anywhere, and never held while something is
        # sent: a finalizer that runs in the middle of sending may change a metric.
        self._lock = threading.RLock()
        #: Held while changes are told, so that they arrive in order.
        self._telling = threading.RLock()
        self._series: dict[tuple[str, Labels], Series] = {}
        #: The kind of each family, and how many of the model's objects stand for it.
        self._kinds: dict[str, tuple[str, int]] = {}
        self._changed: dict[int, Series] = {}
        self._dropped: list[MetricChange] = []
        self._released: list[str] = []
        #: What a finalizer may do anywhere is to put something into these two.
        self._closed: SimpleQueue[Family] = SimpleQueue()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._is_changed = False

    def __repr__(self) -> str:
        return f"<Registry of {len(self._kinds)} families, {len(self._series)} metrics>"

    def connect(self, board: Board | None, instance: str) -> None:
        """From now on tell the supervisor, where there is one, and ask it about families."""
        self._board = board
        self.instance = instance

    def open(self, name: str, description: str, kind: str) -> Family:
        """Have a family. Raises InvalidArgumentError when its name stands for another kind."""
        if not self._closed.empty():
            self.flush()  # what was let go of does not stand for anything any more
        with self._lock:
            self._close_families()
            known, count = self._kinds.get(name, (kind, 0))
            if known != kind:
                raise InvalidArgumentError("Family name already exists with different type")
            self._kinds[name] = (kind, count + 1)
        if self._board is not None:
            try:
                self._board.declare_family(name, description, kind)
            except BaseException:
                with self._lock:
                    self._forget(name)
                raise
        return Family(self, name)

    def add(self, family: Family, labels: Labels, bounds: tuple[float, ...] | None) -> Series:
        """The metric of a family with these labels; an older one keeps its own bounds."""
        with self._lock:
            series = family.series.get(labels)
            if series is None:
                key = (family.name, labels)
                series = self._series.get(key)
                if series is None:
                    series = self._series[key] = Series(family.name, labels, bounds)
                    self._note(series)
                series.holders += 1
                family.series[labels] = series
            self._start()
            return series

    def increment(self, series: Series, by: float) -> None:
        """Raise a counter or a gauge."""
        with self._lock:
            series.increment(by)
            self._note(series)

    def set(self, series: Series, to: float) -> None:
        """Set a gauge."""
        with self._lock:
            series.set(to)
            self._note(series)

    def observe(self, series: Series, value: float) -> None:
        """Count a value in a histogram."""
        with self._lock:
            series.observe(value)
            self._note(series)

    def closed(self, family: Family) -> None:
        """Remember to let go of what the family held."""
        self._closed.put(family)
        if self._thread is not None:
            self._wake.put(None)

    def flush(self) -> None:
        """Tell the supervisor what has changed, if something has."""
        if self._board is None or (not self._is_changed and self._closed.empty()):
            return
        if not self._telling.acquire(timeout=_MOST_WAIT):
            return  # the thread tells it
        try:
            changes = self._take_changes()
            if changes.changes or changes.released:
                self._board.tell_metrics(changes)
        finally:
            self._telling.release()

    def _note(self, series: Series) -> None:
        self._changed[id(series)] = series
        if not self._is_changed:
            self._is_changed = True
            self._wake.put(None)

    def _take_changes(self) -> MetricChanges:
        with self._lock:
            self._is_changed = False
            self._close_families()
            changed, self._changed = self._changed, {}
            dropped, self._dropped = self._dropped, []
            released, self._released = self._released, []
            # Those that were dropped come first: others may have taken their places.
            dropped += [series.take_change() for series in changed.values()]
        return MetricChanges(dropped, released)

    def _close_families(self) -> None:
        """Let go of what the model's families held that are gone."""
        while not self._closed.empty():
            family = self._closed.get()
            for labels, series in family.series.items():
                series.holders -= 1
                if not series.holders:
                    del self._series[family.name, labels]
                    self._changed.pop(id(series), None)
                    self._dropped.append(series.take_change(dropped=True))
            self._forget(family.name)
            self._released.append(family.name)
        if self._board is None:  # nobody is to be told
            self._dropped.clear()
            self._released.clear()

    def _forget(self, name: str) -> None:
        kind, count = self._kinds[name]
        if count > 1:
            self._kinds[name] = (kind, count - 1)
        else:
            del self._kinds[name]

    def _start(self) -> None:
        if self._thread is None and self._board is not None:
            self._thread = threading.Thread(target=self._tell, name="metrics", daemon=True)
            self._thread.start()

    def _tell(self) -> None:
        while True:
            self._wake.get()
            time.sleep(_PAUSE)
            while not self._wake.empty():
                self._wake.get()
            self.flush()


#: That of this process: it serves one model.
REGISTRY = Registry()
