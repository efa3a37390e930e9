"""Pure: the requests of one model that wait, by priority, within the limits of its queue policies.

Each priority level is a queue of its own, first in first out; level 1 goes first. A level's policy
bounds how many requests wait there and for how long. A request that has waited too long is given up
(REJECT), or waits on behind everybody of its level who is still in time (DELAY).

A request brings a timeout of its own. It counts only where the policy allows that, has a timeout
itself, and the request's is the shorter one: Triton's rule.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...ipc.errors import UnavailableError
from ..config.schema import ModelConfig, ModelQueuePolicy

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class LevelPolicy:
    """What holds for the requests of one level; 0 is no limit."""

    most: int = 0
    timeout_ns: int = 0
    allow_override: bool = False
    delays: bool = False

    @classmethod
    def of(cls, policy: ModelQueuePolicy) -> LevelPolicy:
        """The policy as the configuration has it."""
        return cls(
            policy.max_queue_size,
            policy.default_timeout_microseconds * 1000,
            policy.allow_timeout_override,
            policy.timeout_action == "DELAY",
        )

    def patience_ns(self, timeout_ns: int) -> int:
        """How long a request may wait that brings this timeout; 0 is for ever."""
        if self.allow_override and 0 < timeout_ns < self.timeout_ns:
            return timeout_ns
        return self.timeout_ns


@dataclass(frozen=True, slots=True)
class QueueRules:
    """The levels of one model's queue, the first one first, and where other priorities go."""

    levels: tuple[LevelPolicy, ...] = (LevelPolicy(),)
    default_level: int = 1

    @classmethod
    def of(cls, config: ModelConfig) -> QueueRules:
        """The rules of a configuration; without dynamic batching there are none."""
        batching = config.dynamic_batching
        if batching is None:
            return cls()
        default = batching.default_queue_policy or ModelQueuePolicy()
        levels = tuple(
            LevelPolicy.of(batching.priority_queue_policy.get(level, default))
            for level in range(1, max(1, batching.priority_levels) + 1)
        )
        return cls(levels, max(1, batching.default_priority_level))

    @property
    def is_plain(self) -> bool:
        """Whether nothing bounds the queue or changes its order: as in Triton, only then may
        batches leave it before an instance is free for them.
        """
        return len(self.levels) == 1 and not (self.levels[0].most or self.levels[0].timeout_ns)

    def level(self, priority: int) -> int:
        """The level of a request, from 1: that of its priority, or the default one."""
        return priority if 1 <= priority <= len(self.levels) else self.default_level


class _Level(Generic[ItemT]):
    """The requests of one level: those in time, and behind them those that are late."""

    __slots__ = ("late", "policy", "waiting")

    def __init__(self, policy: LevelPolicy) -> None:
        self.policy = policy
        self.waiting: deque[ItemT] = deque()
        self.late: deque[ItemT] = deque()

    def __len__(self) -> int:
        return len(self.waiting) + len(self.late)


class RequestQueue(Generic[ItemT]):
    """A queue of hashable items. Times are nanoseconds of whatever clock the caller reads."""

    def __init__(self, rules: QueueRules) -> None:
        self._rules = rules
        self._levels: list[_Level[ItemT]] = [_Level(policy) for policy in rules.levels]
        self._count = 0
        #: When the patience of an item in time ends, and its level; and the same as a heap, in
        #: which what has left the queue is found out when it comes up.
        self._ends: dict[ItemT, tuple[int, _Level[ItemT]]] = {}
        self._heap: list[tuple[int, int, ItemT]] = []
        self._pushed = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ItemT]:
        """All items in the order in which they leave."""
        for level in self._levels:
            yield from level.waiting
            yield from level.late

    def __repr__(self) -> str:
        return f"<RequestQueue {[len(level) for level in self._levels]}>"

    def push(self, item: ItemT, priority: int, timeout_ns: int, now_ns: int) -> None:
        """Queue an item. Raises UnavailableError when its level is full."""
        level = self._levels[self._rules.level(priority) - 1]
        policy = level.policy
        if policy.most and len(level) >= policy.most:
            raise UnavailableError("Exceeds maximum queue size")
        level.waiting.append(item)
        self._count += 1
        patience_ns = policy.patience_ns(timeout_ns)
        if patience_ns:
            end = now_ns + patience_ns
            self._ends[item] = end, level
            self._pushed += 1
            heapq.heappush(self._heap, (end, self._pushed, item))

    def push_first(self, item: ItemT) -> None:
        """Put an item before all others; no limit counts for it any more."""
        self._levels[0].waiting.appendleft(item)
        self._count += 1

    def pop(self) -> ItemT:
        """Take the first item. The queue must not be empty."""
        for level in self._levels:
            queue = level.waiting or level.late
            if queue:
                item = queue.popleft()
                self._forget(item)
                return item
        raise IndexError("pop from an empty queue")

    def remove(self, item: ItemT) -> bool:
        """Take an item out of the middle; False when it is not in the queue."""
        for level in self._levels:
            for queue in (level.waiting, level.late):
                try:
                    queue.remove(item)
                except ValueError:
                    continue
                self._forget(item)
                return True
        return False

    def expire(self, now_ns: int) -> list[ItemT]:
        """Give up or put back what has waited too long; returns what is given up."""
        given_up: list[ItemT] = []
        while self._heap and self._heap[0][0] <= now_ns:
            end, _, item = heapq.heappop(self._heap)
            found = self._ends.get(item)
            if found is None or found[0] != end:
                continue
            level = found[1]
            del self._ends[item]
            level.waiting.remove(item)
            if level.policy.delays:
                level.late.append(item)
            else:
                self._count -= 1
                given_up.append(item)
        return given_up

    def next_end_ns(self) -> int | None:
        """When `expire` has something to do; None when nobody's patience is bounded."""
        heap = self._heap
        while heap and self._ends.get(heap[0][2], (0,))[0] != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _forget(self, item: ItemT) -> None:
        self._count -= 1
        if self._ends:
            self._ends.pop(item, None)
