"""The dynamic batcher against its documentation, on random arrivals in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from random import Random

import pytest
from support.clock import VirtualLoop, run
from support.simulation import Arrival, Level, Outcome, Rules, completion, expected, pattern

from tritonpy.ipc.errors import CancelledError, StatusError, UnavailableError
from tritonpy.supervisor.request import FailureReason, InferRequest, InferResponse
from tritonpy.supervisor.scheduling import dynamic
from tritonpy.supervisor.scheduling.batcher import Policy
from tritonpy.supervisor.scheduling.dynamic import DynamicScheduler
from tritonpy.supervisor.scheduling.queue import LevelPolicy, QueueRules
from tritonpy.supervisor.scheduling.scheduler import Work

PATTERNS = 1000
BLOCK = 50


class Instances:
    """Instances of a model that take as long as the arrivals say, in virtual time."""

    def __init__(self, count: int, loop: VirtualLoop, outcome: Outcome) -> None:
        self._loop = loop
        self._outcome = outcome
        self._batches: list[list[list[Work]]] = [[] for _ in range(count)]
        self.arrivals: dict[int, Arrival] = {}
        self.scheduler: DynamicScheduler | None = None

    @property
    def idle(self) -> int:
        return sum(not batches for batches in self._batches)

    @property
    def spare(self) -> int:
        return sum(len(batches) == 1 for batches in self._batches)

    def admits(self) -> bool:
        return True

    def run(self, batch: Sequence[Work]) -> None:
        names = [work.request.id for work in batch]
        self._outcome.batches.append((self._loop.now_us, names))
        place = min(self._batches, key=len)
        place.append(list(batch))
        if len(place) == 1:
            self._begin(place)

    def _begin(self, place: list[list[Work]]) -> None:
        number = next(n for n, one in enumerate(self._batches) if one is place)
        arrivals = [self.arrivals[work.key] for work in place[0]]
        end = completion(self._loop.now_us, arrivals, number)
        self._loop.call_at(end / 1e6, self._complete, place)

    def _complete(self, place: list[list[Work]]) -> None:
        executed = place.pop(0)
        ahead = place or max(self._batches, key=len)
        if ahead is not place and len(ahead) > 1:
            place.append(ahead.pop())
        if place:
            self._begin(place)
        for work in executed:
            work.answer(InferResponse("m", 1, work.request.id))
        assert self.scheduler is not None
        self.scheduler.pump()


def actual(rules: Rules, arrivals: list[Arrival], monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """What the scheduler makes of the arrivals."""
    loop = VirtualLoop()
    monkeypatch.setattr(dynamic, "time", loop)
    outcome = Outcome()
    return run(loop, _play(rules, arrivals, loop, outcome))


async def _play(
    rules: Rules, arrivals: list[Arrival], loop: VirtualLoop, outcome: Outcome
) -> Outcome:
    instances = Instances(rules.instances, loop, outcome)
    scheduler = instances.scheduler = DynamicScheduler(
        "m",
        1,
        Policy(rules.max_batch_size, rules.preferred, rules.delay * 1000),
        instances,
        QueueRules(tuple(map(_policy, rules.levels)), rules.default_level),
        preserve_ordering=rules.preserve_ordering,
    )
    finished = asyncio.Event()
    left = len(arrivals)

    def note(name: str, how: str) -> None:
        nonlocal left
        outcome.answers.append((loop.now_us, name, how))
        left -= 1
        if not left:
            finished.set()

    def arrive(arrival: Arrival) -> None:
        request = InferRequest(
            "m", None, [], id=arrival.name, priority=arrival.priority, timeout_us=arrival.timeout
        )
        request.batch_size, request.signature = arrival.size, arrival.shape
        work = Work(request, partial(_answered, note), _final, enqueued_ns=loop.monotonic_ns())
        instances.arrivals[work.key] = arrival
        try:
            scheduler.enqueue(work)
        except UnavailableError:
            note(arrival.name, "refused")
        else:
            if arrival.cancelled_at:
                loop.call_at(arrival.cancelled_at / 1e6, scheduler.cancel, work)

    def arrive_together(together: list[Arrival]) -> None:
        for arrival in together:
            arrive(arrival)

    for at, together in groupby(arrivals, key=attrgetter("at")):
        loop.call_at(at / 1e6, arrive_together, list(together))
    await finished.wait()
    scheduler.close()
    return outcome


def _policy(level: Level) -> LevelPolicy:
    return LevelPolicy(level.most, level.patience * 1000, level.allow_override, level.delays)


def _answered(note: object, response: InferResponse) -> None:
    assert callable(note)
    note(response.id, _how(response.error))


def _how(error: StatusError | None) -> str:
    if error is None:
        return "ran"
    return "cancelled" if isinstance(error, CancelledError) else "expired"


def _final(work: Work, response: InferResponse, failure: FailureReason | None) -> None:
    """Nobody counts here."""


@pytest.mark.parametrize("block", range(PATTERNS // BLOCK))
def test_batches_are_those_of_the_documentation(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        rules, arrivals = pattern(Random(seed))
        wanted, got = expected(rules, arrivals), actual(rules, arrivals, monkeypatch)
        assert got.batches == wanted.batches, f"pattern {seed}: {rules}"
        assert sorted(got.answers) == sorted(wanted.answers), f"pattern {seed}: {rules}"
        if rules.preserve_ordering:
            ran = [answer for answer in wanted.answers if answer[2] == "ran"]
            assert [answer for answer in got.answers if answer[2] == "ran"] == ran


def test_the_patterns_show_all_that_can_become_of_a_request() -> None:
    seen: set[str] = set()
    largest = 0
    for seed in range(BLOCK):
        outcome = expected(*pattern(Random(seed)))
        seen.update(how for _at, _name, how in outcome.answers)
        largest = max(largest, *(len(names) for _at, names in outcome.batches))
    assert seen == {"ran", "refused", "expired", "cancelled"}
    assert largest > 8
