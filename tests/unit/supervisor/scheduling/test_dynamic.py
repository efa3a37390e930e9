"""The dynamic batch scheduler in front of instances that run when the test says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from support.fakes import SOON, Asker, FakeRunner, answer, identity_request, until

from tritonpy.ipc.errors import CancelledError, UnavailableError
from tritonpy.supervisor.scheduling import dynamic
from tritonpy.supervisor.scheduling.batcher import Policy
from tritonpy.supervisor.scheduling.dynamic import DynamicScheduler
from tritonpy.supervisor.scheduling.queue import LevelPolicy, QueueRules
from tritonpy.supervisor.scheduling.scheduler import Work

pytestmark = pytest.mark.anyio

MS = 1_000_000
BATCHING = Policy(8, (8,))
DELAYED = Policy(8, (8,), delay_ns=50 * MS)


@dataclass
class Clock:
    """The scheduler's clock, which stands still."""

    now: int = 10**12

    def monotonic_ns(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(dynamic, "time", clock)
    return clock


@pytest.fixture
def asker() -> Asker:
    return Asker()


def scheduler(policy: Policy, runner: FakeRunner) -> DynamicScheduler:
    return DynamicScheduler("m", 1, policy, runner)


def works(asker: Asker, count: int, clock: Clock | None = None) -> list[Work]:
    made = [asker.work(id=f"r{number}") for number in range(count)]
    if clock is not None:
        for work in made:
            work.enqueued_ns = clock.now
    return made


async def test_a_request_that_is_not_batched_runs_before_enqueue_returns(asker: Asker) -> None:
    runner = FakeRunner()
    queue = scheduler(Policy(), runner)
    first, ahead, waits = works(asker, 3)

    queue.enqueue(first)
    assert runner.batches == [[first]]
    queue.enqueue(ahead)
    queue.enqueue(waits)

    assert runner.batches == [[first], [ahead]]
    assert queue.queued == 1
    assert "1 queued" in repr(queue)


async def test_requests_that_come_in_one_turn_of_the_loop_run_together(asker: Asker) -> None:
    runner = FakeRunner()
    queue = scheduler(BATCHING, runner)
    for work in works(asker, 3):
        queue.enqueue(work)
    assert runner.batches == []

    await asyncio.sleep(0)

    assert runner.sizes == [3]
    queue.close()


async def test_what_is_queued_goes_when_an_instance_becomes_free(asker: Asker) -> None:
    runner = FakeRunner(idle=0)
    queue = scheduler(BATCHING, runner)
    for work in works(asker, 11):
        queue.enqueue(work)
    await asyncio.sleep(0)
    assert runner.batches == []

    runner.idle = 1
    queue.pump()

    # Eight for the idle instance; three may still grow, so they are not sent ahead.
    assert runner.sizes == [8]
    runner.idle, runner.spare = 1, 0
    queue.pump()
    assert runner.sizes == [8, 3]
    queue.close()


async def test_a_busy_instance_is_sent_one_full_batch_ahead(asker: Asker) -> None:
    runner = FakeRunner(idle=1)
    queue = scheduler(BATCHING, runner)
    for work in works(asker, 24):
        queue.enqueue(work)

    await asyncio.sleep(0)

    assert runner.sizes == [8, 8]
    assert queue.queued == 8
    queue.close()


async def test_a_delayed_batch_goes_by_itself_when_its_time_has_come(asker: Asker) -> None:
    runner = FakeRunner()
    queue = scheduler(Policy(8, (8,), delay_ns=1 * MS), runner)
    for work in works(asker, 2):
        queue.enqueue(work)

    async with asyncio.timeout(SOON):
        await runner.ran.wait()

    assert runner.sizes == [2]
    queue.close()


async def test_a_delayed_batch_that_becomes_full_does_not_wait(asker: Asker, clock: Clock) -> None:
    runner = FakeRunner()
    queue = scheduler(DELAYED, runner)
    early, late = works(asker, 16, clock)[:3], works(asker, 5, clock)
    for work in early:
        queue.enqueue(work)
    await asyncio.sleep(0)
    assert runner.batches == []

    for work in late:
        queue.enqueue(work)
    await asyncio.sleep(0)

    assert runner.sizes == [8]
    queue.close()


async def test_the_delay_counts_from_the_oldest_request(asker: Asker, clock: Clock) -> None:
    runner = FakeRunner()
    queue = scheduler(DELAYED, runner)
    (old,) = works(asker, 1, clock)
    queue.enqueue(old)
    clock.now += 49 * MS
    (young,) = works(asker, 1, clock)
    queue.enqueue(young)
    await asyncio.sleep(0)
    assert runner.batches == []

    clock.now += 1 * MS
    queue.pump()

    assert runner.batches == [[old, young]]
    queue.close()


async def test_a_request_that_is_taken_back_is_answered_cancelled_and_never_runs(
    asker: Asker,
) -> None:
    runner = FakeRunner(idle=0)
    queue = scheduler(Policy(), runner)
    first, second = works(asker, 2)
    queue.enqueue(first)
    queue.enqueue(second)

    assert queue.cancel(first) is True
    runner.idle = 1
    queue.pump()

    assert runner.batches == [[second]]
    ((work, response, reason),) = asker.finals
    assert work is first
    assert isinstance(response.error, CancelledError)
    assert response.error.message == "[request id: r0] Request cancelled"
    assert reason == "CANCELED"


async def test_a_request_that_runs_already_cannot_be_taken_back(asker: Asker) -> None:
    queue = scheduler(Policy(), FakeRunner())
    (work,) = works(asker, 1)
    queue.enqueue(work)

    assert queue.cancel(work) is False
    assert asker.responses == []


async def test_everything_queued_is_answered_when_nothing_will_run(asker: Asker) -> None:
    queue = scheduler(BATCHING, FakeRunner(idle=0))
    for work in works(asker, 3):
        queue.enqueue(work)

    queue.fail_queued("the model is gone")

    assert queue.queued == 0
    assert [response.id for response in asker.responses] == ["r0", "r1", "r2"]
    for _work, response, reason in asker.finals:
        assert isinstance(response.error, UnavailableError)
        assert response.error.message.endswith("] the model is gone")
        assert reason == "REJECTED"
    queue.close()


async def test_a_request_whose_worker_died_goes_first_and_alone(asker: Asker) -> None:
    runner = FakeRunner(idle=0)
    queue = scheduler(BATCHING, runner)
    returned, *others = works(asker, 4)
    for work in others:
        queue.enqueue(work)
    returned.deaths = 1
    queue.enqueue_first(returned)
    await asyncio.sleep(0)

    runner.idle = 2
    queue.pump()

    assert runner.batches == [[returned], others]
    queue.close()


async def test_a_request_whose_worker_died_ends_the_batch_before_it(asker: Asker) -> None:
    runner = FakeRunner(idle=0)
    queue = scheduler(BATCHING, runner)
    first, second = works(asker, 2)
    first.deaths = second.deaths = 1
    queue.enqueue_first(second)
    queue.enqueue_first(first)

    runner.idle = 2
    queue.pump()

    assert runner.batches == [[first], [second]]
    queue.close()


async def test_requests_of_other_shapes_run_apart(asker: Asker) -> None:
    runner = FakeRunner(idle=3)
    queue = scheduler(BATCHING, runner)
    for shape in ("a", "a", "b", "a"):
        request = identity_request()
        request.signature = shape
        queue.enqueue(asker.work(request))

    await asyncio.sleep(0)

    assert runner.sizes == [2, 1, 1]
    queue.close()


async def test_a_scheduler_that_is_closed_forgets_its_timers(asker: Asker) -> None:
    runner = FakeRunner()
    queue = scheduler(Policy(8, (8,), delay_ns=1 * MS), runner)
    (work,) = works(asker, 1)
    queue.enqueue(work)
    queue.close()
    other = scheduler(Policy(8, (8,), delay_ns=2 * MS), other_runner := FakeRunner())
    other.enqueue(asker.work())

    async with asyncio.timeout(SOON):
        await other_runner.ran.wait()

    assert runner.batches == []
    other.close()


async def test_answering_one_request_may_queue_the_next(asker: Asker) -> None:
    queue = scheduler(Policy(), FakeRunner(idle=0))
    again = asker.work(id="again")
    (work,) = works(asker, 1)
    work.respond = lambda _response: queue.enqueue(again)
    queue.enqueue(work)

    queue.cancel(work)

    assert queue.queued == 1
    queue.fail_queued("end")
    await until(lambda: len(asker.responses) == 1)


def with_rules(runner: FakeRunner, *levels: LevelPolicy, ordered: bool = False) -> DynamicScheduler:
    rules = QueueRules(levels or (LevelPolicy(),), len(levels) or 1)
    return DynamicScheduler("m", 1, BATCHING, runner, rules, preserve_ordering=ordered)


async def test_a_request_of_a_higher_priority_overtakes_and_nothing_is_sent_ahead(
    asker: Asker,
) -> None:
    runner = FakeRunner(idle=0, spare=1)
    queue = with_rules(runner, LevelPolicy(), LevelPolicy())
    low = works(asker, 8)
    for work in low:
        work.request.priority = 2
        queue.enqueue(work)
    high = asker.work(id="high")
    high.request.priority = 1
    queue.enqueue(high)
    await asyncio.sleep(0)
    assert runner.batches == []

    runner.idle = 1
    queue.pump()

    assert runner.batches == [[high, *low[:7]]]
    queue.close()


async def test_a_request_is_refused_when_the_queue_is_full(asker: Asker) -> None:
    queue = with_rules(FakeRunner(idle=0), LevelPolicy(most=1))
    first, second = works(asker, 2)
    queue.enqueue(first)

    with pytest.raises(UnavailableError, match="Exceeds maximum queue size"):
        queue.enqueue(second)

    assert queue.queued == 1
    queue.close()


async def test_a_request_that_waited_too_long_is_answered_while_all_instances_are_busy(
    asker: Asker,
) -> None:
    queue = with_rules(FakeRunner(idle=0), LevelPolicy(timeout_ns=MS))
    (work,) = works(asker, 1)
    queue.enqueue(work)

    (response,) = await asker.answers(1)

    assert isinstance(response.error, UnavailableError)
    assert response.error.message == "[request id: r0] Request timeout expired"
    assert asker.finals[0][2] == "REJECTED"
    assert queue.queued == 0
    queue.close()


async def test_responses_keep_the_order_of_their_requests_over_several_instances(
    asker: Asker,
) -> None:
    runner = FakeRunner(idle=2)
    queue = with_rules(runner, ordered=True)
    for work in works(asker, 16):
        queue.enqueue(work)
    await asyncio.sleep(0)
    early, late = runner.batches

    for work in [*late, *early]:
        answer(work)

    assert [response.id for response in asker.responses] == [f"r{n}" for n in range(16)]
    queue.close()
