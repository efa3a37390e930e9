"""Both ends of a channel in one process: order, bursts, closing, and what goes wrong."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import msgspec
import pytest
from support.peers import TIMEOUT, Background

from tritonpy.ipc.channel import MESSAGES_PER_WAKE, SupervisorChannel, WorkerChannel
from tritonpy.ipc.frames import framed
from tritonpy.ipc.messages import (
    Cancel,
    Described,
    Execute,
    FromWorker,
    Log,
    Release,
    Request,
    Responded,
    Response,
    Stop,
    Stopped,
    ToWorker,
)
from tritonpy.ipc.tensor import Tensor

pytestmark = pytest.mark.anyio


#: More than a socket takes.
LARGE = "x" * (8 << 20)


def numbered(number: int) -> Described:
    return Described(str(number))


def number_of(message: FromWorker) -> int:
    assert isinstance(message, Described)
    return int(message.config)


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

    def __init__(
        self,
        on_message: Callable[[FromWorker], None] | None = None,
        on_error: Callable[[Exception], None] = unexpected,
    ) -> None:
        self.received = Collected()
        self.supervisor = SupervisorChannel(on_message or self.received, on_error)
        self.theirs = self.supervisor.open()
        self.worker = WorkerChannel(self.theirs)


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Ends]]:
    made: list[Ends] = []

    def make_ends(*arguments: Callable[..., None]) -> Ends:
        made.append(Ends(*arguments))
        return made[-1]

    yield make_ends
    for each in made:
        each.supervisor.close()
        each.worker.close()


Make = Callable[..., Ends]


@pytest.fixture
async def ends(make: Make) -> Ends:
    return make()


async def receive(channel: WorkerChannel) -> ToWorker | None:
    return await asyncio.to_thread(channel.receive)


async def test_messages_arrive_in_the_order_in_which_they_were_sent(ends: Ends) -> None:
    sender = Background(lambda: _send_numbers(ends.worker, 10_000))

    received = await ends.received.until(10_000)

    sender.result()
    assert [number_of(message) for message in received] == list(range(10_000))


async def test_what_is_sent_in_one_turn_of_the_loop_goes_in_two_pieces(ends: Ends) -> None:
    def arrived() -> int:
        return len(ends.theirs.recv(1 << 16, socket.MSG_PEEK | socket.MSG_DONTWAIT))

    one = len(framed(msgspec.msgpack.encode(Release([1]))))
    for turn in (1, 2):
        for _ in range(4):
            ends.supervisor.send(Release([1]))
        assert arrived() == ((turn - 1) * 4 + 1) * one  # the worker is woken at once
        await asyncio.sleep(0)
        assert arrived() == turn * 4 * one


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


async def test_a_worker_may_speak_before_it_is_spoken_to(ends: Ends) -> None:
    ends.worker.send(numbered(1))
    await ends.received.until(1)

    ends.supervisor.send(Stop())

    assert await receive(ends.worker) == Stop()


async def test_messages_that_are_larger_than_the_socket_go_both_ways_at_once(ends: Ends) -> None:
    """Neither side reads before it has sent all it wants: no lock-up."""
    tensor = Tensor("x", "UINT8", (len(LARGE),), memoryview(LARGE.encode()))
    for batch in range(3):
        ends.supervisor.send(Execute(batch, [Request(7, [tensor], ["y"])]))
    ends.supervisor.send(Stop())

    def send_then_receive() -> list[ToWorker]:
        for _ in range(3):
            ends.worker.send(Described(LARGE))
        return [ends.worker.receive() for _ in range(4)]

    worker = Background(send_then_receive)
    received = await ends.received.until(3)

    assert received == [Described(LARGE)] * 3
    batches = [Execute(batch, [Request(7, [tensor], ["y"])]) for batch in range(3)]
    assert await asyncio.to_thread(worker.result) == [*batches, Stop()]


async def test_what_the_socket_does_not_take_is_kept_in_order(ends: Ends) -> None:
    """Also when there is room again before the loop gets a turn."""
    large = [Cancel([number] * 5000) for number in range(1000)]
    for message in large:
        ends.supervisor.send(message)
    await asyncio.sleep(0)
    assert ends.supervisor._unsent  # pyright: ignore[reportPrivateUsage]
    first = [ends.worker.receive() for _ in range(50)]

    ends.supervisor.send(Stop())

    def receive_all() -> list[ToWorker]:
        return [ends.worker.receive() for _ in range(951)]

    assert first + await asyncio.to_thread(receive_all) == [*large, Stop()]


async def test_a_full_buffer_of_small_messages_is_delivered_over_many_turns(ends: Ends) -> None:
    count = 20_000
    encode = msgspec.msgpack.Encoder().encode
    stream = b"".join(framed(encode(numbered(number))) for number in range(count))
    sender = Background(lambda: ends.theirs.sendall(stream))

    received = await ends.received.until(count)

    sender.result()
    assert [number_of(message) for message in received] == list(range(count))


async def test_a_burst_leaves_the_loop_its_turns(ends: Ends) -> None:
    seen = [0]
    sender = Background(lambda: _send_numbers(ends.worker, 1000))

    async with asyncio.timeout(30):
        while seen[-1] < 1000:
            await asyncio.sleep(0)
            seen.append(len(ends.received.messages))

    sender.result()
    # A turn may have the rest of what was read, and then what has arrived since.
    assert max(after - before for before, after in pairwise(seen)) <= 2 * MESSAGES_PER_WAKE


async def test_threads_may_send_at_the_same_time(ends: Ends) -> None:
    threads = [Background(lambda: _send_numbers(ends.worker, 1000)) for _ in range(4)]

    received = await ends.received.until(4000)

    for thread in threads:
        thread.result()
    assert sorted(number_of(message) for message in received) == sorted(list(range(1000)) * 4)


async def test_a_failing_callback_keeps_back_no_other_message(make: Make) -> None:
    errors: list[Exception] = []
    received = Collected()

    def deliver(message: FromWorker) -> None:
        received(message)
        if number_of(message) % 2:
            raise RuntimeError(f"number {number_of(message)}")

    ends = make(deliver, errors.append)
    _send_numbers(ends.worker, 200)

    await received.until(200)

    assert list(map(str, errors)) == [f"number {number}" for number in range(1, 200, 2)]


async def test_what_is_no_message_is_reported_and_passed_over(make: Make) -> None:
    errors: list[Exception] = []
    received = Collected()
    ends = make(received, errors.append)
    ends.theirs.sendall(framed(b"\xc1 this is no message") + framed(b"\x91\xa7stopped"))

    assert await received.until(1) == [Stopped()]

    assert [type(error) for error in errors] == [msgspec.DecodeError]


async def test_draining_delivers_everything_at_once(ends: Ends) -> None:
    _send_numbers(ends.worker, 100)
    ends.worker.close()

    ends.supervisor.drain()

    assert [number_of(message) for message in ends.received.messages] == list(range(100))


async def test_draining_goes_on_where_the_last_turn_stopped(ends: Ends) -> None:
    _send_numbers(ends.worker, 2 * MESSAGES_PER_WAKE)
    await ends.received.until(1)  # and up to MESSAGES_PER_WAKE of those that were read with it
    ends.worker.close()

    ends.supervisor.drain()

    received = [number_of(message) for message in ends.received.messages]
    assert received == list(range(2 * MESSAGES_PER_WAKE))


async def test_a_process_that_holds_the_workers_end_does_not_keep_the_drain(ends: Ends) -> None:
    """A model may have forked one, which may even write."""
    held = socket.socket(fileno=os.dup(ends.theirs.fileno()))
    held.setblocking(True)
    _send_numbers(ends.worker, 10)
    ends.worker.close()

    def write() -> None:
        with held:
            while True:
                held.sendall(framed(b"\x91\xa7stopped"), socket.MSG_NOSIGNAL)

    writing = Background(write)
    ends.supervisor.drain()
    length = len(ends.received.messages)
    ends.supervisor.close()

    with pytest.raises(BrokenPipeError):
        await asyncio.to_thread(writing.result)
    assert [number_of(each) for each in ends.received.messages[:10]] == list(range(10))
    assert length == len(ends.received.messages)


async def test_a_last_message_that_is_cut_off_is_not_delivered(ends: Ends) -> None:
    _send_numbers(ends.worker, 3)
    ends.theirs.sendall(framed(b"\x91\xa7stopped")[:-1])
    ends.worker.close()

    ends.supervisor.drain()

    assert ends.received.messages == [numbered(number) for number in range(3)]


async def test_the_last_words_of_a_worker_get_out(ends: Ends) -> None:
    ends.worker.send(numbered(1))

    ends.worker.close()

    assert await ends.received.until(1) == [numbered(1)]


async def test_a_worker_that_leaves_without_reading_is_heard_to_the_end(ends: Ends) -> None:
    ends.supervisor.send(Cancel([1]))
    ends.worker.send(numbered(1))

    ends.worker.close()

    assert await ends.received.until(1) == [numbered(1)]
    ends.supervisor.send(Cancel([2]))
    ends.supervisor.drain()
    assert len(ends.received.messages) == 1


async def test_the_end_of_a_worker_is_not_looked_at_again_and_again(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its exit is noticed the loop has nothing to do with it."""
    ends.worker.close()
    looks: list[int] = []
    receive_once = ends.supervisor._receive  # pyright: ignore[reportPrivateUsage]
    loop = asyncio.get_running_loop()
    connection = ends.supervisor._connection  # pyright: ignore[reportPrivateUsage]
    assert connection is not None

    def look() -> None:
        looks.append(1)
        receive_once()

    loop.add_reader(connection.fileno(), look)
    for _ in range(20):
        await asyncio.sleep(0)

    assert len(looks) == 1


