"""Instances are changed at run time: on real folders and a loader that loads nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.fakes import FakeLoader, repository, serve

from tritonpy.ipc.errors import InvalidArgumentError, NotFoundError, UnavailableError
from tritonpy.supervisor.models.manager import ModelManager
from tritonpy.supervisor.models.scale import ScaleRequest
from tritonpy.supervisor.models.scaling import instance_states
from tritonpy.supervisor.settings import ControlMode, ModelControlSettings, Settings
from tritonpy.supervisor.workers.states import WorkerState

pytestmark = pytest.mark.anyio

ALL = 'backend: "identity" version_policy { all { } }\n'
GROUPS = 'instance_group [ { name: "a" count: 2 }, { name: "b" } ]\n'


class Bench:
    """A manager that serves model m, and its loader."""

    def __init__(self, path: Path) -> None:
        self.config = path / "m" / "config.pbtxt"
        self.path = path
        self.loader = FakeLoader()
        self.manager = ModelManager(Settings(), self.loader)

    async def start(
        self, mode: ControlMode = "explicit", text: str = ALL, versions: tuple[int, ...] = (1,)
    ) -> ModelManager:
        repository(self.path, "m", versions=versions)
        self.config.write_text(text)
        control = ModelControlSettings(mode=mode, startup=("m",) if mode == "explicit" else ())
        settings = Settings(repositories=(str(self.path),), models=control)
        self.manager = ModelManager(settings, self.loader)
        await self.manager.start()
        return self.manager

    async def scale(self, count: int, group: str | None = None, version: int | None = None) -> None:
        await self.manager.scaling.change("m", version, ScaleRequest(count, group))

    def counts(self) -> dict[str, list[tuple[str, int]]]:
        """Of each version, the groups and what they are to have."""
        found = self.manager.scaling.status("m", None)
        return {each.version: [(g.name, g.count) for g in each.groups] for each in found}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.manager.stop(0.0, 1.0)


@pytest.mark.parametrize("mode", ["none", "poll", "explicit"])
async def test_all_versions_are_scaled_in_place_in_every_mode(
    bench: Bench, mode: ControlMode
) -> None:
    manager = await bench.start(mode, versions=(1, 2))
    served = [manager.version("m", number) for number in (1, 2)]

    await bench.scale(3)

    assert bench.counts() == {"1": [("m", 3)], "2": [("m", 3)]}
    assert [manager.version("m", number) for number in (1, 2)] == served
    assert len(bench.loader.asked) == 2


async def test_one_version_and_one_group_are_scaled_alone(bench: Bench) -> None:
    await bench.start(text=ALL + GROUPS, versions=(1, 2))
    await bench.scale(4, "a", 2)
    assert bench.counts() == {"1": [("a", 2), ("b", 1)], "2": [("a", 4), ("b", 1)]}
    assert [plan.version for plan in bench.loader.changed] == [2]
    (only,) = bench.manager.scaling.status("m", 1)
    assert [one.name for one in only.instances] == ["m_0"]


async def test_counts_are_kept_over_reloads_of_the_same_groups(bench: Bench) -> None:
    manager = await bench.start(text=ALL + GROUPS)
    await bench.scale(5, "b")

    await manager.load("m", {})  # nothing to do
    assert bench.counts() == {"1": [("a", 2), ("b", 5)]}
    bench.config.write_text(ALL + GROUPS + "max_batch_size: 4\n")  # anew
    await manager.load("m", {})
    assert bench.counts() == {"1": [("a", 2), ("b", 5)]}
    (bench.path / "m" / "2").mkdir()  # one more version, and version 1 in place
    await manager.load("m", {})

    assert bench.counts() == {"1": [("a", 2), ("b", 5)], "2": [("a", 2), ("b", 5)]}
    assert [plan.version for plan in bench.loader.asked] == [1, 1, 2]


async def test_counts_are_kept_over_a_poll(bench: Bench) -> None:
    manager = await bench.start("poll")
    await bench.scale(3)
    bench.config.write_text(ALL + "max_batch_size: 4\n")

    await manager.poll()
    async with asyncio.timeout(20):
        while len(bench.loader.asked) < 2 or len(bench.loader.loaded) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        while manager.version("m", 1) is not bench.loader.last("m").version:  # noqa: ASYNC110
            await asyncio.sleep(0)

    assert bench.counts() == {"1": [("m", 3)]}


async def test_other_groups_in_the_file_take_the_place_of_counts_for_good(bench: Bench) -> None:
    manager = await bench.start()
    await bench.scale(3)
    bench.config.write_text(ALL + GROUPS)
    await manager.load("m", {})
    assert bench.counts() == {"1": [("a", 2), ("b", 1)]}
    bench.config.write_text(ALL)
    await manager.load("m", {})
    assert bench.counts() == {"1": [("m", 1)]}


async def test_a_load_that_fails_forgets_nothing(bench: Bench) -> None:
    manager = await bench.start()
    await bench.scale(3)
    bench.config.write_text(ALL + GROUPS)
    bench.loader.unchangeable.add("m")
    with pytest.raises(InvalidArgumentError):
        await manager.load("m", {})
    bench.loader.unchangeable.clear()
    bench.config.write_text(ALL + "max_batch_size: 4\n")
    await manager.load("m", {})
    assert bench.counts() == {"1": [("m", 3)]}


async def test_an_unload_forgets_counts(bench: Bench) -> None:
    manager = await bench.start()
    await bench.scale(3)
    await manager.unload("m")
    with pytest.raises(UnavailableError):
        await bench.scale(2, version=1)
    with pytest.raises(NotFoundError):
        bench.counts()
    await manager.load("m", {})
    assert bench.counts() == {"1": [("m", 1)]}


async def test_one_version_that_cannot_be_scaled_leaves_all_as_they_were(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = await bench.start(versions=(1, 2))
    await bench.scale(2)
    change = bench.loader.change_instances

    async def refusing(served: object, plan: object) -> object:
        if plan.version == 2:  # type: ignore[attr-defined]
            raise InvalidArgumentError("there is no room")
        return await change(served, plan)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.loader, "change_instances", refusing)
    message = "^model 'm' version 2 is not scaled: there is no room$"
    with pytest.raises(InvalidArgumentError, match=message):
        await bench.scale(3)

    assert bench.counts() == {"1": [("m", 2)], "2": [("m", 2)]}
    assert len(manager.statistics()) == 2
    monkeypatch.undo()
    bench.config.write_text(ALL + "max_batch_size: 4\n")
    await manager.load("m", {})
    assert bench.counts() == {"1": [("m", 2)], "2": [("m", 2)]}


async def test_a_change_waits_for_a_load_and_a_load_for_a_change(bench: Bench) -> None:
    manager = await bench.start()
    bench.loader.held["m"] = asyncio.Event()
    bench.loader.begun.clear()
    bench.config.write_text(ALL + "max_batch_size: 4\n")
    load = asyncio.create_task(manager.load("m", {}))
    await bench.loader.until_begun()
    change = asyncio.create_task(bench.scale(3))
    await asyncio.sleep(0)
    assert bench.loader.changed == []
    bench.loader.held["m"].set()
    await asyncio.gather(load, change)
    assert bench.counts() == {"1": [("m", 3)]}
    assert manager.version("m", 1) is bench.loader.last("m").version


async def test_unknown_models_versions_and_groups_are_refused(bench: Bench) -> None:
    manager = await bench.start()
    with pytest.raises(NotFoundError):
        await manager.scaling.change("nobody", None, ScaleRequest(1))
    with pytest.raises(NotFoundError):
        await bench.scale(2, version=7)
    with pytest.raises(InvalidArgumentError, match="no instance group 'x': there is 'm'"):
        await bench.scale(2, "x")
    assert bench.loader.changed == []
    assert repr(manager.scaling) == "<Scaling of <Registry of 1 models>>"


async def test_instances_are_counted_by_state() -> None:
    served = serve(instances=3)
    served.pool.fakes[0].state = WorkerState.BACKOFF
    counts = instance_states(served.version)
    assert {state: count for state, count in counts.items() if count} == {"BACKOFF": 1, "READY": 2}
    assert set(counts) == {state.value for state in WorkerState}
    await served.version.close(1.0)
