"""A served version on instances that have no process: what it accepts, counts and gives back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from support.fakes import Asker, Served, identity_request, serve, until

from tritonpy.ipc.errors import CancelledError, InvalidArgumentError, UnavailableError
from tritonpy.supervisor.request import InferRequest, InferResponse
from tritonpy.supervisor.scheduling.scheduler import Work
from tritonpy.supervisor.workers.states import WorkerState

pytestmark = pytest.mark.anyio


@pytest.fixture
async def served(anyio_backend: str) -> AsyncIterator[Served]:
    made = serve()
    yield made
    await made.version.close(1.0)


def leased(served: Served) -> InferRequest:
    """A request that holds a lease."""
    request = identity_request()
    request.leases.append(served.version.lease(16))
    return request


def submit(served: Served, request: InferRequest | None = None) -> tuple[Work, list[InferResponse]]:
    responses: list[InferResponse] = []
    return served.version.submit(request or identity_request(), responses.append), responses


async def test_a_request_is_answered_counted_and_gives_back_its_memory(served: Served) -> None:
    request = leased(served)
    _work, responses = submit(served, request)
    assert served.version.running == 2  # a request and a lease
    assert "1 running" in repr(served.version)

    served.pool.fakes[0].finishes()

    assert [response.error for response in responses] == [None]
    assert served.version.running == 0
    assert request.leases == []
    assert served.version.snapshot().inference_stats.success.count == 1


async def test_a_request_that_is_refused_gives_back_its_memory(served: Served) -> None:
    request = leased(served)
    request.inputs.clear()

    with pytest.raises(InvalidArgumentError):
        submit(served, request)

    assert served.version.running == 0
    assert served.inputs.leases == 0


async def test_a_request_that_nobody_can_run_is_refused_and_counted(served: Served) -> None:
    served.pool.fakes[0].dies(WorkerState.FATAL, "it crashed ten times")

    with pytest.raises(UnavailableError, match="no instance that runs: it crashed ten times"):
        submit(served, leased(served))

    assert served.version.running == 0
    assert served.version.snapshot().failures["REJECTED"] == 1


async def test_a_request_is_never_answered_before_it_is_accepted(served: Served) -> None:
    served.pool.fakes[0].refuses = OverflowError("too big")

    _work, responses = submit(served)

    assert responses == []
    await until(lambda: len(responses) == 1)
    assert served.version.running == 0
    assert served.version.snapshot().failures["OTHER"] == 1


async def test_a_queued_request_that_is_cancelled_is_answered_at_once(served: Served) -> None:
    for _ in range(2):
        submit(served)  # one runs, one is sent ahead
    work, responses = submit(served, leased(served))
    assert served.version.snapshot().pending == 2

    served.version.cancel(work)
    served.version.cancel(work)

    assert isinstance(responses[0].error, CancelledError)
    assert len(responses) == 1
    assert served.inputs.leases == 0
    assert served.version.running == 2
    assert served.version.snapshot().failures["CANCELED"] == 1


async def test_a_running_request_that_is_cancelled_is_told_to_the_model(served: Served) -> None:
    work, responses = submit(served)

    served.version.cancel(work)
    served.version.cancel(work)

    assert served.pool.fakes[0].cancelled == [work]
    assert responses == []
    served.pool.fakes[0].finishes()
    assert len(responses) == 1
    served.version.cancel(work)  # too late, and harmless


async def test_a_request_that_waits_for_a_restart_can_be_cancelled(served: Served) -> None:
    work, responses = submit(served)
    served.pool.fakes[0].dies()
    assert responses == []

    served.version.cancel(work)

    assert isinstance(responses[0].error, CancelledError)


async def test_requests_wait_for_a_restart_and_are_then_answered(served: Served) -> None:
    (fake,) = served.pool.fakes
    _work, running = submit(served)
    fake.dies()
    _work, queued = submit(served)

    fake.becomes_ready()
    while fake.load:
        fake.finishes()

    assert running[0].error is None
    assert queued[0].error is None
    assert served.version.running == 0


async def test_retiring_finishes_what_runs_and_what_is_queued(served: Served) -> None:
    (fake,) = served.pool.fakes
    everything = [submit(served)[1] for _ in range(4)]
    retiring = asyncio.create_task(served.version.retire(60.0, 1.0))
    await asyncio.sleep(0)

    while fake.load:
        assert not retiring.done()
        fake.finishes()
        await asyncio.sleep(0)

    assert await retiring is True
    assert [responses[0].error for responses in everything] == [None] * 4
    assert served.closed == ["closed"]


async def test_retiring_waits_for_a_lease_that_is_still_being_filled(served: Served) -> None:
    request = leased(served)
    retiring = asyncio.create_task(served.version.retire(60.0, 1.0))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not retiring.done()

    submit(served, request)
    served.pool.fakes[0].finishes()

    assert await retiring is True


async def test_what_does_not_finish_in_time_is_answered_and_told(served: Served) -> None:
    everything = [submit(served)[1] for _ in range(4)]

    assert await served.version.retire(0.0, 1.0) is False

    for responses in everything:
        assert len(responses) == 1
        assert isinstance(responses[0].error, UnavailableError)
    assert served.version.running == 0


async def test_a_version_with_nothing_to_do_retires_at_once(served: Served) -> None:
    assert await served.version.retire(0.0, 1.0) is True


async def test_a_model_that_had_to_be_killed_did_not_retire_in_time(served: Served) -> None:
    served.pool.fakes[0].finalizes = False
    assert await served.version.retire(60.0, 1.0) is False


async def test_retiring_again_is_harmless(served: Served) -> None:
    first = asyncio.create_task(served.version.retire(60.0, 1.0))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)

    assert await served.version.retire(60.0, 1.0) is True
    assert await served.version.close(1.0) is True
    assert served.closed == ["closed"]


@pytest.mark.parametrize("state", [WorkerState.BACKOFF, WorkerState.STARTING, WorkerState.LOADING])
async def test_requests_that_wait_for_a_restart_are_answered_when_the_model_is_closed(
    served: Served, state: WorkerState
) -> None:
    served.pool.fakes[0].dies(state)
    _work, responses = submit(served)

    await served.version.close(1.0)

    assert len(responses) == 1
    assert isinstance(responses[0].error, UnavailableError)


async def test_a_request_after_the_end_is_refused_and_its_lease_given_back(served: Served) -> None:
    request = leased(served)
    await served.version.close(1.0)

    with pytest.raises(UnavailableError):
        submit(served, request)

    assert served.inputs.leases == 0


async def test_idle_memory_is_given_back_by_both_sides(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed: list[str] = []
    trim: Callable[[], None] = lambda: trimmed.append("inputs")  # noqa: E731
    monkeypatch.setattr(served.inputs, "trim", trim)

    served.version.trim()

    assert trimmed == ["inputs"]
    assert served.pool.fakes[0].trims == 1


async def test_a_client_that_asks_again_from_its_callback_is_served(served: Served) -> None:
    asker = Asker()
    again: list[Work] = []

    def ask_again(response: InferResponse) -> None:
        again.append(served.version.submit(identity_request(), asker.respond))

    served.version.submit(identity_request(), ask_again)
    served.pool.fakes[0].finishes()
    served.pool.fakes[0].finishes()

    assert len(again) == 1
    assert len(asker.responses) == 1
    assert served.version.running == 0
