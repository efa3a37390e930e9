"""Environments are made once, whoever wants them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fakes import SOON, until

from tritonpy.supervisor.environments import cache as module
from tritonpy.supervisor.environments.cache import EnvironmentCache
from tritonpy.supervisor.environments.failure import EnvironmentFailure
from tritonpy.supervisor.environments.store import EnvironmentStore
from tritonpy.supervisor.environments.threads import Threads

pytestmark = pytest.mark.anyio


def fill(tree: str, text: str) -> None:
    """Put something into a folder."""
    Path(tree, "file").write_text(text)


def content(tree: str) -> str:
    """What was put into a folder."""
    return Path(tree, "file").read_text()


def block(path: Path) -> None:
    """Put a file where a folder should be."""
    path.write_text("")


class Bench:
    """A cache, and something to make that takes as long as a test wants."""

    def __init__(self, directory: Path, threads: Threads) -> None:
        self.directory = directory
        self.threads = threads
        self.cache = EnvironmentCache(str(directory), threads)
        self.begun = 0
        self.ended = 0
        self.go_on = asyncio.Event()
        self.failure = ""

    async def make(self, tree: str) -> None:
        """Fill a folder, when the test says so."""
        self.begun += 1
        try:
            await self.go_on.wait()
        finally:
            self.ended += 1
        if self.failure:
            raise EnvironmentFailure(self.failure)
        fill(tree, "whole")

    async def obtain(self) -> str:
        """Use what is under the key for a moment; returns what it holds."""
        async with asyncio.timeout(SOON):
            lease = await self.cache.obtain("key", "somewhere", self.make)
        text = content(lease.tree)
        lease.release()
        return text

    def left(self) -> set[str]:
        """What is in the cache."""
        return set(os.listdir(self.directory))


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads()
    yield made
    made.close()


@pytest.fixture
def bench(tmp_path: Path, threads: Threads) -> Bench:
    return Bench(tmp_path / "cache", threads)


async def test_all_who_want_it_at_once_wait_for_one_of_them(bench: Bench) -> None:
    wanted = [asyncio.create_task(bench.obtain()) for _ in range(5)]
    await until(lambda: bench.begun == 1)
    bench.go_on.set()

    assert await asyncio.gather(*wanted) == ["whole"] * 5
    assert bench.begun == 1
    assert await bench.obtain() == "whole"
    assert bench.begun == 1


async def test_a_failure_is_that_of_all_who_waited_and_of_nobody_later(bench: Bench) -> None:
    bench.failure = "no such package"
    wanted = [asyncio.create_task(bench.obtain()) for _ in range(3)]
    await until(lambda: bench.begun == 1)
    await until(lambda: bench.cache._making["key"]._waiting == 3)
    bench.go_on.set()

    outcomes = await asyncio.gather(*wanted, return_exceptions=True)

    assert [str(outcome) for outcome in outcomes] == ["no such package"] * 3
    assert bench.begun == 1
    assert bench.left() == {"key.lock"}
    bench.failure = ""
    assert await bench.obtain() == "whole"


async def test_one_who_gives_up_leaves_the_others_waiting(bench: Bench) -> None:
    first, second = (asyncio.create_task(bench.obtain()) for _ in range(2))
    await until(lambda: bench.begun == 1 and bench.cache._making["key"]._waiting == 2)

    first.cancel()
    await asyncio.wait([first])
    assert bench.ended == 0
    bench.go_on.set()

    assert await second == "whole"
    assert bench.begun == 1


async def test_when_nobody_wants_it_any_more_it_is_not_made(bench: Bench) -> None:
    wanted = [asyncio.create_task(bench.obtain()) for _ in range(2)]
    await until(lambda: bench.begun == 1 and bench.cache._making["key"]._waiting == 2)

    for task in wanted:
        task.cancel()
    await asyncio.wait(wanted)

    assert all(task.cancelled() for task in wanted)
    assert bench.ended == 1
    assert bench.left() == {"key.lock"}
    bench.go_on.set()
    assert await bench.obtain() == "whole"


async def test_what_another_server_makes_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.001)
    caplog.set_level("INFO")
    other = EnvironmentStore(str(bench.directory)).construct("key")
    assert other is not None
    other.begin()
    wanted = asyncio.create_task(bench.obtain())
    await until(lambda: "is being made by another server" in caplog.text)
    fill(other.tree, "another's")
    other.finish("")

    assert await wanted == "another's"
    assert bench.begun == 0


async def test_what_another_server_gave_up_is_made(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.001)
    caplog.set_level("INFO")
    other = EnvironmentStore(str(bench.directory)).construct("key")
    assert other is not None
    bench.go_on.set()
    wanted = asyncio.create_task(bench.obtain())
    await until(lambda: "is being made by another server" in caplog.text)
    other.abandon()

    assert await wanted == "whole"
    assert bench.begun == 1


async def test_a_folder_that_cannot_be_had_is_told_to_each_who_asks(
    bench: Bench, tmp_path: Path
) -> None:
    block(tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(EnvironmentFailure, match="--environment-cache-directory"):
            await bench.obtain()
    assert bench.begun == 0
