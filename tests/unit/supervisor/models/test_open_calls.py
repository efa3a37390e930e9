"""Calls that would never be answered are refused, whatever has become of those before them."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest
from support.fakes import Served, fp32, identity_config, identity_request, serve, until

from tritonpy.ipc.errors import InternalError, NotFoundError
from tritonpy.supervisor.config.schema import (
    EnsembleStep,
    ModelConfig,
    ModelEnsembling,
    ModelInput,
    ModelOutput,
    ModelSequenceBatching,
)
from tritonpy.supervisor.memory.buffers import InputArena
from tritonpy.supervisor.models.ensembles import serve_ensemble
from tritonpy.supervisor.models.model import ServedVersion
from tritonpy.supervisor.models.open_calls import OpenCalls
from tritonpy.supervisor.request import InferRequest, InferResponse
from tritonpy.supervisor.scheduling.rate_limiter import Demand
from tritonpy.supervisor.scheduling.scheduler import Work
from tritonpy.supervisor.telemetry.statistics import VersionStatistics
from tritonpy.supervisor.workers.calls import ModelCall
from tritonpy.supervisor.workers.states import WorkerState
from tritonpy.supervisor.workers.turns import Turns

pytestmark = pytest.mark.anyio


class Bench:
    """Versions, and the calls that are open among them."""

    def __init__(self) -> None:
        self.calls = OpenCalls()
        self.made: list[Served] = []
        self.ensembles: list[ServedVersion] = []
        self._number = 0

    def serve(
        self, name: str = "a", instances: int = 1, config: ModelConfig | None = None
    ) -> Served:
        made = serve(config or identity_config(name), instances=instances)
        self.made.append(made)
        return made

    def find(self, model: str, version: int | None, home: str) -> ServedVersion:
        for made in self.made:
            if made.version.name == model:
                return made.version
        raise NotFoundError(model)

    def ensemble(self, *names: str) -> ServedVersion:
        """The models one after the other."""
        tensors = ["INPUT0", *(f"t{n}" for n in range(1, len(names))), "OUTPUT0"]
        steps = [
            EnsembleStep(
                model_name=name,
                input_map={"INPUT0": tensors[n]},
                output_map={"OUTPUT0": tensors[n + 1]},
            )
            for n, name in enumerate(names)
        ]
        config = ModelConfig(
            name="over",
            platform="ensemble",
            input=[ModelInput(name="INPUT0", data_type="TYPE_FP32", dims=[-1])],
            output=[ModelOutput(name="OUTPUT0", data_type="TYPE_FP32", dims=[-1])],
            ensemble_scheduling=ModelEnsembling(step=steps),
        )
        inputs = InputArena(1, 1 << 20, "over")
        statistics = VersionStatistics("over", 1)
        made = serve_ensemble(config, 1, "", self.find, inputs, statistics, {})
        self.ensembles.append(made)
        return made

    async def execute(self, served: Served, call: ModelCall | None = None) -> Work:
        """Have an instance of it execute a request, maybe that of a call."""
        request = identity_request(served.version.name) if call is None else call.request
        work = served.version.submit(request, lambda _: None)
        await until(
            lambda: any(work in batch for fake in served.pool.fakes for batch in fake.batches)
        )
        if call is not None:
            call.work = work
        return work

    def call(
        self, served: Served | ServedVersion, by: Work | None, of: Served | None = None,
        *, waits: bool = True, **more: object,
    ) -> ModelCall:  # fmt: skip
        """A call of a version by the execution of a request, for which it has to wait."""
        version = served.version if isinstance(served, Served) else served
        self._number += 1
        request = InferRequest(version.name, None, [fp32("INPUT0")], **more)  # type: ignore[arg-type]
        call = ModelCall(self._number, request, False, _nobody)
        request.call = call
        if by is not None:
            assert of is not None
            call.serves = by.request.call
            found = [fake.execution_of(by) for fake in of.pool.fakes]
            call.execution = next((one for one in found if one is not None and waits), None)
        self.calls.add(call, version)
        return call

    async def close(self) -> None:
        for ensemble in self.ensembles:
            await ensemble.close(1.0)
        for served in self.made:
            for fake in served.pool.fakes:
                fake.executed.clear()
            await served.version.close(1.0)


def _nobody(_response: InferResponse) -> None:
    """Who waits for an answer here."""


@pytest.fixture
async def bench(anyio_backend: str) -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.close()


async def test_the_only_instance_cannot_call_its_own_model(bench: Bench) -> None:
    a = bench.serve()
    work = await bench.execute(a)

    with pytest.raises(InternalError, match=r"every instance of model 'a' version 1.* wait"):
        bench.call(a, work, a)
    assert len(bench.calls) == 0, "what is refused is not open"


async def test_another_instance_may_answer_be_it_later(bench: Bench) -> None:
    a = bench.serve(instances=2)
    work = await bench.execute(a)
    bench.call(a, work, a)
    other = await bench.execute(a)  # computes, and will end
    bench.call(a, work, a)

    with pytest.raises(InternalError, match="wait for ever"):
        bench.call(a, other, a)


async def test_a_call_that_nobody_waits_for_is_not_refused(bench: Bench) -> None:
    a = bench.serve()
    work = await bench.execute(a)

    bench.call(a, work, a, waits=False)
    bench.call(a, None)


async def test_an_execution_that_has_ended_waits_for_nothing(bench: Bench) -> None:
    a, b = bench.serve("a"), bench.serve("b")
    work = await bench.execute(a)
    forgotten = bench.call(b, work, a)
    await bench.execute(b, forgotten)
    a.pool.fakes[0].finishes()

    later = await bench.execute(a)
    bench.call(b, later, a)


async def test_a_circle_is_found_where_calls_execute_and_where_they_wait(bench: Bench) -> None:
    a, b, c = (bench.serve(name) for name in "abc")
    first = await bench.execute(a)
    executing = await bench.execute(b, bench.call(b, first, a))
    busy = await bench.execute(c)
    bench.call(c, executing, b)  # waits until the other request is executed

    with pytest.raises(InternalError, match="model 'a'"):
        bench.call(a, busy, c)
    bench.call(c, first, a)


async def test_what_was_sent_ahead_still_waits(bench: Bench) -> None:
    a, b = bench.serve("a"), bench.serve("b")
    first, busy = await bench.execute(a), await bench.execute(b)
    await bench.execute(b, bench.call(b, first, a))
    assert len(b.pool.fakes[0].batches) == 2

    with pytest.raises(InternalError, match="model 'a'"):
        bench.call(a, busy, b)


async def test_the_answer_of_a_decoupled_model_may_wait_when_its_execution_has_ended(
    bench: Bench,
) -> None:
    a, b = bench.serve("a"), bench.serve("b")
    first = await bench.execute(a)
    work = await bench.execute(b, bench.call(b, first, a))
    fake = b.pool.fakes[0]
    fake.executed = fake.batches.pop()

    bench.call(b, work, b, waits=False)
    with pytest.raises(InternalError, match="model 'a'"):
        bench.call(a, work, b, waits=False)


async def test_an_ensemble_needs_all_of_its_models(bench: Bench) -> None:
    a, b = bench.serve("a"), bench.serve("b")
    bench.serve("c")
    work = await bench.execute(a)
    bench.call(bench.ensemble("b", "c"), work, a)

    with pytest.raises(InternalError, match="or of a model in it"):
        bench.call(bench.ensemble("b", "a"), work, a)
    assert b.pool.fakes[0].batches == []


async def test_a_step_that_calls_waits_for_its_ensemble(bench: Bench) -> None:
    a, b = bench.serve("a"), bench.serve("b")
    work = await bench.execute(a)
    over = bench.ensemble("b")
    call = bench.call(over, work, a)
    call.work = over.submit(call.request, lambda _: None)
    step = b.pool.fakes[0]
    await until(lambda: bool(step.batches))
    assert step.batches[0][0].request.call is call

    with pytest.raises(InternalError, match="model 'a'"):
        bench.call(a, step.batches[0][0], b)


async def test_a_sequence_can_run_at_its_own_instance_only(bench: Bench) -> None:
    config = identity_config("a", sequence_batching=ModelSequenceBatching())
    a = bench.serve(instances=2, config=config)
    request = identity_request("a")
    request.correlation_id, request.flags = 5, 1
    work = a.version.submit(request, lambda _: None)
    await until(lambda: any(fake.batches for fake in a.pool.fakes))

    bench.call(a, work, a, correlation_id=6, flags=1)
    with pytest.raises(InternalError, match="model 'a'"):
        bench.call(a, work, a, correlation_id=5)


async def test_an_instance_that_comes_back_will_take_it(bench: Bench) -> None:
    a = bench.serve(instances=2)
    work = await bench.execute(a)
    lost = next(fake for fake in a.pool.fakes if not fake.batches)
    lost.dies()
    bench.call(a, work, a)
    lost.dies(WorkerState.FATAL)

    with pytest.raises(InternalError, match="model 'a'"):
        bench.call(a, work, a)


async def test_resources_that_a_waiting_instance_holds_are_not_to_be_had(bench: Bench) -> None:
    turns = Turns()
    a, b, c = (bench.serve(name) for name in "abc")
    for served, count in ((a, 1), (b, 1), (c, 0)):
        (fake,) = served.pool.fakes
        fake._recipe = dataclasses.replace(fake.recipe, demand=Demand({("R", 0): count}))
        served.pool.turns = turns
        turns.join(fake, served.pool)
    work = await bench.execute(a)

    bench.call(c, work, a)
    with pytest.raises(InternalError, match="model 'b'"):
        bench.call(b, work, a)