async def test_what_was_not_sent_is_dropped_when_the_worker_is_gone(ends: Ends) -> None:
    ends.supervisor.send(Cancel(list(range(1 << 20))))
    ends.worker.close()
    async with asyncio.timeout(TIMEOUT):
        # Nobody tells.
        while ends.supervisor._unsent:  # noqa: ASYNC110 # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0)

    ends.supervisor.send(Stop())


async def test_a_callback_may_close_the_channel(make: Make) -> None:
    received: list[FromWorker] = []
    closed = asyncio.Event()

    def close(message: FromWorker) -> None:
        received.append(message)
        pair.supervisor.close()
        closed.set()

    pair = make(close)
    _send_numbers(pair.worker, 10)

    async with asyncio.timeout(30):
        await closed.wait()

    assert len(received) == 1
    pair.supervisor.drain()
    pair.supervisor.close()
    pair.worker.send(numbered(1))  # nobody hears it


async def test_a_closed_worker_sends_nothing(ends: Ends) -> None:
    ends.worker.close()

    ends.worker.send(Log("INFO", "nobody hears it", "x.py", 1))

    ends.supervisor.drain()
    assert ends.received.messages == []


async def test_a_worker_hears_that_its_supervisor_is_gone(ends: Ends) -> None:
    ends.supervisor.send(Stop())
    ends.supervisor.close()

    assert ends.worker.receive() == Stop()
    for receive_any in (
        ends.worker.receive,
        ends.worker.receive_unless_woken,
        ends.worker.receive_nowait,
    ):
        with pytest.raises(ConnectionError):
            receive_any()


