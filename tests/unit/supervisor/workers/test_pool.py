"""A pool of instances that have no process: who gets what, and what becomes of lost requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Sequence

import pytest
from support.fakes import (
    ARENA_BYTES,
    SOON,
    Asker,
    FakeFeeder,
    FakePool,
    identity_request,
    recipe,
    until,
)

from tritonpy.ipc import messages as ipc_messages
from tritonpy.ipc.errors import (
    CancelledError,
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from tritonpy.ipc.messages import Error, Executed, Responded, Response
from tritonpy.ipc.tensor import Tensor
from tritonpy.supervisor.memory.buffers import InputArena
from tritonpy.supervisor.request import InferResponse
from tritonpy.supervisor.scheduling.batcher import Policy
from tritonpy.supervisor.scheduling.dynamic import DynamicScheduler
from tritonpy.supervisor.scheduling.queue import LevelPolicy, QueueRules
from tritonpy.supervisor.scheduling.scheduler import Seat, SequenceStep, Work
from tritonpy.supervisor.telemetry.statistics import Duration, MemoryUsage, VersionStatistics
from tritonpy.supervisor.workers.pool import MOST_AHEAD
from tritonpy.supervisor.workers.refusals import PATIENCE
from tritonpy.supervisor.workers.states import WorkerState
from tritonpy.supervisor.workers.turns import Turns

pytestmark = pytest.mark.anyio


class Bench:
    """A pool, its scheduler and somebody who asks."""

    def __init__(self, count: int, concurrency: int = 1, turns: Turns | None = None) -> None:
        self.inputs = InputArena(1, ARENA_BYTES, "test")
        self.statistics = VersionStatistics("m", 1)
        self.pool = FakePool(
            self.inputs, self.statistics, count, concurrency=concurrency, turns=turns
        )
        self.feeder = FakeFeeder()
        self.asker = Asker()

    def ready(self) -> Bench:
        """All instances are loaded."""
        self.pool.goes_live(self.feeder)
        return self


@pytest.fixture
def one() -> Iterator[Bench]:
    bench = Bench(1)
    yield bench
    bench.inputs.close()


@pytest.fixture
def two() -> Iterator[Bench]:
    bench = Bench(2)
    yield bench
    bench.inputs.close()


# --- loading ----------------------------------------------------------------------------------


async def test_all_instances_are_loaded_and_then_idle(two: Bench) -> None:
    pool = two.pool
    assert not pool.is_ready
    first = await pool.start_first()
    assert first is pool.fakes[0]

    await pool.load("{}", two.feeder)

    assert pool.is_ready
    assert (pool.idle, pool.spare) == (2, 0)
    assert two.feeder.pumps == 2
    assert "2 idle" in repr(pool)


async def test_a_load_fails_with_the_error_of_the_instance_that_failed(two: Bench) -> None:
    two.pool.fakes[1].fails = InvalidArgumentError("no such file")
    await two.pool.start_first()

    with pytest.raises(InvalidArgumentError, match="no such file"):
        await two.pool.load("{}", two.feeder)


async def test_the_memory_of_all_instances_is_added_up_by_device(two: Bench) -> None:
    cpu, gpu = ipc_messages.MemoryUsage("CPU", 0, 100), ipc_messages.MemoryUsage("GPU", 0, 7)
    for fake in two.pool.fakes:
        fake._memory = [cpu, gpu]
    two.ready()

    assert two.statistics.snapshot().memory_usage == [
        MemoryUsage(type="CPU", id=0, byte_size=200),
        MemoryUsage(type="GPU", id=0, byte_size=14),
    ]
    two.pool.fakes[0]._memory = []
    two.pool.fakes[0].dies()
    assert two.statistics.snapshot().memory_usage[0].byte_size == 100


# --- running ----------------------------------------------------------------------------------


async def test_an_instance_is_idle_then_has_room_to_spare_then_none(one: Bench) -> None:
    pool = one.ready().pool
    (fake,) = pool.fakes
    rooms: list[tuple[int, int]] = []
    for _ in range(2):
        pool.run([one.asker.work()])
        rooms.append((pool.idle, pool.spare))
    for _ in range(2):
        fake.finishes()
        rooms.append((pool.idle, pool.spare))

    assert rooms == [(0, 1), (0, 0), (0, 1), (1, 0)]
    assert len(one.asker.responses) == 2


async def test_idle_instances_are_preferred_to_busy_ones(two: Bench) -> None:
    pool = two.ready().pool

    for _ in range(4):
        pool.run([two.asker.work()])

    assert [fake.load for fake in pool.fakes] == [2, 2]


async def test_the_next_batch_leaves_before_the_responses_are_delivered(one: Bench) -> None:
    pool = one.ready().pool
    pumps_when_answered: list[int] = []
    work = one.asker.work()
    work.respond = lambda _response: pumps_when_answered.append(one.feeder.pumps)
    pool.run([work])
    before = one.feeder.pumps

    pool.fakes[0].finishes()

    assert pumps_when_answered == [before + 1]


async def test_a_batch_that_cannot_be_sent_fails_alone_and_not_before_run_returns(
    one: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    pool = one.ready().pool
    pool.fakes[0].refuses = OverflowError("too big")
    pool.run([one.asker.work(id="a"), one.asker.work(id="b")])
    assert one.asker.responses == []
    assert (pool.idle, pool.spare) == (1, 0)

    first, second = await one.asker.answers(2)

    assert isinstance(first.error, InternalError)
    assert first.error.message == (
        "[request id: a] the request cannot be sent to a worker: too big"
    )
    assert second.error is not None
    assert [reason for _work, _response, reason in one.asker.finals] == ["OTHER", "OTHER"]
    assert "cannot be sent" in caplog.text


async def test_an_instance_that_becomes_idle_gets_what_waits_behind_another(two: Bench) -> None:
    pool = two.ready().pool
    works = [two.asker.work() for _ in range(4)]
    for work in works:
        pool.run([work])
    slow, fast = pool.fakes[1], pool.fakes[0]
    assert slow.batches == [[works[0]], [works[2]]]

    fast.finishes()
    assert two.feeder.first == []
    fast.finishes()

    assert two.feeder.first == [works[2]]
    assert (slow.load, pool.idle, pool.spare) == (1, 1, 1)
    pool.run([works[2]])
    assert fast.batches == [[works[2]]]


async def test_an_instance_that_comes_up_gets_what_waits_behind_another(two: Bench) -> None:
    pool = two.pool
    pool._feeder = two.feeder  # pyright: ignore[reportPrivateUsage] - one of two is loaded
    first, second = pool.fakes
    first.becomes_ready()
    works = [two.asker.work(), two.asker.work()]
    for work in works:
        pool.run([work])

    second.becomes_ready()

    assert two.feeder.first == [works[1]]


async def test_a_batch_that_has_begun_is_not_taken_back(two: Bench) -> None:
    pool = two.ready().pool
    for _ in range(4):
        pool.run([two.asker.work()])
    slow, fast = pool.fakes
    slow.has_begun = True

    fast.finishes()
    fast.finishes()

    assert two.feeder.first == []
    assert (slow.load, pool.idle, pool.spare) == (2, 1, 0)
    slow.finishes()
    slow.finishes()
    assert (pool.idle, pool.spare) == (2, 0)
    assert len(two.asker.responses) == 4


async def test_a_batch_is_taken_back_whole_and_in_order_without_whose_client_has_gone(
    one: Bench,
) -> None:
    pool = one.ready().pool
    works = [one.asker.work(id=str(number)) for number in range(4)]
    pool.run(works[:1])
    pool.run(works[1:])
    works[2].cancelled = True
    pumps = one.feeder.pumps

    pool.cancel(works[2])

    assert one.feeder.first == [works[1], works[3]]
    assert one.feeder.pumps == pumps + 1
    (response,) = one.asker.responses
    assert isinstance(response.error, CancelledError)
    assert response.error.message == "[request id: 2] Request cancelled"
    assert one.asker.finals[0][2] == "CANCELED"
    assert pool.fakes[0].cancelled == []


async def unbatched(bench: Bench) -> FakePool:
    """A pool whose requests run alone, loaded."""
    bench.feeder.batches = False
    await bench.pool.load("{}", bench.feeder)
    return bench.pool


async def test_of_requests_that_run_alone_several_are_sent_ahead(one: Bench) -> None:
    pool = await unbatched(one)
    for sent in range(MOST_AHEAD + 1):
        assert (pool.idle + pool.spare, pool.waiting) == (1, max(0, sent - 1))
        pool.run([one.asker.work()])
    assert (pool.idle, pool.spare, pool.waiting) == (0, 0, MOST_AHEAD)

    pool.fakes[0].finishes()

    assert (pool.idle, pool.spare, pool.waiting) == (0, 1, MOST_AHEAD - 1)
    for _ in range(MOST_AHEAD):
        pool.fakes[0].finishes()
    assert (pool.idle, pool.spare, pool.waiting) == (1, 0, 0)


async def test_the_instance_that_has_the_least_to_do_is_sent_the_next_one_ahead(two: Bench) -> None:
    pool = await unbatched(two)
    for _ in range(6):
        pool.run([two.asker.work()])
    assert [fake.load for fake in pool.fakes] == [3, 3]


async def test_an_instance_that_becomes_idle_is_given_what_another_was_sent_ahead(
    two: Bench,
) -> None:
    pool = await unbatched(two)
    works = [two.asker.work() for _ in range(6)]
    for work in works:
        pool.run([work])
    slow, fast = pool.fakes
    given = [batch[0] for batch in slow.batches]
    while fast.load:
        fast.finishes()

    assert two.feeder.first == given[:0:-1]  # one after the other, the oldest first
    assert (slow.load, pool.idle, pool.spare) == (1, 1, 1)


async def test_a_cancellation_takes_all_back_that_was_sent_ahead_so_that_the_order_stays(
    one: Bench,
) -> None:
    pool = await unbatched(one)
    works = [one.asker.work() for _ in range(5)]
    for work in works:
        pool.run([work])
    works[2].cancelled = True

    pool.cancel(works[2])

    assert one.feeder.first == [works[1], works[3], works[4]]
    assert (pool.fakes[0].load, pool.spare, pool.waiting) == (1, 1, 0)


async def test_what_a_lost_worker_had_not_begun_runs_again_whatever_the_backend_is(
    one: Bench,
) -> None:
    pool = await unbatched(one)
    pool.fakes[0].is_pure = False
    works = [one.asker.work() for _ in range(4)]
    for work in works:
        pool.run([work])
    works[3].cancelled = True

    pool.fakes[0].dies()

    assert one.feeder.first == works[1:3]
    assert [work.deaths for work in works] == [1, 0, 0, 0]
    assert len(one.asker.responses) == 2


async def test_a_cancellation_of_what_runs_leaves_alone_what_was_sent_ahead(one: Bench) -> None:
    pool = one.ready().pool
    works = [one.asker.work(), one.asker.work()]
    for work in works:
        pool.run([work])

    pool.cancel(works[0])

    assert pool.fakes[0].cancelled == [works[0]]
    assert one.feeder.first == []


async def test_nothing_is_sent_ahead_to_an_instance_that_waits_for_another_model(
    two: Bench,
) -> None:
    pool = two.ready().pool
    works = [two.asker.work() for _ in range(3)]
    for work in works:
        pool.run([work])
    ahead, other = sorted(pool.fakes, key=lambda fake: -fake.load)
    assert ahead.batches[1] == [works[2]]

    pool.instance_waits(ahead)
    pool.instance_waits(ahead)
    assert two.feeder.first == [works[2]], "it is queued again"
    assert (ahead.load, pool.idle, pool.spare) == (1, 0, 1)
    two.feeder.first.clear()
    pool.run([works[2]])
    assert (ahead.load, other.load, pool.spare) == (1, 2, 0)

    ahead.finishes()
    assert pool.idle == 1


async def test_what_an_instance_has_begun_stays_there_when_it_waits(one: Bench) -> None:
    pool = one.ready().pool
    (fake,) = pool.fakes
    for _ in range(2):
        pool.run([one.asker.work()])
    fake.has_begun = True

    pool.instance_waits(fake)
    assert (fake.load, pool.spare) == (2, 0)
    fake.finishes()
    fake.finishes()
    assert pool.idle == 1


async def test_an_instance_that_waits_and_dies_is_no_more_counted_with(one: Bench) -> None:
    pool = one.ready().pool
    (fake,) = pool.fakes
    pool.run([one.asker.work()])
    pool.instance_waits(fake)
    fake.dies()
    fake.becomes_ready()
    assert (pool.idle, pool.spare) == (1, 0)
    pool.run([one.asker.work()])
    fake.finishes()
    assert (pool.idle, pool.spare) == (1, 0)


async def test_a_cancellation_that_comes_too_late_to_take_it_back_is_told_to_the_worker(
    one: Bench,
) -> None:
    pool = one.ready().pool
    works = [one.asker.work(), one.asker.work()]
    for work in works:
        pool.run([work])
    pool.fakes[0].has_begun = True

    pool.cancel(works[1])

    assert pool.fakes[0].cancelled == [works[1]]


async def test_a_cancellation_goes_to_the_instance_that_has_the_request(two: Bench) -> None:
    pool = two.ready().pool
    works = [two.asker.work(), two.asker.work()]
    for work in works:
        pool.run([work])

    pool.cancel(works[0])
    pool.cancel(two.asker.work())

    cancelled = [work for fake in pool.fakes for work in fake.cancelled]
    assert cancelled == [works[0]]


async def test_all_instances_give_back_memory(two: Bench) -> None:
    two.pool.trim()
    assert [fake.trims for fake in two.pool.fakes] == [1, 1]


# --- losing an instance -----------------------------------------------------------------------


async def test_a_pure_request_is_run_again_once_and_not_a_third_time(one: Bench) -> None:
    pool = one.ready().pool
    (fake,) = pool.fakes
    work = one.asker.work(id="r")
    pool.run([work])
    fake.dies()

    assert one.feeder.first == [work]
    assert one.asker.responses == []
    fake.becomes_ready()
    pool.run([work])
    fake.dies(reason="killed by SIGSEGV")

    (response,) = one.asker.responses
    assert isinstance(response.error, UnavailableError)
    assert response.error.message == (
        "[request id: r] the request to model 'm' was lost: killed by SIGSEGV"
    )
    assert one.asker.finals[0][2] == "BACKEND"


async def test_lost_requests_come_back_in_their_order(one: Bench) -> None:
    pool = one.ready().pool
    works = [one.asker.work() for _ in range(3)]
    pool.run(works[:2])
    pool.run(works[2:])

    pool.fakes[0].dies()

    assert one.feeder.first == works


async def test_a_request_that_may_have_done_something_is_not_run_again(one: Bench) -> None:
    pool = one.ready().pool
    pool.fakes[0].is_pure = False
    pool.run([one.asker.work()])

    pool.fakes[0].dies()

    assert one.feeder.first == []
    assert isinstance(one.asker.responses[0].error, UnavailableError)


async def test_a_request_that_was_answered_in_part_is_not_run_again(one: Bench) -> None:
    pool = one.ready().pool
    work = one.asker.work()
    pool.run([work])
    work.answer(InferResponse("m", 1, "", final=False))

    pool.fakes[0].dies()

    assert one.feeder.first == []
    assert one.asker.responses[-1].final
    assert isinstance(one.asker.responses[-1].error, UnavailableError)


async def test_a_request_whose_client_has_gone_is_not_run_again(one: Bench) -> None:
    pool = one.ready().pool
    work = one.asker.work()
    pool.run([work])
    work.cancelled = True

    pool.fakes[0].dies()

    assert one.feeder.first == []
    assert isinstance(one.asker.responses[0].error, CancelledError)
    assert one.asker.finals[0][2] == "CANCELED"


@pytest.mark.parametrize("loads", [0, 1, 2])
async def test_an_instance_that_died_has_no_room_and_has_it_again_afterwards(
    one: Bench, loads: int
) -> None:
    pool = one.ready().pool
    for _ in range(loads):
        pool.run([one.asker.work()])

    pool.fakes[0].dies()
    assert (pool.idle, pool.spare) == (0, 0)
    pool.fakes[0].becomes_ready()
    assert (pool.idle, pool.spare) == (1, 0)


# --- refusing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "accepted"),
    [
        (WorkerState.READY, True),
        (WorkerState.STARTING, True),
        (WorkerState.LOADING, True),
        (WorkerState.STOPPING, False),
        (WorkerState.EXITED, False),
        (WorkerState.FATAL, False),
    ],
)
async def test_requests_wait_for_an_instance_that_will_come(
    one: Bench, state: WorkerState, accepted: bool
) -> None:
    one.ready()
    one.pool.fakes[0].dies(state, "it fell over")
    one.pool.fakes[0].state = state

    refusal = one.pool.refusal()

    if accepted:
        assert refusal is None
    else:
        assert refusal == "model 'm' version 1 has no instance that runs: it fell over"


@pytest.mark.parametrize(("delay", "accepted"), [(PATIENCE / 2, True), (PATIENCE * 10, False)])
async def test_requests_wait_for_a_restart_that_is_near(
    one: Bench, delay: float, accepted: bool
) -> None:
    fake = one.ready().pool.fakes[0]
    fake.restart_at = time.monotonic() + delay
    fake.dies()

    assert (one.pool.refusal() is None) is accepted
    assert bool(one.feeder.failed) is not accepted


async def test_what_is_queued_is_failed_when_the_last_instance_is_given_up(two: Bench) -> None:
    first, second = two.ready().pool.fakes

    first.dies(WorkerState.FATAL, "out of memory")
    assert two.feeder.failed == []
    assert not two.pool.has_ended
    second.dies(WorkerState.FATAL, "out of memory")

    assert two.feeder.failed == ["model 'm' version 1 has no instance that runs: out of memory"]
    assert two.pool.has_ended
    assert not two.pool.is_ready


# --- stopping ---------------------------------------------------------------------------------


async def test_an_instance_that_is_being_stopped_gets_no_more(one: Bench) -> None:
    pool = one.ready().pool
    (fake,) = pool.fakes
    pool.run([one.asker.work()])
    stopping = asyncio.create_task(pool.stop(1.0))
    await until(lambda: fake.state is WorkerState.STOPPING)

    fake.finishes()

    assert (pool.idle, pool.spare) == (0, 0)
    assert await stopping is True
    assert len(one.asker.responses) == 1


async def test_requests_of_a_model_that_is_unloaded_are_answered_and_never_run_again(
    two: Bench,
) -> None:
    pool = two.ready().pool
    pool.run([two.asker.work()])

    assert await pool.stop(1.0) is True

    assert two.feeder.first == []
    (response,) = two.asker.responses
    assert response.error is not None
    assert response.error.message.endswith("was lost: the model was unloaded")


async def test_a_model_that_had_to_be_killed_is_told(two: Bench) -> None:
    two.ready().pool.fakes[1].finalizes = False

    assert await two.pool.stop(1.0) is False


async def test_a_pool_that_never_started_stops(two: Bench) -> None:
    assert await two.pool.stop(1.0) is True
    assert two.feeder.failed == []


# --- counting ---------------------------------------------------------------------------------


async def test_an_execution_counts_the_requests_that_succeeded(one: Bench) -> None:
    good, bad = one.asker.work(), one.asker.work(identity_request(id="bad"))
    good.request.batch_size = 3
    good.enqueued_ns = 100
    message = Executed(
        1,
        1100,
        1200,
        1500,
        1510,
        [Response(good.key, []), Response(bad.key, [], True, Error("INTERNAL", "no"))],
    )

    one.pool.executed([good, bad], message)

    snapshot = one.statistics.snapshot()
    assert (snapshot.inference_count, snapshot.execution_count) == (3, 1)
    assert snapshot.inference_stats.queue.ns == 1000
    assert snapshot.inference_stats.compute_input.ns == 100
    assert snapshot.inference_stats.compute_infer.ns == 300
    assert snapshot.inference_stats.compute_output.ns == 10


async def test_an_execution_in_which_all_failed_counts_and_its_requests_do_not(one: Bench) -> None:
    work = one.asker.work()
    failed = Response(work.key, [], True, Error("INTERNAL", "no"))

    one.pool.executed([work], Executed(1, 1, 2, 3, 4, [failed]))

    snapshot = one.statistics.snapshot()
    assert (snapshot.inference_count, snapshot.execution_count) == (0, 1)
    assert [(batch.batch_size, batch.compute_infer.count) for batch in snapshot.batch_stats] == [
        (1, 1)
    ]
    assert snapshot.inference_stats.queue.count == 0
    assert snapshot.last_inference > 0


async def test_an_error_that_the_model_meant_to_answer_counts_as_an_inference(one: Bench) -> None:
    work = one.asker.work()
    meant = Response(work.key, [], True, Error("INTERNAL", "no"), deliberate=True)

    one.pool.executed([work], Executed(1, 1, 2, 3, 4, [meant]))

    snapshot = one.statistics.snapshot()
    assert (snapshot.inference_count, snapshot.execution_count) == (1, 1)


async def test_responses_are_counted_by_index_from_the_end_of_the_one_before(one: Bench) -> None:
    work = one.asker.work()
    output = Tensor("y", "FP32", (1,), memoryview(b"0000"))

    one.pool.responded(work, Responded(Response(work.key, [output], False), 100, 110, 115))
    work.responses = 1
    failed = Response(work.key, [], False, Error("INTERNAL", "no"))
    one.pool.responded(work, Responded(failed, 100, 135, 140))
    work.responses = 2
    one.pool.responded(work, Responded(Response(work.key, []), 100, 150, 150))

    first, second, third = one.statistics.snapshot().response_stats.values()
    assert first.success == Duration(1, 15)
    assert (first.compute_infer, first.compute_output) == (Duration(1, 10), Duration(1, 5))
    assert second.fail == Duration(1, 25)
    assert third.empty_response == Duration(1, 10)


async def test_the_end_of_a_cancelled_request_counts_as_cancelled(one: Bench) -> None:
    work = one.asker.work()
    work.cancelled = True

    one.pool.responded(work, Responded(Response(work.key, []), 100, 150, 150))

    assert one.statistics.snapshot().response_stats["0"].cancel == Duration(1, 50)


# --- other instances --------------------------------------------------------------------------


async def test_instances_that_are_added_serve_beside_the_others(one: Bench) -> None:
    pool = one.ready().pool
    await pool.add([recipe(one.inputs, name="m_1")], "{}")
    assert [instance.name for instance in pool.instances] == ["m_0", "m_1"]
    assert pool.idle == 2
    assert pool.cpu_instances == 2
    assert one.feeder.pumps


async def test_instances_that_cannot_be_added_leave_nothing(one: Bench) -> None:
    pool = one.ready().pool
    pool.fails = InternalError("it will not")
    with pytest.raises(InternalError, match="it will not"):
        await pool.add([recipe(one.inputs, name=f"m_{number}") for number in (1, 2)], "{}")
    assert [instance.name for instance in pool.instances] == ["m_0"]
    assert pool.idle == 1


async def test_an_instance_that_leaves_answers_first_and_gets_no_more(two: Bench) -> None:
    pool = two.ready().pool
    pool.run([two.asker.work()])  # the last idle one takes it: m_1
    busy = pool.fakes[1]
    pool.set_aside([busy])
    assert (pool.idle, pool.spare) == (1, 0)
    assert pool.staying == [pool.fakes[0]]

    removal = asyncio.ensure_future(pool.remove([busy], SOON, SOON))
    await asyncio.sleep(0)
    assert busy.state is WorkerState.READY
    busy.finishes()
    await removal

    assert (await two.asker.answers(1))[0].error is None
    assert busy.state.name == "EXITED"
    assert pool.instances == [pool.fakes[0]]
    assert (pool.idle, pool.spare) == (1, 0)


async def test_what_an_instance_that_leaves_has_not_begun_is_for_the_others(two: Bench) -> None:
    pool = two.ready().pool
    works = [two.asker.work() for _ in range(4)]
    for work in works:
        pool.run([work])
    leaving, other = pool.fakes[1], pool.fakes[0]

    pool.set_aside([leaving])

    assert two.feeder.first == [works[2]]
    assert (leaving.load, other.load, pool.idle, pool.spare) == (1, 2, 0, 0)


async def test_an_instance_that_comes_back_while_it_leaves_gets_nothing(two: Bench) -> None:
    pool = two.ready().pool
    gone = pool.fakes[1]
    gone.dies()
    pool.set_aside([gone])
    gone.becomes_ready()
    assert pool.idle == 1


async def test_an_instance_that_takes_too_long_to_answer_is_ended(two: Bench) -> None:
    pool = two.ready().pool
    pool.run([two.asker.work()])
    pool.set_aside([pool.fakes[1]])
    await pool.remove([pool.fakes[1]], 0.0, SOON)
    (answer,) = await two.asker.answers(1)
    assert isinstance(answer.error, UnavailableError)


# --- several batches at once ----------------------------------------------------------------------


@pytest.fixture
def several() -> Iterator[Bench]:
    """Two instances that execute two batches at once."""
    bench = Bench(2, concurrency=2)
    yield bench
    bench.inputs.close()


async def test_an_instance_gets_as_many_batches_as_it_executes_at_once_and_none_ahead(
    several: Bench,
) -> None:
    pool = several.ready().pool
    rooms: list[tuple[int, int]] = [(pool.idle, pool.spare)]
    for _ in range(4):
        pool.run([several.asker.work()])
        rooms.append((pool.idle, pool.spare))

    assert rooms == [(2, 0), (2, 0), (2, 0), (1, 0), (0, 0)]
    assert [fake.load for fake in pool.fakes] == [2, 2]


async def test_the_instance_that_has_less_to_do_gets_the_next_batch(several: Bench) -> None:
    pool = several.ready().pool
    pool.run([several.asker.work()])
    pool.run([several.asker.work()])

    assert [fake.load for fake in pool.fakes] == [1, 1]
    pool.fakes[0].finishes()
    pool.run([several.asker.work()])
    assert [fake.load for fake in pool.fakes] == [1, 1]


async def test_an_instance_has_room_again_with_each_batch_that_ends_in_any_order(
    several: Bench,
) -> None:
    pool = several.ready().pool
    works = [several.asker.work(id=str(number)) for number in range(4)]
    for work in works:
        pool.run([work])
    first = pool.fakes[0]
    before = several.feeder.pumps

    first.finishes(which=1)
    rooms = [pool.idle]
    first.finishes()
    rooms.append(pool.idle)

    assert rooms == [1, 1]
    assert several.feeder.pumps == before + 2
    assert [one.id for one in several.asker.responses] == ["3", "1"]


def scheduled(bench: Bench, rules: QueueRules | None = None, *, ordered: bool) -> DynamicScheduler:
    """The dynamic scheduler, without batching, in front of the pool."""
    scheduler = DynamicScheduler("m", 1, Policy(), bench.pool, rules, preserve_ordering=ordered)
    bench.pool.goes_live(scheduler)
    return scheduler


async def test_answers_can_be_kept_in_order_whichever_batch_ends_first(anyio_backend: str) -> None:
    bench = Bench(1, concurrency=3)
    scheduler = scheduled(bench, ordered=True)
    for name in "abc":
        scheduler.enqueue(bench.asker.work(id=name))
    fake = bench.pool.fakes[0]
    assert fake.load == 3

    fake.finishes(which=2)
    fake.finishes(which=1)
    assert bench.asker.responses == []
    fake.finishes()

    assert [response.id for response in bench.asker.responses] == ["a", "b", "c"]
    scheduler.close()
    bench.inputs.close()


async def test_the_first_priority_gets_the_room_that_a_batch_leaves(anyio_backend: str) -> None:
    bench = Bench(1, concurrency=2)
    rules = QueueRules((LevelPolicy(), LevelPolicy()), 2)
    scheduler = scheduled(bench, rules, ordered=False)
    works = [bench.asker.work(id=name) for name in ("x", "y", "late", "first")]
    works[3].request.priority = 1
    for work in works:
        scheduler.enqueue(work)
    fake = bench.pool.fakes[0]

    fake.finishes(which=1)

    assert [[work.request.id for work in batch] for batch in fake.batches] == [["x"], ["first"]]
    fake.finishes()
    assert [[work.request.id for work in batch] for batch in fake.batches] == [["first"], ["late"]]
    scheduler.close()
    bench.inputs.close()


async def test_all_batches_of_an_instance_that_dies_are_answered(several: Bench) -> None:
    pool = several.ready().pool
    for fake in pool.fakes:
        fake.is_pure = False
    for number in range(4):
        pool.run([several.asker.work(id=str(number))])

    pool.fakes[1].dies()

    assert [one.id for one in several.asker.responses] == ["2", "0"]
    assert all(isinstance(one.error, UnavailableError) for one in several.asker.responses)
    assert pool.idle == 0
    pool.fakes[1].becomes_ready()
    assert pool.idle == 1


async def test_a_turn_is_for_one_batch(anyio_backend: str) -> None:
    bench = Bench(1, concurrency=4, turns=Turns())
    pool = bench.ready().pool
    assert pool.admits()

    pool.run([bench.asker.work()])

    assert (pool.idle, pool.spare) == (0, 0)
    pool.fakes[0].finishes()
    assert pool.idle == 1
    bench.inputs.close()


async def test_an_instance_that_leaves_gets_no_more_and_answers_all_that_it_has(
    several: Bench,
) -> None:
    pool = several.ready().pool
    for _ in range(4):
        pool.run([several.asker.work()])
    leaving = pool.fakes[0]
    pool.set_aside([leaving])
    removed = asyncio.ensure_future(pool.remove([leaving], SOON, SOON))

    leaving.finishes()
    await asyncio.sleep(0)
    assert (pool.idle, removed.done()) == (0, False)
    leaving.finishes()
    await removed

    assert pool.instances == [pool.fakes[1]]
    assert len(several.asker.responses) == 2


# --- schedulers that choose instances -------------------------------------------------------------


class Watcher:
    """Notes what it is told of instances."""

    def __init__(self) -> None:
        self.ready: list[Seat] = []
        self.lost: list[tuple[Seat, str]] = []
        self.executions: list[tuple[list[Work], list[int]]] = []

    def instance_ready(self, seat: Seat) -> None:
        self.ready.append(seat)

    def instance_lost(self, seat: Seat, reason: str) -> None:
        self.lost.append((seat, reason))

    def executed(self, batch: Sequence[Work], rescheduled: Collection[int]) -> None:
        self.executions.append((list(batch), list(rescheduled)))


@pytest.fixture
def watched(two: Bench) -> tuple[Bench, Watcher]:
    watcher = Watcher()
    two.pool.watcher = watcher
    two.ready()
    return two, watcher


async def test_a_scheduler_can_choose_the_instance(watched: tuple[Bench, Watcher]) -> None:
    (bench, watcher), pool = watched, watched[0].pool
    first, second = pool.fakes
    assert watcher.ready == [first, second]
    assert pool.is_idle(first)

    pool.run_on(first, [bench.asker.work()])

    assert (first.load, second.load) == (1, 0)
    assert not pool.is_idle(first)
    assert pool.is_idle(second)
    first.finishes()
    assert pool.is_idle(first)


async def test_a_batch_for_an_instance_that_cannot_be_sent_is_over(
    watched: tuple[Bench, Watcher],
) -> None:
    (bench, watcher), pool = watched, watched[0].pool
    pool.fakes[0].refuses = OverflowError("too big")
    work = bench.asker.work()

    pool.run_on(pool.fakes[0], [work])
    await bench.asker.answers(1)

    assert watcher.executions == [([work], [])]
    assert pool.is_idle(pool.fakes[0])


async def test_a_request_of_a_sequence_is_not_run_again(watched: tuple[Bench, Watcher]) -> None:
    (bench, watcher), pool = watched, watched[0].pool
    work = bench.asker.work()
    work.step = SequenceStep(0, 0, [])
    pool.run_on(pool.fakes[1], [work])

    pool.fakes[1].dies(reason="killed")

    assert watcher.lost == [(pool.fakes[1], "killed")]
    assert bench.feeder.first == []
    assert isinstance(bench.asker.responses[0].error, UnavailableError)


async def test_an_instance_that_is_set_aside_is_lost_to_its_sequences(
    watched: tuple[Bench, Watcher],
) -> None:
    (_, watcher), pool = watched, watched[0].pool

    pool.set_aside([pool.fakes[0]])

    assert watcher.lost == [
        (pool.fakes[0], "model instance 'm_0' was taken out of service"),
    ]


async def test_who_wants_to_run_again_is_told_to_the_scheduler(
    watched: tuple[Bench, Watcher],
) -> None:
    (bench, watcher), pool = watched, watched[0].pool
    work = bench.asker.work()

    pool.executed([work], Executed(1, 1, 2, 3, 4, [], [work.key]))

    assert watcher.executions == [([work], [work.key])]
    assert bench.asker.responses == []


async def test_without_such_a_scheduler_nobody_runs_again(one: Bench) -> None:
    work, other = one.asker.work(id="r"), one.asker.work()

    one.pool.executed([work, other], Executed(1, 1, 2, 3, 4, [], [work.key]))

    (response,) = one.asker.responses
    assert isinstance(response.error, InternalError)
    assert response.error.message == (
        "[request id: r] Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while "
        "the model is not configured to handle such a flag"
    )


# --- readiness --------------------------------------------------------------------------------


async def test_a_pool_is_ready_when_all_models_that_are_up_say_so(two: Bench) -> None:
    assert not await two.pool.check_ready()
    two.ready()
    assert await two.pool.check_ready()

    two.pool.fakes[1].says_ready = False
    assert not await two.pool.check_ready()

    two.pool.fakes[1].dies()
    assert await two.pool.check_ready()
