"""Models on demand in a manager, on real folders and a loader that loads nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.fakes import SOON, FakeLoader, identity_request, repository, until

from tritonpy.ipc.errors import InternalError, NotFoundError, UnavailableError
from tritonpy.supervisor.models import residents
from tritonpy.supervisor.models.manager import ModelManager
from tritonpy.supervisor.models.model import ServedVersion
from tritonpy.supervisor.models.scale import ScaleRequest
from tritonpy.supervisor.settings import (
    ControlMode,
    ModelControlSettings,
    ResidencySettings,
    Settings,
)
from tritonpy.supervisor.workers import memory_use

pytestmark = pytest.mark.anyio

ON_DEMAND = "loaded on demand, at its next request"


class Bench:
    """Managers over a repository with two models, on a clock that the test moves."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = repository(path, "a", "b")
        self.loader = FakeLoader()
        self.managers: list[ModelManager] = []
        self.now = 0.0
        monkeypatch.setattr(residents, "_now", lambda: self.now)
        # Tests look when they want to.
        monkeypatch.setattr(residents, "_LOOK_SECS", 1e6)

    async def started(
        self,
        mode: ControlMode = "none",
        *startup: str,
        policy: str = "on-demand",
        namespacing: bool = False,
        **more: int,
    ) -> ModelManager:
        control = ModelControlSettings(
            mode=mode, startup=startup, poll_secs=0, namespacing=namespacing
        )
        residency = ResidencySettings(policy=policy, **more)  # type: ignore[arg-type]
        settings = Settings(repositories=(str(self.path),), models=control, residency=residency)
        manager = ModelManager(settings, self.loader)
        self.managers.append(manager)
        await manager.start()
        return manager

    def asked(self, name: str) -> int:
        """How often a model was loaded, or tried to be."""
        return sum(plan.name == name for plan in self.loader.asked)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    for manager in made.managers:
        await manager.stop(0.0, 1.0)


def index(manager: ModelManager) -> list[tuple[str, str, str, str]]:
    return [(one.name, one.version, one.state, one.reason) for one in manager.index(ready=False)]


async def test_nothing_is_loaded_before_its_first_request(bench: Bench) -> None:
    manager = await bench.started()
    assert bench.loader.asked == []
    assert index(manager) == [
        ("a", "", "UNAVAILABLE", ON_DEMAND),
        ("b", "", "UNAVAILABLE", ON_DEMAND),
    ]
    assert manager.is_ready()
    with pytest.raises(UnavailableError, match="'a' is loaded on demand, at its next request, and"):
        manager.version("a", None)
    with pytest.raises(UnavailableError):
        manager.version("a", 1)

    use = await manager.residents.use("a")

    assert manager.version("a", None).name == "a"
    assert index(manager)[0] == ("a", "1", "READY", "")
    assert bench.asked("b") == 0
    assert manager.residents.concerns("a")
    assert not manager.residents.concerns("nobody")
    use.release()
    use.release()


async def test_requests_that_come_while_it_loads_share_the_load(bench: Bench) -> None:
    manager = await bench.started()
    bench.loader.held["a"] = asyncio.Event()
    asking = [asyncio.create_task(manager.residents.use("a")) for _ in range(5)]
    await bench.loader.until_begun()
    assert index(manager)[0] == ("a", "1", "LOADING", "")
    assert manager.is_ready()
    assert not any(one.done() for one in asking)
    bench.loader.held["a"].set()
    for use in await asyncio.gather(*asking):
        use.release()
    assert bench.asked("a") == 1


async def test_a_request_waits_so_long_and_no_longer_and_the_load_goes_on(bench: Bench) -> None:
    manager = await bench.started(wait_secs=0)
    bench.loader.held["a"] = asyncio.Event()
    with pytest.raises(UnavailableError) as caught:
        await manager.residents.use("a")
    assert caught.value.message == (
        "model 'a' is loaded on demand and was not ready within 0 seconds; the load goes on, so "
        "try again, or raise --residency-wait-secs"
    )
    await bench.loader.until_begun()
    bench.loader.held["a"].set()
    await until(lambda: manager.ready_versions("a") == [1])
    (await manager.residents.use("a")).release()
    assert bench.asked("a") == 1
    # Who gave up uses nothing.
    bench.now = 1e6
    await manager.residents.look()
    assert manager.ready_versions("a") == []


