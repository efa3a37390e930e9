"""The dynamic batcher as its documentation tells it, slowly, and the arrivals to try it on.

`expected` is written from the words of the documentation alone, and shares no line with the
scheduler: at every moment at which something happens it looks at everything anew.

Times are microseconds. Each kind of event has moments of its own (its last digit), so that two of
different kinds never fall together and the order in which they are taken cannot matter.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

#: The last digits of the moments at which things happen.
ARRIVAL, CANCELLATION, COMPLETION, DELAY_END, PATIENCE_END = 0, 1, 3, 5, 7


@dataclass(frozen=True)
class Level:
    """The queue policy of one priority level; 0 is no limit."""

    most: int = 0
    patience: int = 0
    allow_override: bool = False
    delays: bool = False


@dataclass(frozen=True)
class Rules:
    """What a configuration says."""

    max_batch_size: int
    preferred: tuple[int, ...]
    delay: int
    levels: tuple[Level, ...]
    default_level: int
    preserve_ordering: bool
    instances: int

    @property
    def sends_ahead(self) -> bool:
        """Whether a busy instance may be sent its next batch."""
        return len(self.levels) == 1 and not (self.levels[0].most or self.levels[0].patience)


@dataclass(frozen=True)
class Arrival:
    """A request, and when its client loses interest (0: never)."""

    name: str
    at: int
    size: int
    shape: int
    priority: int
    timeout: int
    cancelled_at: int
    work: int


@dataclass
class Outcome:
    """What became of a pattern of arrivals."""

    #: When each batch left the queue, and whom it held, in order.
    batches: list[tuple[int, list[str]]] = field(default_factory=list[tuple[int, list[str]]])
    #: When and how each request was answered.
    answers: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])


def completion(start: int, batch: list[Arrival], instance: int) -> int:
    """When an instance, of three at most, that begins a batch now has executed it.

    No two instances complete at the same moment.
    """
    end = start + sum(one.work for one in batch)
    return end - end % 40 + 40 + 10 * instance + COMPLETION


def pattern(random: Random) -> tuple[Rules, list[Arrival]]:
    """Some rules, and arrivals to try them on."""
    largest = random.choice([1, 2, 4, 8, 16])
    preferred = sorted(random.sample(range(1, largest + 1), random.randint(1, min(3, largest))))
    if random.random() < 0.4:
        preferred = [largest]
    delay = random.choice([0, 0, 105, 1005, 10005])
    plain = random.random() < 0.5
    count = 1 if plain else random.randint(1, 3)
    ordered = random.random() < 0.3 and count == 1
    levels = [Level()] if plain else [_level(random, can_delay=not ordered) for _ in range(count)]
    rules = Rules(
        largest,
        tuple(preferred),
        delay,
        tuple(levels),
        random.randint(1, count),
        ordered,
        random.randint(1, 3),
    )
    pace = random.choice([10, 100, 1000, 5000])
    now = 10**9 + 1000
    shapes = random.choice([[0], [0, 0, 0, 1]])
    large = random.choice([0.0, 0.0, 0.3, 0.7])
    arrivals: list[Arrival] = []
    for number in range(random.randint(3, 60)):
        now += 10 * random.choice([0, 0, 0, 1, random.randint(0, max(1, pace // 5))])
        gone = now + 10 * random.randint(1, pace) + CANCELLATION if random.random() < 0.1 else 0
        arrivals.append(
            Arrival(
                f"r{number}",
                now,
                random.randint(1, largest) if random.random() < large else 1,
                random.choice(shapes),
                random.randint(0, count + 1) if count > 1 else 0,
                random.choice([0, 0, 507, 5007]),
                gone,
                random.choice([1, pace, 3 * pace]),
            )
        )
    return rules, arrivals


def _level(random: Random, *, can_delay: bool) -> Level:
    return Level(
        random.choice([0, 0, 3, 6]),
        random.choice([0, 207, 1007, 20007]),
        random.random() < 0.5,
        can_delay and random.random() < 0.4,
    )


# --- what the documentation says ------------------------------------------------------------------


@dataclass
class _Waiting:
    """A request in the queue."""

    request: Arrival
    level: int
    arrived: int
    #: When its patience ends; 0 for never, or when that has been.
    ends: int
    #: When it was put behind the others of its level: those come first that were so earlier.
    late: int = 0


class _Simulation:
    """Everything there is, looked at anew whenever something happens."""

    def __init__(self, rules: Rules, arrivals: list[Arrival]) -> None:
        self.rules = rules
        self.outcome = Outcome()
        self.queue: list[_Waiting] = []
        self.instances: list[list[list[Arrival]]] = [[] for _ in range(rules.instances)]
        #: In the order in which requests left the queue; each with the answer it has or waits for.
        self.departed: list[tuple[str, bool]] = []
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.number = 0
        self.now = 0
        for request in arrivals:
            self.at(request.at, partial(self.arrive, request))
            if request.cancelled_at:
                self.at(request.cancelled_at, partial(self.cancel, request))

    def at(self, moment: int, event: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self.events, (moment, self.number, event))

    def run(self) -> Outcome:
        while self.events:
            self.now = self.events[0][0]
            while self.events and self.events[0][0] == self.now:
                heapq.heappop(self.events)[2]()
            self.look()
        assert not self.queue, "somebody waits for ever"
        return self.outcome

    def answer(self, name: str, how: str) -> None:
        self.outcome.answers.append((self.now, name, how))

    # --- what can happen

    def arrive(self, request: Arrival) -> None:
        levels = self.rules.levels
        known = 1 <= request.priority <= len(levels)
        number = request.priority if known else self.rules.default_level
        level = levels[number - 1]
        there = sum(1 for one in self.queue if one.level == number)
        if level.most and there >= level.most:
            self.answer(request.name, "refused")
            return
        patience = level.patience
        if level.allow_override and 0 < request.timeout < level.patience:
            patience = request.timeout
        ends = self.now + patience if patience else 0
        self.queue.append(_Waiting(request, number, self.now, ends))
        if ends:
            self.at(ends, _nothing)
        if self.rules.delay:
            self.at(self.now + self.rules.delay, _nothing)

    def cancel(self, request: Arrival) -> None:
        for one in self.queue:
            if one.request is request:
                self.queue.remove(one)
                self.answer(request.name, "cancelled")
                return

    def complete(self, instance: list[list[Arrival]]) -> None:
        batch = instance.pop(0)
        for request in batch:
            self.finish(request.name)
        if instance:
            self.begin(instance)
            return
        # It has nothing to do: what was sent ahead to a busy one is its to do.
        for other in self.instances:
            if len(other) > 1:
                instance.append(other.pop())
                self.begin(instance)
                return

    def finish(self, name: str) -> None:
        if not self.rules.preserve_ordering:
            self.answer(name, "ran")
            return
        self.departed[self.departed.index((name, False))] = (name, True)
        while self.departed and self.departed[0][1]:
            self.answer(self.departed.pop(0)[0], "ran")

    def begin(self, instance: list[list[Arrival]]) -> None:
        number = next(n for n, one in enumerate(self.instances) if one is instance)
        self.at(completion(self.now, instance[0], number), partial(self.complete, instance))

    # --- what is done about it

    def look(self) -> None:
        for one in list(self.queue):
            if one.ends and one.ends <= self.now:
                if self.rules.levels[one.level - 1].delays:
                    one.ends, one.late = 0, one.ends
                else:
                    self.queue.remove(one)
                    self.answer(one.request.name, "expired")
        while self.queue:
            idle = [one for one in self.instances if not one]
            busy = [one for one in self.instances if len(one) == 1]
            if not idle and not (self.rules.sends_ahead and busy):
                return
            count = self.goes(is_idle=bool(idle))
            if not count:
                return
            self.send(self.ordered()[:count], (idle or busy)[0])

    def ordered(self) -> list[_Waiting]:
        """Who leaves first: levels, and in each those in time, then the late; stable otherwise."""
        return sorted(self.queue, key=lambda one: (one.level, one.late))

    def send(self, batch: list[_Waiting], instance: list[list[Arrival]]) -> None:
        for one in batch:
            self.queue.remove(one)
            self.departed.append((one.request.name, False))
        self.outcome.batches.append((self.now, [one.request.name for one in batch]))
        instance.append([one.request for one in batch])
        if len(instance) == 1:
            self.begin(instance)

    def goes(self, *, is_idle: bool) -> int:
        """How many of the first go as a batch now; 0 for none."""
        rules, line = self.rules, self.ordered()

        def total(count: int) -> int:
            return sum(one.request.size for one in line[:count])

        together = [
            count
            for count in range(1, len(line) + 1)
            if total(count) <= rules.max_batch_size
            and all(one.request.shape == line[0].request.shape for one in line[:count])
        ]
        enough = [count for count in together if total(count) >= max(rules.preferred)]
        most = enough[0] if enough else together[-1]
        is_full = bool(enough) or most < len(line)
        preferred = [
            count for count in together if count <= most and total(count) in rules.preferred
        ]
        oldest = min(one.arrived for one in line[:most])
        is_overdue = rules.delay > 0 and self.now - oldest >= rules.delay
        if is_full:
            return preferred[-1] if preferred and not is_overdue else most
        if not is_idle:
            return 0
        if preferred and not is_overdue:
            return preferred[-1]
        return most if is_overdue or not rules.delay else 0


def _nothing() -> None:
    """What happens at a moment at which something is only looked at."""


def expected(rules: Rules, arrivals: list[Arrival]) -> Outcome:
    """What becomes of the arrivals by the words of the documentation."""
    return _Simulation(rules, arrivals).run()
