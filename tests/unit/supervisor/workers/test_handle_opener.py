"""Whether handles open, as a real worker finds out with a stand-in for cuda-python."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from support.fakes import until
from support.gpu import Gpus
from support.surroundings import real_surroundings

from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.supervisor.request import CudaHandle
from tritonpy.supervisor.workers.handle_opener import HandleOpener
from tritonpy.supervisor.workers.process import Surroundings

pytestmark = pytest.mark.anyio


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gpus:
    gpus = Gpus(tmp_path)
    for name, value in gpus.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return gpus


@pytest.fixture
def surroundings() -> Iterator[Surroundings]:
    with real_surroundings() as found:
        yield found


@pytest.fixture
async def opener(gpus: Gpus, surroundings: Surroundings) -> AsyncIterator[HandleOpener]:
    opener = HandleOpener(surroundings, (0, 1), timeout=60, linger=0.0)
    yield opener
    await opener.close()


def handle(raw: bytes, device: int = 0, byte_size: int = 8) -> CudaHandle:
    return CudaHandle(raw, device, byte_size)


def workers() -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        try:
            if any(word.startswith("GPU ") for word in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue  # it has just ended
    return found


@pytest.mark.parametrize("device", [0, 1])
async def test_a_good_handle_is_opened_on_its_own_gpu(
    opener: HandleOpener, gpus: Gpus, device: int
) -> None:
    memory = gpus.allocate(bytes(8), device)
    await opener.check(1 << 33, "r", handle(memory.handle, device))
    with pytest.raises(InvalidArgumentError, match="failed to open CUDA IPC handle: "):
        await opener.check((1 << 33) + 1, "r", handle(memory.handle, 1 - device))


async def test_a_bad_handle_is_refused_in_tritons_words(opener: HandleOpener, gpus: Gpus) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await opener.check(1, "r", handle(b"nothing".ljust(64, b"\0")))
    assert caught.value.message == (
        "failed to register CUDA shared memory region 'r': failed to open CUDA IPC handle: "
        "invalid value"
    )
    memory = gpus.allocate(bytes(8))
    with pytest.raises(InvalidArgumentError, match="'r': invalid args"):
        await opener.check(2, "r", handle(memory.handle, byte_size=9))
    await opener.check(3, "r", handle(memory.handle))


async def test_a_gpu_that_the_server_has_not_is_refused_without_a_worker(
    opener: HandleOpener,
) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid device ordinal: 2"):
        await opener.check(1, "r", handle(bytes(64), device=2))
    assert workers() == []


async def test_the_worker_goes_when_nobody_asks_and_another_one_comes(
    opener: HandleOpener, gpus: Gpus
) -> None:
    memory = gpus.allocate(bytes(8))
    for number in (1, 2):
        await opener.check(number, "r", handle(memory.handle))
        await until(lambda: not workers())


async def test_a_worker_that_dies_fails_who_asked_it_and_is_replaced(
    gpus: Gpus, surroundings: Surroundings
) -> None:
    opener = HandleOpener(surroundings, (0,), timeout=60, linger=60.0)
    memory = gpus.allocate(bytes(8))
    await opener.check(1, "r", handle(memory.handle))
    (worker,) = workers()
    os.kill(worker.pid, signal.SIGSTOP)
    asking = asyncio.create_task(opener.check(2, "r", handle(memory.handle)))
    await asyncio.sleep(0)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(InternalError, match="opens memory of GPU 0 was killed by signal SIGKILL"):
        await asking
    await opener.check(3, "r", handle(memory.handle))
    await opener.close()


async def test_a_worker_that_does_not_answer_is_given_up(
    gpus: Gpus, surroundings: Surroundings
) -> None:
    opener = HandleOpener(surroundings, (0,), timeout=0.0)
    with pytest.raises(InternalError, match="GPU 0 was not heard of within 0 seconds"):
        await opener.check(1, "r", handle(bytes(64)))
    await opener.close()