async def test_a_client_that_goes_away_does_not_stop_the_load(bench: Bench) -> None:
    manager = await bench.started()
    bench.loader.held["a"] = asyncio.Event()
    asking = asyncio.create_task(manager.residents.use("a"))
    await bench.loader.until_begun()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    bench.loader.held["a"].set()
    await until(lambda: manager.ready_versions("a") == [1])


async def test_a_load_that_fails_is_told_and_not_tried_at_once_again(bench: Bench) -> None:
    manager = await bench.started()
    bench.loader.broken["a", 1] = InternalError("bad weights")
    message = "model 'a' cannot be loaded on demand: .* Internal: bad weights;"
    for _ in range(2):
        with pytest.raises(UnavailableError, match=message):
            await manager.residents.use("a")
    assert bench.asked("a") == 1
    assert index(manager)[0] == ("a", "1", "UNAVAILABLE", "Internal: bad weights")
    assert manager.is_ready()
    bench.loader.broken.clear()
    bench.now += 1
    (await manager.residents.use("a")).release()
    assert manager.ready_versions("a") == [1]


async def test_a_fault_of_ours_is_told_as_one(bench: Bench) -> None:
    manager = await bench.started()
    bench.loader.broken["a", 1] = ValueError("our own fault")
    with pytest.raises(UnavailableError, match="our own fault"):
        await manager.residents.use("a")


async def test_an_idle_model_is_unloaded_and_loaded_again(bench: Bench) -> None:
    manager = await bench.started(idle_secs=60)
    (await manager.residents.use("a")).release()
    bench.now = 59
    await manager.residents.look()
    assert manager.ready_versions("a") == [1]
    bench.now = 60
    await manager.residents.look()
    assert manager.ready_versions("a") == []
    await until(lambda: bench.loader.last("a").closed == ["closed"])
    await until(lambda: index(manager)[0] == ("a", "1", "UNAVAILABLE", ON_DEMAND))
    assert manager.is_ready()
    assert manager.statistics() == []
    (await manager.residents.use("a")).release()
    assert index(manager)[0] == ("a", "1", "READY", "")
    assert bench.asked("a") == 2


async def test_a_model_that_is_used_is_never_unloaded(bench: Bench) -> None:
    manager = await bench.started(idle_secs=60)
    use = await manager.residents.use("a")
    async with manager.residents.using("b"):
        manager.version("b", None).submit(identity_request("b"), lambda _response: None)
    bench.now = 1000
    await manager.residents.look()
    # One by a request that has not reached it yet, the other by one that came another way.
    assert (manager.ready_versions("a"), manager.ready_versions("b")) == ([1], [1])
    use.release()
    bench.loader.last("b").pool.fakes[0].finishes()
    bench.now = 1059
    await manager.residents.look()
    assert (manager.ready_versions("a"), manager.ready_versions("b")) == ([1], [1])
    bench.now = 1060
    await manager.residents.look()
    assert (manager.ready_versions("a"), manager.ready_versions("b")) == ([], [])


def ensemble(path: Path, name: str, step: str, more: str = "") -> None:
    """An ensemble of one step."""
    repository(path, name)
    (path / name / "config.pbtxt").write_text(f"""
        platform: "ensemble"
        input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
        output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }} ]
        ensemble_scheduling {{ step [ {{
          model_name: "{step}" model_version: -1
          input_map {{ key: "INPUT0" value: "INPUT0" }}
          output_map {{ key: "OUTPUT0" value: "OUTPUT0" }}
        }} ] }}
        {more}
    """)


ALWAYS = 'parameters { key: "residency" value: { string_value: "always" } }'


async def test_an_ensemble_on_demand_comes_with_its_steps_and_goes_before_them(
    bench: Bench,
) -> None:
    ensemble(bench.path, "e", "a")
    manager = await bench.started(idle_secs=60)
    assert bench.loader.asked == []
    (await manager.residents.use("e")).release()
    assert (manager.ready_versions("e"), manager.ready_versions("a")) == ([1], [1])
    assert bench.asked("b") == 0

    bench.now = 60
    (await manager.residents.use("e")).release()
    bench.now = 119
    await manager.residents.look()  # the step has not been used for as long as it takes
    assert (manager.ready_versions("e"), manager.ready_versions("a")) == ([1], [1])
    bench.now = 120
    await manager.residents.look()
    assert (manager.ready_versions("e"), manager.ready_versions("a")) == ([], [1])
    bench.now = 180
    await manager.residents.look()
    assert manager.ready_versions("a") == []
    assert manager.is_ready()

    # A step that comes back does not bring back the ensemble, which nobody asks for.
    (await manager.residents.use("a")).release()
    assert manager.ready_versions("e") == []
    (await manager.residents.use("e")).release()
    assert (manager.ready_versions("e"), manager.ready_versions("a")) == ([1], [1])


