"""The one door for inference, in front of versions whose instances have no process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import numpy as np
import pytest
from support.fakes import Served, fp32, identity_config, identity_request, serve, until

from tritonpy.ipc.errors import (
    CancelledError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    StatusError,
    UnavailableError,
    UnsupportedError,
)
from tritonpy.ipc.tensor import Region, Span, Tensor, decode_bytes
from tritonpy.supervisor import dataplane
from tritonpy.supervisor.config.schema import ModelConfig, ModelTransactionPolicy
from tritonpy.supervisor.dataplane import DataPlane
from tritonpy.supervisor.memory.buffers import InputArena
from tritonpy.supervisor.memory.lending import lend
from tritonpy.supervisor.models.model import ServedVersion
from tritonpy.supervisor.models.traffic import Shadow, ShadowRule
from tritonpy.supervisor.request import InferRequest, InferResponse, RequestedOutput
from tritonpy.supervisor.scheduling.scheduler import Work
from tritonpy.supervisor.workers.states import WorkerState

pytestmark = pytest.mark.anyio


class Bench:
    """A data plane over versions that the test makes."""

    def __init__(self) -> None:
        self.serving: dict[str, Served] = {}
        self.made: list[Served] = []
        self.plane = DataPlane(self)

    def labelled(self, model: str, label: str) -> int | None:
        return None

    def route(self, request: InferRequest) -> None:
        """Nothing is split here."""

    def version(self, model: str, version: int | None) -> ServedVersion:
        """The seam: where the data plane finds versions."""
        if model not in self.serving:
            raise NotFoundError(f"Request for unknown model: '{model}' is not found")
        return self.serving[model].version

    def serve(
        self, config: ModelConfig | None = None, labels: Mapping[str, list[str]] | None = None
    ) -> Served:
        made = serve(config)
        made.version.labels = labels or {}
        self.serving[made.version.name] = made
        self.made.append(made)
        return made


@pytest.fixture
async def bench(anyio_backend: str) -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    for served in made.made:
        await served.version.close(1.0)


def decoupled() -> ModelConfig:
    return identity_config(model_transaction_policy=ModelTransactionPolicy(decoupled=True))


async def running(served: Served) -> Work:
    """The request that the instance has."""
    (fake,) = served.pool.fakes
    await until(lambda: bool(fake.batches))
    return fake.batches[0][0]


def respond(work: Work, *outputs: Tensor, final: bool = True) -> None:
    work.answer(InferResponse("m", 1, work.request.id, list(outputs), final=final))


# --- one response -----------------------------------------------------------------------------


async def test_a_request_is_run_and_its_one_response_returned(bench: Bench) -> None:
    served = bench.serve()
    asking = asyncio.create_task(bench.plane.infer(identity_request(id="r1")))

    respond(await running(served), fp32("OUTPUT0"))

    response = await asking
    assert (response.id, response.final, response.error) == ("r1", True, None)
    assert [tensor.name for tensor in response.outputs] == ["OUTPUT0"]


async def test_the_models_error_is_raised(bench: Bench) -> None:
    served = bench.serve()
    asking = asyncio.create_task(bench.plane.infer(identity_request()))
    work = await running(served)

    work.answer(InferResponse("m", 1, "", error=InternalError("it broke")))

    with pytest.raises(InternalError, match="it broke"):
        await asking


async def test_an_unknown_model_and_a_wrong_request_are_refused_at_once(bench: Bench) -> None:
    bench.serve()
    with pytest.raises(NotFoundError, match="'nobody' is not found"):
        await bench.plane.infer(identity_request("nobody"))
    with pytest.raises(InvalidArgumentError, match="unexpected inference input 'X'"):
        await bench.plane.infer(InferRequest("m", None, [fp32("X")]))
    with pytest.raises(NotFoundError):
        bench.plane.stream(identity_request("nobody"), lambda _response: None)
    with pytest.raises(NotFoundError):
        bench.plane.config("nobody", None)
    with pytest.raises(NotFoundError):
        bench.plane.lease("nobody", None, 10)


async def test_a_model_with_many_responses_needs_a_stream(bench: Bench) -> None:
    served = bench.serve(decoupled())
    request = identity_request()
    request.leases.append(bench.plane.lease("m", None, 16))

    with pytest.raises(UnsupportedError, match="streaming call"):
        await bench.plane.infer(request)

    assert served.inputs.leases == 0


async def test_cancelling_whoever_waits_cancels_the_request(bench: Bench) -> None:
    served = bench.serve()
    asking = asyncio.create_task(bench.plane.infer(identity_request()))
    work = await running(served)

    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    assert asking.cancelled()
    assert served.pool.fakes[0].cancelled == [work]
    respond(work, fp32("OUTPUT0"))  # the model answers all the same, and nobody minds
    assert served.version.running == 0


async def test_cancelling_a_request_that_waits_drops_it(bench: Bench) -> None:
    served = bench.serve()
    tasks = [asyncio.create_task(bench.plane.infer(identity_request())) for _ in range(3)]
    await until(lambda: served.version.scheduler.queued == 1)

    tasks[2].cancel()
    await asyncio.gather(tasks[2], return_exceptions=True)

    assert served.version.scheduler.queued == 0
    for _ in range(2):
        served.pool.fakes[0].finishes()
    await asyncio.gather(*tasks[:2])


async def test_an_answer_that_comes_with_the_cancellation_is_dropped(bench: Bench) -> None:
    served = bench.serve()
    asking = asyncio.create_task(bench.plane.infer(identity_request()))
    respond(await running(served), fp32("OUTPUT0"))

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    assert served.version.running == 0


async def test_no_instance_is_a_503_and_the_memory_comes_back(bench: Bench) -> None:
    served = bench.serve()
    request = identity_request()
    request.leases.append(bench.plane.lease("m", None, 16))
    served.pool.fakes[0].dies(WorkerState.FATAL, "it crashed")

    with pytest.raises(UnavailableError, match="it crashed"):
        await bench.plane.infer(request)

    assert served.inputs.leases == 0


async def test_a_request_goes_where_its_bytes_are_even_after_a_reload(bench: Bench) -> None:
    old = bench.serve()
    request = identity_request()
    request.leases.append(bench.plane.lease("m", None, 16))
    new = bench.serve()

    asking = asyncio.create_task(bench.plane.infer(request))
    respond(await running(old), fp32("OUTPUT0"))
    await asking

    assert new.pool.fakes[0].batches == []
    assert old.inputs.leases == 0


async def test_an_empty_response_is_not_an_answer_before_the_final_one(bench: Bench) -> None:
    served = bench.serve()
    asking = asyncio.create_task(bench.plane.infer(identity_request()))
    work = await running(served)

    respond(work, final=False)
    respond(work, fp32("OUTPUT0"), final=False)
    respond(work)

    assert [tensor.name for tensor in (await asking).outputs] == ["OUTPUT0"]


async def test_what_the_configuration_says_is_what_is_served(bench: Bench) -> None:
    config = identity_config()
    bench.serve(config)
    assert bench.plane.config("m", 1) is config


# --- streams ----------------------------------------------------------------------------------


async def test_all_responses_of_a_stream_arrive_in_order(bench: Bench) -> None:
    served = bench.serve(decoupled())
    responses: list[InferResponse] = []
    bench.plane.stream(identity_request(id="s"), responses.append)
    work = await running(served)
    assert responses == []

    respond(work, fp32("OUTPUT0", 1), final=False)
    respond(work, fp32("OUTPUT0", 2), final=False)
    respond(work)

    assert [len(response.outputs) for response in responses] == [1, 1, 0]
    assert [response.final for response in responses] == [False, False, True]
    assert served.version.running == 0


async def test_a_stream_that_is_cancelled_still_gets_its_final_response(bench: Bench) -> None:
    served = bench.serve(decoupled())
    responses: list[InferResponse] = []
    streams = [bench.plane.stream(identity_request(), responses.append) for _ in range(3)]
    work = await running(served)

    for stream in streams:
        stream.cancel()

    # One was sent ahead, and one was queued.
    assert [type(response.error) for response in responses] == [CancelledError] * 2
    assert work in served.pool.fakes[0].cancelled
    served.pool.fakes[0].finishes()
    assert len(responses) == 3
    assert all(response.final for response in responses)


# --- classification ---------------------------------------------------------------------------


def classes(count: int) -> InferRequest:
    request = identity_request(id="c")
    request.outputs = [RequestedOutput("OUTPUT0", count)]
    return request


def texts(response: InferResponse) -> list[bytes]:
    (tensor,) = response.outputs
    data = tensor.data
    assert isinstance(data, memoryview)
    return list(decode_bytes(data, int(np.prod(tensor.shape))))


@pytest.mark.parametrize("streamed", [False, True], ids=["one response", "a stream"])
async def test_an_output_is_answered_as_its_best_classes(bench: Bench, streamed: bool) -> None:
    served = bench.serve(labels={"OUTPUT0": ["zero", "one"]})
    responses: list[InferResponse] = []
    asking: asyncio.Task[InferResponse] | None = None
    if streamed:
        bench.plane.stream(classes(3), responses.append)
    else:
        asking = asyncio.create_task(bench.plane.infer(classes(3)))
    respond(await running(served), fp32("OUTPUT0", 4))
    if asking is not None:
        responses.append(await asking)

    assert texts(responses[0]) == [b"3.000000:3", b"2.000000:2", b"1.000000:1:one"]


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (Tensor("OUTPUT0", "BYTES", (1,), memoryview(b"\0\0\0\0")), InvalidArgumentError),
        (Tensor("OUTPUT0", "FP32", (4,), memoryview(b"")), InternalError),
    ],
    ids=["a type that has no classes", "a model that lies about its output"],
)
async def test_an_output_that_cannot_be_classified_is_an_error(
    bench: Bench, output: Tensor, error: type[StatusError]
) -> None:
    served = bench.serve()
    responses: list[InferResponse] = []
    asking = asyncio.create_task(bench.plane.infer(classes(1)))
    respond(await running(served), output)
    with pytest.raises(error):
        await asking
    served.pool.fakes[0].batches.clear()
    served.pool.instance_freed(served.pool.fakes[0])

    bench.plane.stream(classes(1), responses.append)
    respond(await running(served), output)

    assert isinstance(responses[0].error, error)
    assert responses[0].outputs == []


async def test_a_fault_of_ours_in_classification_is_answered_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object, **_more: object) -> Tensor:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(dataplane, "classify", fail)
    served = bench.serve()
    responses: list[InferResponse] = []
    bench.plane.stream(classes(1), responses.append)

    respond(await running(served), fp32("OUTPUT0"))

    assert isinstance(responses[0].error, InternalError)
    assert "oops" not in responses[0].error.message
    assert "oops" in caplog.text


# --- shadows ----------------------------------------------------------------------------------


class Shadowed(Bench):
    """A data plane whose requests are copied for version 2 of model `m`."""

    def __init__(self) -> None:
        super().__init__()
        self.shadow = Shadow(ShadowRule("2"))
        self.first = serve(version=1)
        self.second = serve(version=2)
        self.made += [self.first, self.second]

    def route(self, request: InferRequest) -> None:
        request.version = 1
        request.shadows = [(2, self.shadow)]

    def version(self, model: str, version: int | None) -> ServedVersion:
        if version == 9:
            raise NotFoundError("gone")
        return (self.second if version == 2 else self.first).version


@pytest.fixture
async def shadowed(anyio_backend: str) -> AsyncIterator[Shadowed]:
    made = Shadowed()
    yield made
    for served in made.made:
        await served.version.close(1.0)


def leased(plane: DataPlane) -> InferRequest:
    """A routed request whose tensor lies in a lease."""
    request = identity_request()
    plane.route(request)
    lease = plane.lease("m", request.version, 16)
    lease.write(0, bytes(16))
    request.inputs[0].data = lease.span(0, 16)
    request.leases.append(lease)
    return request


async def test_memory_is_given_back_when_the_answer_and_the_copy_are_done(
    shadowed: Shadowed,
) -> None:
    responses: list[InferResponse] = []
    request = leased(shadowed.plane)
    shadowed.plane.stream(request, responses.append)
    (copy,) = shadowed.second.pool.fakes[0].batches[0]
    assert [tensor.data for tensor in copy.request.inputs] == [request.inputs[0].data]
    assert isinstance(request.inputs[0].data, Region)

    shadowed.first.pool.fakes[0].finishes(fp32("OUTPUT0"))
    assert len(responses) == 1
    assert shadowed.first.inputs.leases == 1
    shadowed.second.pool.fakes[0].finishes(fp32("OUTPUT0"))

    assert shadowed.first.inputs.leases == 0
    assert len(responses) == 1
    assert shadowed.shadow.statistics().success == 1


async def test_a_copy_reads_what_was_lent_to_the_request(shadowed: Shadowed) -> None:
    other = InputArena(7, 1 << 20, "the model that calls")
    lease = other.lease(16)
    lease.write(0, bytes(16))
    source, request = identity_request(), identity_request()
    source.leases.append(lease)
    request.inputs[0].data = lend(lease.span(0, 16), source, request)
    lease.release()
    shadowed.plane.stream(request, lambda _response: None)

    (copy,) = shadowed.second.pool.fakes[0].batches[0]
    assert [loan.span for loan in copy.request.loans] == [request.inputs[0].data]
    assert copy.request.shared == request.shared == ["INPUT0"]
    shadowed.first.pool.fakes[0].finishes(fp32("OUTPUT0"))
    assert other.leases == 1
    shadowed.second.pool.fakes[0].finishes(fp32("OUTPUT0"))
    assert other.leases == 0
    other.close()


async def test_a_copy_that_is_refused_does_not_reach_the_client(shadowed: Shadowed) -> None:
    responses: list[InferResponse] = []
    shadowed.second.pool.fakes[0].dies(WorkerState.FATAL, "it crashed")

    shadowed.plane.stream(leased(shadowed.plane), responses.append)
    shadowed.first.pool.fakes[0].finishes(fp32("OUTPUT0"))

    assert responses[0].error is None
    assert shadowed.first.inputs.leases == 0
    assert shadowed.shadow.statistics().fail == 1


async def test_a_request_that_is_refused_is_not_copied(shadowed: Shadowed) -> None:
    request = leased(shadowed.plane)
    request.inputs[0].name = "X"
    with pytest.raises(InvalidArgumentError):
        shadowed.plane.stream(request, lambda _response: None)
    assert shadowed.first.inputs.leases == 0
    assert shadowed.second.pool.fakes[0].batches == []
    seen = shadowed.shadow.statistics()
    assert (seen.pending, seen.dropped) == (0, 1)


async def test_a_shadow_that_is_gone_is_counted_and_nothing_else(shadowed: Shadowed) -> None:
    request = leased(shadowed.plane)
    request.shadows = [(9, shadowed.shadow)]
    responses: list[InferResponse] = []
    shadowed.plane.stream(request, responses.append)
    shadowed.first.pool.fakes[0].finishes(fp32("OUTPUT0"))
    assert responses[0].error is None
    assert isinstance(request.inputs[0].data, Span)
    assert shadowed.shadow.statistics().dropped == 1