async def test_a_child_of_a_worker_leaves_the_channel_to_its_parent(ends: Ends) -> None:
    """As after a fork, with a lock that no thread of the child will ever open."""
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ends.worker._sending:  # pyright: ignore[reportPrivateUsage]
            locked.set()
            done.wait()

    holder = Background(hold)
    locked.wait()

    ends.worker.abandon()

    sending = Background(lambda: ends.worker.send(numbered(1)))
    try:
        await asyncio.to_thread(sending.result)
    finally:
        done.set()
    holder.result()
    assert ends.worker.receive_nowait() is None
    ends.supervisor.drain()
    assert ends.received.messages == []


async def test_waking_ends_a_wait_without_a_message(ends: Ends) -> None:
    waiting = Background(ends.worker.receive_unless_woken)

    ends.worker.wake()

    assert await asyncio.to_thread(waiting.result) is None


async def test_a_message_ends_a_wait_that_may_be_woken(ends: Ends) -> None:
    waiting = Background(ends.worker.receive_unless_woken)

    ends.supervisor.send(Stop())

    assert await asyncio.to_thread(waiting.result) == Stop()


async def test_a_message_that_is_here_already_is_received_before_a_wake(ends: Ends) -> None:
    ends.supervisor.send(Release([64]))
    ends.supervisor.send(Stop())
    await asyncio.sleep(0)
    assert await receive(ends.worker) == Release([64])

    ends.worker.wake()

    assert ends.worker.receive_unless_woken() == Stop()
    assert ends.worker.receive_unless_woken() is None


async def test_a_wake_is_no_message(ends: Ends) -> None:
    ends.worker.wake()
    assert ends.worker.receive_nowait() is None
    ends.supervisor.send(Release([64]))

    assert await receive(ends.worker) == Release([64])


async def test_a_finalizer_may_send_in_the_middle_of_a_send(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sends follows what is being sent: no frame lies inside of another."""

    class Interrupted:
        """A socket in the middle of whose first send a finalizer runs."""

        def __init__(self) -> None:
            self.is_first = True

        def sendall(self, frame: bytes, flags: int) -> None:
            ends.theirs.sendall(frame[:3], flags)
            if self.is_first:
                self.is_first = False
                ends.worker.send(numbered(2))
            ends.theirs.sendall(frame[3:], flags)

    monkeypatch.setattr(ends.worker, "_connection", Interrupted())
    ends.worker.send(numbered(1))
    monkeypatch.undo()

    assert await ends.received.until(2) == [numbered(1), numbered(2)]


async def test_closing_leaves_no_descriptor(make: Make) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    ends = make()

    ends.supervisor.close()
    ends.worker.close()

    assert len(os.listdir("/proc/self/fd")) == before


def _send_numbers(channel: WorkerChannel, count: int) -> None:
    for number in range(count):
        channel.send(numbered(number))
