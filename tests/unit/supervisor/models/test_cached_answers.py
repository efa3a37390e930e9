"""The response cache at a version's door, on instances that have no process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest
from support.fakes import Served, fp32, identity_config, identity_request, serve, until

from tritonpy.ipc.errors import (
    CancelledError,
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from tritonpy.ipc.tensor import Region, Tensor
from tritonpy.supervisor.cache.cache import THREAD_LIMIT_BYTES, CachedAnswer
from tritonpy.supervisor.cache.local import LocalCache
from tritonpy.supervisor.config.schema import ModelConfig, ModelDynamicBatching
from tritonpy.supervisor.request import InferRequest, InferResponse
from tritonpy.supervisor.telemetry.statistics import InferStatistics
from tritonpy.supervisor.workers.states import WorkerState

pytestmark = pytest.mark.anyio

Serve = Callable[..., Served]


class SlowCache(LocalCache):
    """A cache that answers when the test says so."""

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self.go_on = asyncio.Event()
        self.breaks = False

    async def lookup(self, key: bytes) -> CachedAnswer | None:
        await self.go_on.wait()
        if self.breaks:
            raise ZeroDivisionError("oops")
        return await super().lookup(key)


@pytest.fixture
async def make(anyio_backend: str) -> AsyncIterator[Serve]:
    made: list[Served] = []

    def serve_one(config: ModelConfig | None = None, **more: object) -> Served:
        made.append(serve(config, **more))  # type: ignore[arg-type]
        return made[-1]

    yield serve_one
    for served in made:
        await served.version.close(1.0)


@pytest.fixture
def served(make: Serve) -> Served:
    return make(cache=LocalCache(1 << 20))


def submit(served: Served, request: InferRequest | None = None) -> list[InferResponse]:
    responses: list[InferResponse] = []
    served.version.submit(request or identity_request(), responses.append)
    return responses


async def ask(served: Served, request: InferRequest | None = None) -> InferResponse:
    """Ask, and have the instance answer if it is asked."""
    (fake,) = served.pool.fakes
    responses = submit(served, request)
    await until(lambda: bool(responses or fake.batches))
    if not responses:
        fake.finishes(fp32("OUTPUT0"))
    (response,) = responses
    await asyncio.sleep(0)  # the answer is kept in the next turn of the loop
    return response


def counts(served: Served) -> dict[str, int]:
    stats: InferStatistics = served.version.snapshot().inference_stats
    return {
        name: getattr(stats, name).count
        for name in ("success", "fail", "queue", "cache_hit", "cache_miss")
    }


def data_of(response: InferResponse) -> bytes:
    (tensor,) = response.outputs
    assert isinstance(tensor.data, memoryview)
    return bytes(tensor.data)


async def test_the_second_of_two_equal_requests_is_answered_without_running(served: Served) -> None:
    first = await ask(served, identity_request(id="a"))
    assert first.kept, "the cache reads it still"
    second = await ask(served, identity_request(id="b"))

    assert served.pool.fakes[0].batches == []
    assert data_of(first) == data_of(second)
    assert (second.id, second.model, second.version, second.final) == ("b", "m", 1, True)
    assert counts(served) == {
        "success": 2, "fail": 0, "queue": 1, "cache_hit": 1, "cache_miss": 1,
    }  # fmt: skip
    assert served.version.running == 0


async def test_a_request_is_never_answered_before_it_is_accepted(served: Served) -> None:
    await ask(served)
    responses = submit(served)
    assert responses == []
    assert served.version.running == 1
    await until(lambda: bool(responses))


async def test_what_clients_do_with_an_answer_does_not_change_the_kept_one(served: Served) -> None:
    await ask(served)
    for _ in range(2):
        response = await ask(served)
        assert [tensor.name for tensor in response.outputs] == ["OUTPUT0"]
        response.outputs[0].name = "OTHER"
        response.outputs.clear()
        response.parameters["x"] = 1
    assert (await ask(served)).parameters == {}


async def test_classes_put_in_place_of_an_output_are_not_what_is_kept(served: Served) -> None:
    responses: list[InferResponse] = []

    def take(response: InferResponse) -> None:
        response.outputs[:] = [fp32("CLASSES")]
        responses.append(response)

    served.version.submit(identity_request(), take)
    await until(lambda: bool(served.pool.fakes[0].batches))
    served.pool.fakes[0].finishes(fp32("OUTPUT0"))
    await asyncio.sleep(0)

    (tensor,) = (await ask(served)).outputs
    assert tensor.name == "OUTPUT0"


async def test_an_error_is_not_kept(served: Served) -> None:
    for _ in range(2):
        responses = submit(served)
        await until(lambda: bool(served.pool.fakes[0].batches))
        served.pool.fakes[0].finishes(error=InternalError("it broke"))
        await asyncio.sleep(0)
        assert isinstance(responses[0].error, InternalError)
    assert counts(served)["cache_miss"] == 2


async def test_other_bytes_are_another_request(served: Served) -> None:
    await ask(served)
    other = InferRequest("m", None, [fp32("INPUT0", 5)])
    submit(served, other)
    await until(lambda: bool(served.pool.fakes[0].batches))


@pytest.mark.parametrize("generation", [b"one", b"two"])
async def test_a_reloaded_model_answers_from_the_cache_only_if_it_is_the_same(
    make: Serve, generation: bytes
) -> None:
    cache = LocalCache(1 << 20)
    old, new = make(cache=cache, generation=b"one"), make(cache=cache, generation=generation)
    await ask(old)
    responses = submit(new)
    await until(lambda: bool(responses or new.pool.fakes[0].batches))
    assert bool(responses) == (generation == b"one")


async def test_large_inputs_in_shared_memory_are_looked_up_by_their_bytes(served: Served) -> None:
    count = THREAD_LIMIT_BYTES // 4 + 1
    content = np.arange(count, dtype=np.float32).tobytes()

    def large(data: bytes) -> InferRequest:
        lease = served.version.lease(len(data))
        lease.write(0, data)
        tensor = Tensor("INPUT0", "FP32", (count,), lease.span(0, len(data)))
        return InferRequest("m", None, [tensor], leases=[lease])

    await ask(served, large(content))
    await ask(served, large(content))
    assert counts(served)["cache_hit"] == 1
    await ask(served, large(content[4:] + content[:4]))
    assert counts(served)["cache_hit"] == 1
    assert served.inputs.leases == 0


async def test_tensors_in_a_clients_region_are_not_looked_up(served: Served) -> None:
    class Use:
        number = 1

        def release(self) -> None: ...
        def show_to(self, worker: object) -> None: ...
        def share(self) -> Use:
            return self

    for _ in range(2):
        request = InferRequest("m", None, [Tensor("INPUT0", "FP32", (4,), Region(1, 0, 16))])
        request.regions.append(Use())
        responses = submit(served, request)
        served.pool.fakes[0].finishes(fp32("OUTPUT0"))
        assert responses[0].error is None
    assert counts(served) == {
        "success": 2, "fail": 0, "queue": 0, "cache_hit": 0, "cache_miss": 0,
    }  # fmt: skip


async def test_a_wrong_request_is_refused_at_the_door(served: Served) -> None:
    with pytest.raises(InvalidArgumentError):
        submit(served, InferRequest("m", None, [fp32("X")]))
    assert counts(served)["cache_miss"] == 0


async def test_what_is_kept_is_answered_also_when_no_instance_runs(served: Served) -> None:
    await ask(served)
    served.pool.fakes[0].dies(WorkerState.FATAL, "it crashed")

    assert (await ask(served)).error is None
    (response,) = await answered(submit(served, InferRequest("m", None, [fp32("INPUT0", 5)])))

    assert isinstance(response.error, UnavailableError)
    assert "it crashed" in response.error.message
    assert served.version.snapshot().failures["REJECTED"] == 1
    assert served.version.running == 0


async def answered(responses: list[InferResponse]) -> list[InferResponse]:
    await until(lambda: bool(responses))
    return responses


async def test_a_request_is_cancelled_while_it_is_looked_up(make: Serve) -> None:
    cache = SlowCache()
    served = make(cache=cache)
    responses: list[InferResponse] = []
    work = served.version.submit(identity_request(), responses.append)

    served.version.cancel(work)
    cache.go_on.set()

    assert isinstance((await answered(responses))[0].error, CancelledError)
    assert served.version.snapshot().failures["CANCELED"] == 1


@pytest.mark.parametrize("turns", [0, 3])
async def test_what_is_looked_up_when_the_model_is_closed_is_answered(
    make: Serve, turns: int
) -> None:
    served = make(cache=SlowCache())
    responses = submit(served)
    for _ in range(turns):
        await asyncio.sleep(0)

    await served.version.close(1.0)

    assert isinstance(responses[0].error, UnavailableError)
    assert served.version.running == 0
    with pytest.raises(UnavailableError):
        submit(served)


async def test_a_fault_of_the_cache_costs_nobody_an_answer(
    make: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    cache = SlowCache()
    cache.breaks = True
    cache.go_on.set()
    served = make(cache=cache)
    assert (await ask(served)).error is None
    assert "looking up an answer failed" in caplog.text


async def test_retiring_waits_for_what_is_looked_up(make: Serve) -> None:
    cache = SlowCache()
    served = make(cache=cache)
    responses = submit(served)
    retiring: Awaitable[bool] = asyncio.create_task(served.version.retire(60.0, 1.0))
    for _ in range(3):
        await asyncio.sleep(0)

    cache.go_on.set()
    await until(lambda: bool(served.pool.fakes[0].batches))
    served.pool.fakes[0].finishes(fp32("OUTPUT0"))

    assert await retiring is True
    assert responses[0].error is None


async def test_with_kept_order_a_hit_waits_for_those_that_run(make: Serve) -> None:
    config = identity_config(
        max_batch_size=0, dynamic_batching=ModelDynamicBatching(preserve_ordering=True)
    )
    served = make(config, cache=LocalCache(1 << 20))
    await ask(served)
    order: list[str] = []

    def asked(name: str, count: int) -> None:
        request = InferRequest("m", None, [fp32("INPUT0", count)])
        served.version.submit(request, lambda _response: order.append(name))

    asked("runs", 5)
    await until(lambda: bool(served.pool.fakes[0].batches))
    asked("hit", 4)
    await until(lambda: counts(served)["cache_hit"] == 1)
    assert order == []

    served.pool.fakes[0].finishes(fp32("OUTPUT0"))

    assert order == ["runs", "hit"]