@pytest.mark.parametrize("mode", ["none", "poll", "explicit"])
async def test_a_step_on_demand_of_an_ensemble_that_is_not_stays_loaded(
    bench: Bench, mode: ControlMode
) -> None:
    ensemble(bench.path, "e", "a", ALWAYS)
    manager = await bench.started(mode, *(["e"] if mode == "explicit" else []), idle_secs=60)
    assert (manager.ready_versions("e"), manager.ready_versions("a")) == ([1], [1])
    bench.now = 1000
    await manager.residents.look()
    assert (manager.ready_versions("e"), manager.ready_versions("a")) == ([1], [1])
    assert manager.ready_versions("b") == []


@pytest.mark.parametrize(
    ("limits", "used", "free", "left"),
    [
        ({"max_bytes": 100}, 50, 0, "ab"),
        ({"max_bytes": 99}, 50, 0, "b"),
        ({"max_bytes": 10}, 50, 0, ""),
        ({"min_free_bytes": 30}, 50, 30, "ab"),
        ({"min_free_bytes": 30}, 50, 29, "b"),
        ({"min_free_bytes": 90}, 50, 10, ""),
    ],
)
async def test_when_memory_is_short_the_least_recently_used_goes_first(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, Any],
    used: int,
    free: int,
    left: str,
) -> None:
    def used_bytes(pids: list[object]) -> int:
        return used * len(pids)

    def pids(_served: ServedVersion) -> list[int]:
        return [1]

    monkeypatch.setattr(residents, "_pids", pids)
    monkeypatch.setattr(memory_use, "used_bytes", used_bytes)
    monkeypatch.setattr(memory_use, "free_bytes", lambda: free)
    manager = await bench.started(idle_secs=0, **limits)
    for name in "ba":
        (await manager.residents.use(name)).release()
        bench.now += 1
    (await manager.residents.use("b")).release()

    await manager.residents.look()

    assert "".join(name for name in "ab" if manager.ready_versions(name)) == left


async def test_a_model_may_say_for_itself_when_it_is_loaded(bench: Bench) -> None:
    for name, policy in (("a", "always"), ("b", "on-demand")):
        text = f'parameters {{ key: "residency" value: {{ string_value: "{policy}" }} }}'
        config = bench.path / name / "config.pbtxt"
        config.write_text(config.read_text() + text)
    for policy in ("always", "on-demand"):
        manager = await bench.started(policy=policy)
        assert index(manager) == [("a", "1", "READY", ""), ("b", "", "UNAVAILABLE", ON_DEMAND)]
        bench.now += 1e6
        await manager.residents.look()
        assert manager.ready_versions("a") == [1]


async def test_without_models_on_demand_there_is_nothing_to_ask(bench: Bench) -> None:
    manager = await bench.started(policy="always")
    assert not manager.residents
    assert manager.is_ready()
    bench.now += 1e6
    (await manager.residents.use("a")).release()
    await manager.residents.look()
    assert manager.ready_versions("a") == [1]
    assert bench.asked("a") == 1


async def test_a_model_with_another_value_is_refused(bench: Bench) -> None:
    config = bench.path / "a" / "config.pbtxt"
    text = 'parameters { key: "residency" value: { string_value: "sometimes" } }'
    config.write_text(config.read_text() + text)
    manager = await bench.started()
    assert "must be 'always' or 'on-demand', and is 'sometimes'" in index(manager)[0][3]


async def test_what_is_unknown_is_left_to_the_look_up(bench: Bench) -> None:
    manager = await bench.started()
    (await manager.residents.use("nobody")).release()
    with pytest.raises(NotFoundError):
        manager.version("nobody", None)


async def test_counts_of_instances_are_kept_while_a_model_is_not_loaded(bench: Bench) -> None:
    manager = await bench.started(idle_secs=60)
    (await manager.residents.use("a")).release()
    await manager.scaling.change("a", None, ScaleRequest(3))
    bench.now += 61
    await manager.residents.look()
    with pytest.raises(UnavailableError, match="'a' is loaded on demand, at its next request, and"):
        await manager.scaling.change("a", None, ScaleRequest(2))

    (await manager.residents.use("a")).release()

    (version,) = manager.scaling.status("a", None)
    assert [group.count for group in version.groups] == [3]


