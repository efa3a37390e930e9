"""Pure: which sequence holds which slot of which instance, and which ones wait for one.

    START ──> slot is free ──> HOLDS A SLOT ──> END is executed, idle, cancelled, instance lost
          └─> none is ─> BACKLOG ──> its turn (first in, first out) ─┘

Requests of a sequence run one after the other, in their order, where the sequence has its slot. The
rules are Triton's. A START for an id that is active goes on in the slot of that id: what had been
sent before is run, and the model is told of the new start. After an END the id may be used anew,
while what was sent until then is still run.

One rule differs: a sequence is idle from the moment when it has nothing to run, and not from its
last request on, so that a slow model does not lose its sequences while it works.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from ...ipc.errors import InvalidArgumentError, UnavailableError

ItemT = TypeVar("ItemT")

SequenceId = int | str


class Slot(NamedTuple):
    """A place of an instance, both by number; lower numbers are given away first."""

    number: int
    instance: int


class Entry(NamedTuple, Generic[ItemT]):
    """A request that waits, and what is said of its place in the sequence."""

    item: ItemT
    start: bool
    end: bool


@dataclass(slots=True, eq=False)
class Run(Generic[ItemT]):
    """The requests of one sequence, from its START to its end."""

    id: SequenceId
    #: When something last happened to it.
    touched_ns: int
    slot: Slot | None = None
    waiting: deque[Entry[ItemT]] = field(default_factory=deque[Entry[ItemT]])
    #: The request that an instance is executing.
    running: Entry[ItemT] | None = None
    #: When its first request came to the front: the next one to run is the oldest one.
    ready_ns: int = 0
    #: Nothing more belongs to it: an END has come, or it was given up.
    closed: bool = False
    #: In the backlog, when its patience ends; 0 is never.
    expires_ns: int = 0

    @property
    def is_done(self) -> bool:
        """Whether it needs its slot no more."""
        return self.closed and not self.waiting and self.running is None


class Head(NamedTuple, Generic[ItemT]):
    """The request of a slot that may run now."""

    slot: int
    item: ItemT
    ready_ns: int


class SequenceSlots(Generic[ItemT]):
    """The slots of all instances of one model. Items are hashable; times are nanoseconds."""

    def __init__(self, model: str, idle_ns: int) -> None:
        self._model = model
        self._idle_ns = idle_ns
        #: Sequences that take more requests, with a slot or without.
        self._active: dict[SequenceId, Run[ItemT]] = {}
        self._backlog: deque[Run[ItemT]] = deque()
        #: By instance and slot.
        self._held: dict[int, dict[int, Run[ItemT]]] = {}
        #: A heap: the lowest slot of all instances goes first.
        self._free: list[Slot] = []
        self._by_item: dict[ItemT, Run[ItemT]] = {}
        #: Why sequences ended with their instance, and until when somebody may ask.
        self._lost: dict[SequenceId, tuple[str, int]] = {}

    def __repr__(self) -> str:
        return (
            f"<SequenceSlots of '{self._model}': {self.held} held, "
            f"{len(self._free)} free, {len(self._backlog)} sequences wait>"
        )

    @property
    def open(self) -> int:
        """How many sequences have not ended, those that wait for a slot among them."""
        return self.held + len(self._backlog)

    @property
    def held(self) -> int:
        """How many sequences have a slot."""
        return sum(map(len, self._held.values()))

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return sum(len(run.waiting) for run in self._runs())

    def is_active(self, id: SequenceId) -> bool:
        """Whether a sequence of this id takes more requests."""
        return id in self._active

    def instance_of(self, id: SequenceId) -> int | None:
        """Where an active sequence has its slot; None while it has none."""
        run = self._active.get(id)
        return None if run is None or run.slot is None else run.slot.instance

    # --- requests ---------------------------------------------------------------------------------

    def enqueue(
        self,
        item: ItemT,
        id: SequenceId,
        now_ns: int,
        *,
        start: bool = False,
        end: bool = False,
        timeout_ns: int = 0,
    ) -> bool:
        """Take a request; True when its START ended a sequence of that id that had no END.

        `timeout_ns` bounds how long its sequence may wait for a slot; 0 is for ever. Raises
        InvalidArgumentError without a START for an id that is not active, UnavailableError when it
        was lost with its instance.
        """
        run = self._active.get(id)
        if run is None and not start:
            raise self._unknown(id, now_ns)
        conflict = run is not None and start
        if run is None:
            self._lost.pop(id, None)
            run = self._begin(id, now_ns)
        run.touched_ns = now_ns
        if not run.waiting:
            run.ready_ns = now_ns
        run.waiting.append(Entry(item, start, end))
        self._by_item[item] = run
        if run.slot is None and timeout_ns:
            ends = now_ns + timeout_ns
            run.expires_ns = min(run.expires_ns, ends) if run.expires_ns else ends
        if end:
            self._close(run)
        return conflict

    def heads(self, instance: int) -> list[Head[ItemT]]:
        """What may run on an instance, in the order of its slots: one request a sequence."""
        return [
            Head(slot, run.waiting[0].item, run.ready_ns)
            for slot, run in sorted(self._held[instance].items())
            if run.waiting and run.running is None
        ]

    def take(self, instance: int, slot: int) -> Entry[ItemT]:
        """Take the request at the head of a slot: it runs now."""
        run = self._held[instance][slot]
        assert run.running is None, "one request of a sequence at a time"
        run.running = run.waiting.popleft()
        return run.running

    def executed(self, item: ItemT, now_ns: int, *, ended: bool = False) -> None:
        """A request has been executed; with `ended` its sequence is over, END or not.

        An item whose sequence was given up meanwhile is none of ours any more.
        """
        run = self._by_item.pop(item, None)
        if run is None:
            return
        run.running = None
        run.touched_ns = run.ready_ns = now_ns
        if ended:
            self._close(run)
        self._release_if_done(run, now_ns)

    def rescheduled(self, item: ItemT, now_ns: int) -> bool:
        """A request wants to run once more, before all others of its sequence.

        False when its sequence has been given up.
        """
        run = self._by_item.get(item)
        if run is None:
            return False
        assert run.running is not None
        run.waiting.appendleft(run.running._replace(start=False))
        run.running = None
        run.touched_ns = run.ready_ns = now_ns
        return True

    def cancel(self, item: ItemT, now_ns: int) -> list[ItemT]:
        """A client has withdrawn a request: its sequence ends, for a part of it is missing.

        Returns what waited of it; what runs is finished.
        """
        run = self._by_item.get(item)
        return [] if run is None else self._give_up(run, now_ns)

    def fail_all(self, now_ns: int) -> list[ItemT]:
        """End all sequences; returns what waited of them."""
        items: list[ItemT] = []
        for run in list(self._runs()):
            items += self._give_up(run, now_ns)
        return items

    # --- time -------------------------------------------------------------------------------------

    def expire(self, now_ns: int) -> list[ItemT]:
        """End sequences that are idle; returns what waited too long for a slot."""
        for run in list(self._holders()):
            if self._is_idle(run) and now_ns - run.touched_ns >= self._idle_ns:
                self._give_up(run, now_ns)
        late = [run for run in self._backlog if 0 < run.expires_ns <= now_ns]
        return [item for run in late for item in self._give_up(run, now_ns)]

    def next_end_ns(self) -> int | None:
        """When `expire` has something to do, as far as is known now."""
        ends = [run.touched_ns + self._idle_ns for run in self._holders() if self._is_idle(run)]
        ends += [run.expires_ns for run in self._backlog if run.expires_ns]
        return min(ends, default=None)

    # --- instances --------------------------------------------------------------------------------

    def add_instance(self, instance: int, slots: int, now_ns: int) -> None:
        """An instance is there: its slots go to who waits."""
        self._held[instance] = {}
        for number in range(slots):
            heapq.heappush(self._free, Slot(number, instance))
        self._grant(now_ns)

    def lose_instance(self, instance: int, reason: str, now_ns: int) -> list[ItemT]:
        """An instance is gone, and its sequences with it; returns what waited of them."""
        self._free = [slot for slot in self._free if slot.instance != instance]
        heapq.heapify(self._free)
        self._lost = {id: found for id, found in self._lost.items() if found[1] > now_ns}
        items: list[ItemT] = []
        for run in self._held.pop(instance).values():
            if not run.closed:
                self._lost[run.id] = (self.loss(run.id, reason), now_ns + self._idle_ns)
            items += self._forget_waiting(run)
            if run.running is not None:
                del self._by_item[run.running.item]
                run.running = None
            self._close(run)
        return items

    def loss(self, id: SequenceId, reason: str) -> str:
        """What requests of a sequence are told that was lost with its instance."""
        return (
            f"sequence {id} of model '{self._model}' is lost: {reason}; begin it anew, with the "
            "START flag"
        )

    # --- inside -----------------------------------------------------------------------------------

    def _runs(self) -> Iterator[Run[ItemT]]:
        yield from self._holders()
        yield from self._backlog

    def _holders(self) -> Iterator[Run[ItemT]]:
        for held in self._held.values():
            yield from held.values()

    def _unknown(self, id: SequenceId, now_ns: int) -> InvalidArgumentError | UnavailableError:
        reason, until_ns = self._lost.get(id, ("", 0))
        if now_ns < until_ns:
            return UnavailableError(reason)
        return InvalidArgumentError(
            f"inference request for sequence {id} to model '{self._model}' must specify the START "
            "flag on the first request of the sequence"
        )

    def _begin(self, id: SequenceId, now_ns: int) -> Run[ItemT]:
        run: Run[ItemT] = Run(id, now_ns)
        self._active[id] = run
        if self._free:
            self._give(heapq.heappop(self._free), run, now_ns)
        else:
            self._backlog.append(run)
        return run

    def _give(self, slot: Slot, run: Run[ItemT], now_ns: int) -> None:
        self._held[slot.instance][slot.number] = run
        run.slot = slot
        run.touched_ns = run.ready_ns = now_ns

    def _grant(self, now_ns: int) -> None:
        while self._free and self._backlog:
            self._give(heapq.heappop(self._free), self._backlog.popleft(), now_ns)

    def _close(self, run: Run[ItemT]) -> None:
        if not run.closed:
            run.closed = True
            del self._active[run.id]

    def _is_idle(self, run: Run[ItemT]) -> bool:
        return not run.closed and not run.waiting and run.running is None

    def _give_up(self, run: Run[ItemT], now_ns: int) -> list[ItemT]:
        self._close(run)
        items = self._forget_waiting(run)
        if run.slot is None:
            self._backlog.remove(run)
        else:
            self._release_if_done(run, now_ns)
        return items

    def _forget_waiting(self, run: Run[ItemT]) -> list[ItemT]:
        items = [entry.item for entry in run.waiting]
        run.waiting.clear()
        for item in items:
            del self._by_item[item]
        return items

    def _release_if_done(self, run: Run[ItemT], now_ns: int) -> None:
        if run.is_done and run.slot is not None:
            del self._held[run.slot.instance][run.slot.number]
            heapq.heappush(self._free, run.slot)
            self._grant(now_ns)
