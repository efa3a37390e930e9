"""Reading what a worker prints, through real pipes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import pytest
from support.fakes import SOON

from tritonpy.supervisor.workers.output import (
    LINE_LIMIT_BYTES,
    LINES_AT_CLOSE,
    LINES_PER_TURN,
    TAIL_LINES,
    OutputReader,
)

pytestmark = pytest.mark.anyio


class Pipe:
    """A pipe whose reading end an OutputReader has."""

    def __init__(self) -> None:
        read, self.write_end = os.pipe()
        self.lines: list[str] = []
        self.changed = asyncio.Event()
        self.reader = OutputReader(read, self._line)

    def _line(self, text: str) -> None:
        self.lines.append(text)
        self.changed.set()

    def write(self, data: bytes) -> None:
        assert os.write(self.write_end, data) == len(data)

    def hang_up(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
async def pipe(anyio_backend: str) -> AsyncIterator[Pipe]:
    made = Pipe()
    made.reader.open()
    yield made
    made.hang_up()
    made.reader.close()


async def test_each_line_is_handed_on_when_it_is_whole(pipe: Pipe) -> None:
    pipe.write(b"one\r\ntw")
    await pipe.until(lambda: len(pipe.lines) == 1)
    pipe.write(b"o\n\nthree\n")
    await pipe.until(lambda: len(pipe.lines) == 3)

    assert pipe.lines == ["one", "two", "three"]


async def test_a_last_line_without_a_newline_comes_at_the_end(pipe: Pipe) -> None:
    pipe.write(b"whole\nbroken off")
    pipe.hang_up()

    pipe.reader.close()

    assert pipe.lines == ["whole", "broken off"]
    assert pipe.reader.tail == ["whole", "broken off"]


@pytest.mark.parametrize("newline", [b"\n", b""], ids=["with a newline", "without"])
async def test_a_line_that_is_too_long_comes_in_pieces_and_whole(
    pipe: Pipe, newline: bytes
) -> None:
    pipe.write(b"x" * (2 * LINE_LIMIT_BYTES + 100) + newline)
    await pipe.until(lambda: len(pipe.lines) >= 2)
    pipe.hang_up()
    pipe.reader.close()

    assert [len(line) for line in pipe.lines] == [LINE_LIMIT_BYTES, LINE_LIMIT_BYTES, 100]


async def test_what_is_no_text_is_shown_somehow(pipe: Pipe) -> None:
    pipe.write(b"\xff\xfeabc\n")
    await pipe.until(lambda: bool(pipe.lines))

    assert pipe.lines == ["\ufffd\ufffdabc"]


async def test_only_the_last_lines_are_remembered(pipe: Pipe) -> None:
    pipe.write(b"".join(b"line %d\n" % number for number in range(100)))
    await pipe.until(lambda: len(pipe.lines) == 100)

    assert len(pipe.reader.tail) == TAIL_LINES
    assert pipe.reader.tail[-1] == "line 99"


async def test_the_stacks_of_a_dying_python_do_not_push_out_what_it_said_before(
    pipe: Pipe,
) -> None:
    stacks = b"".join(b'  File "x.py", line %d in f\n' % number for number in range(50))
    pipe.write(b"out of cheese\nFatal Python error: Aborted\n\nCurrent thread:\n" + stacks)
    await pipe.until(lambda: len(pipe.lines) == 53)

    assert pipe.reader.tail == ["out of cheese", "Fatal Python error: Aborted"]


async def test_a_flood_leaves_the_loop_its_turns(pipe: Pipe) -> None:
    pipe.write(b"y\n" * 10_000)
    most = turns = before = 0
    async with asyncio.timeout(SOON):
        while len(pipe.lines) < 1000:
            await asyncio.sleep(0)
            turns += 1
            most, before = max(most, len(pipe.lines) - before), len(pipe.lines)

    assert most <= LINES_PER_TURN
    assert turns > 1000 / LINES_PER_TURN


async def test_a_flood_loses_nothing_while_the_worker_lives(pipe: Pipe) -> None:
    count = 3000
    text = b"".join(b"%d\n" % number for number in range(count))
    written = 0
    os.set_blocking(pipe.write_end, False)
    async with asyncio.timeout(SOON):
        while len(pipe.lines) < count:
            try:
                written += os.write(pipe.write_end, text[written : written + 4096])
            except BlockingIOError:
                pass
            await asyncio.sleep(0)

    assert pipe.lines == [str(number) for number in range(count)]


async def test_closing_hands_on_the_end_of_a_flood_and_says_what_it_left_out(pipe: Pipe) -> None:
    pipe.write(b"".join(b"%d\n" % number for number in range(5000)))
    pipe.hang_up()

    pipe.reader.close()

    note = pipe.lines[-LINES_AT_CLOSE - 1]
    assert note == f"[{5000 - LINES_AT_CLOSE} lines are left out]"
    assert pipe.lines[-1] == "4999"
    assert len(pipe.lines) == LINES_AT_CLOSE + 1


async def test_a_grandchild_that_holds_the_pipe_does_not_keep_the_reader(pipe: Pipe) -> None:
    pipe.write(b"last words\n")

    pipe.reader.close()  # the writing end is still open

    assert pipe.lines == ["last words"]
    with pytest.raises(BrokenPipeError):
        os.write(pipe.write_end, b"too late\n")


async def test_a_pipe_that_ends_early_costs_nothing(pipe: Pipe) -> None:
    pipe.write(b"bye\n")
    pipe.hang_up()
    await pipe.until(lambda: pipe.lines == ["bye"])

    for _ in range(10):
        await asyncio.sleep(0)
    pipe.reader.close()
    pipe.reader.close()

    assert pipe.lines == ["bye"]


async def test_a_reader_that_was_never_opened_gives_its_descriptor_back() -> None:
    read, write = os.pipe()
    OutputReader(read, lambda _line: None).close()
    with pytest.raises(BrokenPipeError):
        os.write(write, b"x")
    os.close(write)
