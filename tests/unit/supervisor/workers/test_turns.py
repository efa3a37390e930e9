"""Pools of several models that share resources: each runs when it is its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from support.fakes import ARENA_BYTES, Asker, FakeFeeder, FakePool, recipe

from tritonpy.supervisor.memory.buffers import InputArena
from tritonpy.supervisor.scheduling.batcher import Policy
from tritonpy.supervisor.scheduling.dynamic import DynamicScheduler
from tritonpy.supervisor.scheduling.rate_limiter import Demand, Explicit
from tritonpy.supervisor.telemetry.statistics import VersionStatistics
from tritonpy.supervisor.workers.states import WorkerState
from tritonpy.supervisor.workers.turns import Turns, explicit_resources

pytestmark = pytest.mark.anyio

ALL = Demand({("R", 0): 1})


class Bench:
    """Two models that need the same resource to run, each with its scheduler."""

    def __init__(self, demand: Demand = ALL, instances: int = 1) -> None:
        self.inputs = InputArena(1, ARENA_BYTES, "test")
        self.turns = Turns()
        self.asker = Asker()
        self.pools = [self._pool(demand, instances) for _ in range(2)]
        self.schedulers = [DynamicScheduler("m", 1, Policy(), pool) for pool in self.pools]
        for pool, scheduler in zip(self.pools, self.schedulers, strict=True):
            pool.goes_live(scheduler)

    def _pool(self, demand: Demand, instances: int) -> FakePool:
        statistics = VersionStatistics("m", 1)
        return FakePool(self.inputs, statistics, instances, self.turns, demand=demand)

    @property
    def loads(self) -> list[list[int]]:
        """How many batches each instance of each model has."""
        return [[fake.load for fake in pool.fakes] for pool in self.pools]

    def ask(self, model: int) -> None:
        """A request to a model."""
        self.schedulers[model].enqueue(self.asker.work())


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.inputs.close()


async def turn() -> None:
    """Let the loop do what is due."""
    for _ in range(8):
        await asyncio.sleep(0)


async def test_one_model_runs_while_the_other_waits(bench: Bench) -> None:
    for model in (0, 1, 0, 1):
        bench.ask(model)
    seen = [bench.loads]
    for number in (0, 1, 0, 1):
        bench.pools[number].fakes[0].finishes()
        await turn()
        seen.append(bench.loads)

    assert seen == [[[1], [0]], [[0], [1]], [[1], [0]], [[0], [1]], [[0], [0]]]
    assert len(bench.asker.responses) == 4


async def test_nothing_is_sent_ahead(bench: Bench) -> None:
    bench.ask(0)
    bench.ask(0)
    assert bench.pools[0].spare == 0
    assert bench.loads == [[1], [0]]


async def test_a_worker_that_dies_gives_back_what_it_had(bench: Bench) -> None:
    bench.ask(0)
    bench.ask(1)
    bench.pools[0].fakes[0].dies()
    await turn()

    assert bench.loads == [[0], [1]]
    bench.pools[0].fakes[0].becomes_ready()
    await turn()
    assert bench.loads == [[0], [1]], "the one that came back waits for its turn"
    bench.pools[1].fakes[0].finishes()
    await turn()
    assert bench.loads == [[1], [0]]


async def test_a_worker_that_dies_while_it_waits_holds_up_nobody(bench: Bench) -> None:
    bench.ask(0)
    bench.ask(1)
    bench.pools[1].fakes[0].dies(WorkerState.BACKOFF)
    bench.pools[0].fakes[0].finishes()
    await turn()
    bench.ask(0)
    assert bench.loads == [[1], [0]]


async def test_a_model_that_is_unloaded_gives_back_what_it_had(bench: Bench) -> None:
    bench.ask(0)
    bench.ask(1)
    await bench.pools[0].stop(1.0)
    await turn()
    assert bench.loads == [[0], [1]]


async def test_a_turn_that_nothing_is_left_for_goes_to_the_next(bench: Bench) -> None:
    bench.ask(0)
    bench.ask(1)
    (work,) = list(bench.schedulers[1]._queue)  # pyright: ignore[reportPrivateUsage]
    bench.schedulers[1].cancel(work)
    bench.pools[0].fakes[0].finishes()
    await turn()
    bench.ask(0)
    assert bench.loads == [[1], [0]]


async def test_an_instance_that_is_set_aside_gives_up_its_turn(bench: Bench) -> None:
    bench.ask(0)
    bench.ask(1)
    bench.pools[0].fakes[0].finishes()
    bench.pools[1].set_aside(bench.pools[1].fakes)
    await turn()
    bench.ask(0)
    assert bench.loads == [[1], [0]]


async def test_a_batch_that_cannot_be_sent_gives_up_its_turn(bench: Bench) -> None:
    bench.pools[0].fakes[0].refuses = OverflowError("too big")
    bench.ask(0)
    bench.ask(1)
    assert bench.loads == [[0], [1]]
    await bench.asker.answers(1)


async def test_any_idle_instance_of_a_model_may_have_the_turn() -> None:
    bench = Bench(instances=2)
    for model in (0, 1, 0):
        bench.ask(model)
    loads = bench.loads
    assert sorted(map(sum, loads)) == [0, 1]
    bench.pools[0].fakes[loads[0].index(1)].finishes()
    await turn()
    assert [sum(each) for each in bench.loads] == [0, 1]
    bench.inputs.close()


async def test_an_instance_that_is_chosen_by_the_scheduler_waits_for_its_own_turn() -> None:
    bench = Bench(instances=2)
    pool, (first, second) = bench.pools[0], bench.pools[0].fakes
    assert pool.admits_on(first)
    pool.run_on(first, [bench.asker.work()])
    assert not pool.admits_on(second)
    bench.ask(1)

    first.finishes()
    await turn()

    assert sum(bench.loads[1]) == 1, "nothing was left for the second one's turn"
    assert not pool.admits_on(second)
    next(fake for fake in bench.pools[1].fakes if fake.load).finishes()
    assert pool.admits_on(second)
    pool.run_on(second, [bench.asker.work()])
    assert not pool.admits_on(first)
    bench.inputs.close()


async def test_instances_that_are_added_and_removed_come_and_go_with_their_demand() -> None:
    bench = Bench()
    bench.pools[0]._feeder = FakeFeeder()  # pyright: ignore[reportPrivateUsage] - asks nothing
    big = recipe(bench.inputs, name="m_9", demand=Demand({("R", 0): 3}))
    await bench.pools[0].add([big], "{}")
    assert "3 instances" in repr(bench.turns)
    bench.ask(1)
    added = bench.pools[0].fakes[-1]
    bench.pools[0].set_aside([added])
    await bench.pools[0].remove([added], 1.0, 1.0)
    assert "2 instances" in repr(bench.turns)
    bench.inputs.close()


def test_the_command_line_gives_resources_for_one_device_or_for_all() -> None:
    assert explicit_resources(["R1:4", "R2:8:1"]) == [Explicit("R1", 4), Explicit("R2", 8, 1)]
