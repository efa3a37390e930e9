"""Both ends of a channel in one process: order, bursts, closing, and what goes wrong."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import zmq
from support.peers import Background

from tritonpy.ipc.channel import MESSAGES_PER_WAKE, Context, SupervisorChannel, WorkerChannel
from tritonpy.ipc.messages import (
    Cancel,
    Execute,
    FromWorker,
    Log,
    Release,
    Request,
    Responded,
    Response,
    Started,
    Stop,
    ToWorker,
)
from tritonpy.ipc.tensor import Tensor

pytestmark = pytest.mark.anyio


def started(number: int) -> Started:
    return Started(str(number))


def number_of(message: FromWorker) -> int:
    assert isinstance(message, Started)
    return int(message.generation)


@pytest.fixture
def directory() -> Iterator[str]:
    made = tempfile.mkdtemp(prefix="tp-")
    yield made
    shutil.rmtree(made)


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    yield made
    made.destroy(0)  # also what a failing test has left open


class Collected:
    """What a channel has delivered; `until` waits until there are so many."""

    def __init__(self) -> None:
        self.messages: list[FromWorker] = []
        self._wanted = 0
        self._enough = asyncio.Event()

    def __call__(self, message: FromWorker) -> None:
        self.messages.append(message)
        if len(self.messages) >= self._wanted:
            self._enough.set()

    async def until(self, count: int) -> list[FromWorker]:
        self._wanted = count
        self._enough.clear()
        if len(self.messages) < count:
            async with asyncio.timeout(30):
                await self._enough.wait()
        return self.messages


def unexpected(error: Exception) -> None:
    """Every message can be read and none fails, unless the test is about that."""
    raise error


class Ends:
    """A supervisor's and a worker's end in the same process."""

    def __init__(self, context: Context, directory: str) -> None:
        self.received = Collected()
        self.supervisor = SupervisorChannel(context, directory, self.received, unexpected)
        self.supervisor.open()
        self.worker = WorkerChannel(directory)
        self.supervisor.connect()


@pytest.fixture
async def ends(context: Context, directory: str) -> AsyncIterator[Ends]:
    made = Ends(context, directory)
    yield made
    made.worker.close()
    made.supervisor.close()


async def receive(channel: WorkerChannel) -> ToWorker | None:
    return await asyncio.to_thread(channel.receive)


async def test_messages_arrive_in_the_order_in_which_they_were_sent(ends: Ends) -> None:
    for number in range(10_000):
        ends.worker.send(started(number))

    received = await ends.received.until(10_000)

    assert [number_of(message) for message in received] == list(range(10_000))


async def test_ten_thousand_messages_go_to_the_worker_without_waiting(ends: Ends) -> None:
    for number in range(10_000):
        ends.supervisor.send(Cancel([number]))

    def receive_all() -> list[ToWorker | None]:
        return [ends.worker.receive() for _ in range(10_000)]

    received = await asyncio.to_thread(receive_all)

    assert received == [Cancel([number]) for number in range(10_000)]


async def test_tensors_travel_with_their_bytes(ends: Ends) -> None:
    tensor = Tensor("x", "UINT8", (5,), memoryview(b"hello"))
    ends.supervisor.send(Execute(1, [Request(7, [tensor], ["y"])]))

    message = await receive(ends.worker)

    assert message == Execute(1, [Request(7, [tensor], ["y"])])


async def test_a_buffer_may_change_as_soon_as_it_is_sent(ends: Ends) -> None:
    buffer = bytearray(b"first")
    response = Response(1, [Tensor("y", "UINT8", (5,), memoryview(buffer))])
    ends.worker.send(Responded(response))

    buffer[:] = b"other"

    (message,) = await ends.received.until(1)
    assert isinstance(message, Responded)
    assert message.response.outputs[0].data == memoryview(b"first")


async def test_a_worker_may_be_faster_than_its_supervisor(context: Context, directory: str) -> None:
    received = Collected()
    supervisor = SupervisorChannel(context, directory, received, unexpected)
    supervisor.open()
    worker = WorkerChannel(directory)
    worker.send(started(1))
    await received.until(1)

    supervisor.connect()
    supervisor.send(Stop())

    assert await receive(worker) == Stop()
    worker.close()
    supervisor.close()


async def test_a_burst_leaves_the_loop_its_turns(ends: Ends) -> None:
    seen = [0]
    sender = Background(lambda: _send_numbers(ends.worker, 1000))

    async with asyncio.timeout(30):
        while seen[-1] < 1000:
            await asyncio.sleep(0)
            seen.append(len(ends.received.messages))

    sender.result()
    # One wake by the descriptor and one that the wake before it asked for.
    assert max(after - before for before, after in pairwise(seen)) <= 2 * MESSAGES_PER_WAKE


async def test_threads_may_send_at_the_same_time(ends: Ends) -> None:
    threads = [Background(lambda: _send_numbers(ends.worker, 1000)) for _ in range(4)]

    received = await ends.received.until(4000)

    for thread in threads:
        thread.result()
    assert sorted(number_of(message) for message in received) == sorted(list(range(1000)) * 4)


async def test_a_failing_callback_keeps_back_no_other_message(
    context: Context, directory: str
) -> None:
    errors: list[Exception] = []
    received = Collected()

    def deliver(message: FromWorker) -> None:
        received(message)
        if number_of(message) % 2:
            raise RuntimeError(f"number {number_of(message)}")

    supervisor = SupervisorChannel(context, directory, deliver, errors.append)
    supervisor.open()
    worker = WorkerChannel(directory)
    _send_numbers(worker, 200)

    await received.until(200)

    assert list(map(str, errors)) == [f"number {number}" for number in range(1, 200, 2)]
    worker.close()
    supervisor.close()


async def test_what_is_no_message_is_reported_and_passed_over(
    context: Context, directory: str
) -> None:
    errors: list[Exception] = []
    received = Collected()
    supervisor = SupervisorChannel(context, directory, received, errors.append)
    supervisor.open()
    stranger = context.socket(zmq.PUSH)
    stranger.connect(f"ipc://{directory}/from-worker")
    stranger.send(b"\xc1 this is no message")
    worker_like = b"\x92\xa7started\xa11"
    stranger.send(worker_like)

    assert await received.until(1) == [started(1)]

    assert [type(error) for error in errors] == [msgspec.DecodeError]
    stranger.close(0)
    supervisor.close()


async def test_draining_delivers_everything_at_once(context: Context, directory: str) -> None:
    received = Collected()
    supervisor = SupervisorChannel(context, directory, received, unexpected)
    supervisor.open()
    worker = WorkerChannel(directory)
    await asyncio.to_thread(_send_numbers, worker, 1000)
    await asyncio.to_thread(worker.close)  # returns when all of it has left

    supervisor.drain()

    assert len(received.messages) == 1000
    supervisor.close()


async def test_the_last_words_of_a_worker_get_out(context: Context, directory: str) -> None:
    received = Collected()
    supervisor = SupervisorChannel(context, directory, received, unexpected)
    supervisor.open()
    worker = WorkerChannel(directory)
    worker.send(started(1))

    await asyncio.to_thread(worker.close)

    assert await received.until(1) == [started(1)]
    supervisor.close()


async def test_a_callback_may_close_the_channel(context: Context, directory: str) -> None:
    received: list[FromWorker] = []
    closed = asyncio.Event()

    def close(message: FromWorker) -> None:
        received.append(message)
        supervisor.close()
        closed.set()

    supervisor = SupervisorChannel(context, directory, close, unexpected)
    supervisor.open()
    worker = WorkerChannel(directory)
    _send_numbers(worker, 10)

    async with asyncio.timeout(30):
        await closed.wait()

    assert len(received) == 1
    supervisor.drain()
    supervisor.close()
    worker.send(started(1))
    await asyncio.to_thread(_abandon, worker)


async def test_a_closed_worker_sends_nothing(context: Context, directory: str) -> None:
    supervisor = SupervisorChannel(context, directory, Collected(), unexpected)
    supervisor.open()
    worker = WorkerChannel(directory)
    await asyncio.to_thread(worker.close)

    worker.send(Log("INFO", "nobody hears it", "x.py", 1))

    supervisor.close()


async def test_waking_ends_a_wait_without_a_message(ends: Ends) -> None:
    waiting = Background(ends.worker.receive)

    ends.worker.wake()

    assert await asyncio.to_thread(waiting.result) is None


async def test_a_wake_is_no_message(ends: Ends) -> None:
    ends.worker.wake()
    assert ends.worker.receive_nowait() is None
    ends.supervisor.send(Release([64]))

    assert await receive(ends.worker) == Release([64])


async def test_a_finalizer_may_send_in_the_middle_of_a_send(ends: Ends) -> None:
    held = ends.worker._sending  # pyright: ignore[reportPrivateUsage]
    with held:
        ends.worker.send(started(1))

    assert await ends.received.until(1) == [started(1)]


@pytest.mark.parametrize("end", ["supervisor", "worker"])
async def test_a_path_that_is_too_long_is_refused_and_named(
    context: Context, tmp_path: Path, end: str
) -> None:
    directory = tmp_path / ("d" * 100)
    directory.mkdir()
    open_end: dict[str, Callable[[], object]] = {
        "supervisor": SupervisorChannel(context, str(directory), Collected(), unexpected).open,
        "worker": lambda: WorkerChannel(str(directory)),
    }

    with pytest.raises(ValueError, match=f"the socket path '{directory}/.*' is longer than"):
        open_end[end]()


async def test_a_directory_that_is_gone_is_an_os_error(context: Context) -> None:
    channel = SupervisorChannel(context, "/nowhere", Collected(), unexpected)

    with pytest.raises(OSError, match="listening at ipc:///nowhere/from-worker failed"):
        channel.open()

    channel.close()


def _send_numbers(channel: WorkerChannel, count: int) -> None:
    for number in range(count):
        channel.send(started(number))


def _abandon(channel: WorkerChannel) -> None:
    """Close a channel that nobody listens to any more, without waiting for him."""
    push = channel._push  # pyright: ignore[reportPrivateUsage]
    push.setsockopt(zmq.LINGER, 0)
    channel.close()