# --- with the control modes -------------------------------------------------------------------


async def test_in_explicit_mode_a_load_admits_and_loads_and_an_unload_dismisses(
    bench: Bench,
) -> None:
    manager = await bench.started("explicit", "b")
    assert index(manager) == [("a", "", "", ""), ("b", "", "UNAVAILABLE", ON_DEMAND)]
    (await manager.residents.use("a")).release()  # nobody has admitted it
    assert bench.loader.asked == []

    await manager.load("a", {})
    assert manager.ready_versions("a") == [1]
    bench.now = 1000
    await manager.residents.look()
    assert manager.ready_versions("a") == []
    (await manager.residents.use("a")).release()
    assert manager.ready_versions("a") == [1]

    await manager.unload("a")
    await manager.unload("b")
    await until(lambda: index(manager)[0] == ("a", "1", "UNAVAILABLE", "unloaded"))
    assert index(manager)[1] == ("b", "", "", "")
    (await manager.residents.use("a")).release()
    with pytest.raises(NotFoundError, match="has no available versions"):
        manager.version("a", None)
    assert not manager.residents


async def test_what_came_with_a_load_request_stays(bench: Bench) -> None:
    manager = await bench.started("explicit", "a")
    await manager.load("a", {"config": '{"backend": "identity"}'})
    bench.now = 1e6
    await manager.residents.look()
    assert manager.ready_versions("a") == [1]
    await manager.load("a", {})
    bench.now = 2e6
    await manager.residents.look()
    assert manager.ready_versions("a") == []


async def test_polling_follows_models_that_are_loaded_and_those_that_are_not(bench: Bench) -> None:
    manager = await bench.started("poll")
    (await manager.residents.use("a")).release()
    for name in "ab":
        config = bench.path / name / "config.pbtxt"
        config.write_text(config.read_text() + 'metric_tags { key: "x" value: "y" }\n')
    repository(bench.path, "c")
    await manager.poll()
    await until(lambda: bench.asked("a") == 2)
    await until(lambda: len(index(manager)) == 3)
    assert (bench.asked("b"), bench.asked("c")) == (0, 0)
    (bench.path / "b").rename(bench.path / ".b")
    async with asyncio.timeout(SOON):
        while [line[0] for line in index(manager)] != ["a", "c"]:
            await manager.poll()  # passes over a model that is still worked on
            await asyncio.sleep(0)
    (await manager.residents.use("c")).release()
    assert manager.ready_versions("c") == [1]


async def test_a_broken_model_that_was_mended_is_tried_at_once(bench: Bench) -> None:
    manager = await bench.started("poll")
    bench.loader.broken["a", 1] = InternalError("no")
    with pytest.raises(UnavailableError):
        await manager.residents.use("a")
    bench.loader.broken.clear()
    config = bench.path / "a" / "config.pbtxt"
    config.write_text(config.read_text() + 'metric_tags { key: "x" value: "y" }\n')
    await manager.poll()
    async with asyncio.timeout(SOON):
        # The clock stands still: without the poll it would be refused for ever.
        while not await loads(manager, "a"):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)
    assert manager.ready_versions("a") == [1]


async def loads(manager: ModelManager, model: str) -> bool:
    """Whether a request finds its model loaded."""
    try:
        (await manager.residents.use(model)).release()
    except UnavailableError:
        return False
    return True


async def test_with_namespaces_the_model_in_the_own_repository_is_loaded(bench: Bench) -> None:
    manager = await bench.started(namespacing=True)
    home = str(bench.path)
    (await manager.residents.use("a", home)).release()
    assert manager.version("a", None, home).namespace == home


async def test_who_waits_when_the_server_stops_is_told(bench: Bench) -> None:
    manager = await bench.started()
    bench.loader.held["a"] = asyncio.Event()
    asking = asyncio.create_task(manager.residents.use("a"))
    await bench.loader.until_begun()
    await manager.stop_loading()
    with pytest.raises(UnavailableError, match="the server is stopping"):
        await asking
    with pytest.raises(UnavailableError, match="the server is stopping"):
        await manager.residents.use("a")


async def test_looking_goes_on_by_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residents, "_LOOK_SECS", 0.0)
    manager = await bench.started(idle_secs=60)
    (await manager.residents.use("a")).release()
    bench.now = 60
    await until(lambda: manager.ready_versions("a") == [])
