"""All models of a server, on real folders and a loader that loads nothing."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.fakes import SOON, FakeLoader, Served, identity_request, repository, until

from tritonpy.ipc.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from tritonpy.supervisor.models.deployer import WITHIN_A_LOAD
from tritonpy.supervisor.models.identifier import ModelIdentifier
from tritonpy.supervisor.models.manager import ModelManager
from tritonpy.supervisor.models.model import ServedVersion
from tritonpy.supervisor.request import InferResponse
from tritonpy.supervisor.settings import ControlMode, ModelControlSettings, Settings
from tritonpy.supervisor.workers.states import WorkerState

pytestmark = pytest.mark.anyio


class Bench:
    """A manager over a repository in the test's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loader = FakeLoader()
        self.retired: list[ServedVersion] = []
        self._managers: list[ModelManager] = []

    def manager(
        self,
        mode: ControlMode = "explicit",
        *,
        sticky: bool = False,
        strict: bool = True,
        **more: object,
    ) -> ModelManager:
        """A manager that is not started yet; further settings are those of model control."""
        control = ModelControlSettings(mode=mode, **more)  # type: ignore[arg-type]
        repositories = [self.path, *(one for one in [self.path / ".second"] if one.exists())]
        settings = Settings(
            repositories=tuple(map(str, repositories)),
            models=control,
            sticky_readiness=sticky,
            strict_readiness=strict,
        )
        made = ModelManager(settings, self.loader, self.retired.append)
        self._managers.append(made)
        return made

    async def started(
        self, mode: ControlMode = "explicit", *, sticky: bool = False, **more: object
    ) -> ModelManager:
        made = self.manager(mode, sticky=sticky, **more)  # type: ignore[arg-type]
        await made.start()
        return made

    async def close(self) -> None:
        for manager in self._managers:
            await manager.stop(0.0, 1.0)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.close()


def index(manager: ModelManager, *, ready: bool = False) -> list[tuple[str, str, str, str]]:
    return [(one.name, one.version, one.state, one.reason) for one in manager.index(ready)]


def busy(served: Served) -> list[InferResponse]:
    """Give it a request, which runs until `served.pool.fakes[0].finishes()`."""
    responses: list[InferResponse] = []
    served.version.submit(identity_request(), responses.append)
    return responses


def touch(path: Path) -> None:
    """Change a configuration so that the model has to be loaded anew."""
    text = path.read_text()
    path.write_text(text + f'metric_tags {{ key: "{len(text)}" value: "changed" }}\n')


# --- the start --------------------------------------------------------------------------------


async def test_everything_is_loaded_at_the_start(bench: Bench) -> None:
    repository(bench.path, "a", "b")
    manager = bench.manager("none")
    assert not manager.is_ready()

    await manager.start()

    assert index(manager) == [("a", "1", "READY", ""), ("b", "1", "READY", "")]
    assert manager.is_ready()
    assert manager.version("a", None).name == "a"
    assert manager.version("a", 1) is manager.version("a", None)
    assert manager.ready_versions("a") == [1]
    assert [one.name for one in manager.statistics()] == ["a", "b"]
    assert repr(manager) == "<ModelManager: 2 models, 2 versions ready>"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidArgumentError("no such file"), "Invalid argument: no such file"),
        (ValueError("our own fault"), "Internal: ValueError: our own fault"),
    ],
    ids=["expected", "unexpected"],
)
async def test_a_model_that_fails_fails_alone(
    bench: Bench, error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    repository(bench.path, "a", "b")
    bench.loader.broken["a", 1] = error

    with caplog.at_level(logging.ERROR):
        manager = await bench.started("none")

    assert index(manager) == [("a", "1", "UNAVAILABLE", reason), ("b", "1", "READY", "")]
    assert not manager.is_ready()
    assert f"failed to load 'a' version 1: {reason}" in caplog.text or "our own" in caplog.text
    with pytest.raises(NotFoundError, match="'a' has no available versions"):
        manager.version("a", None)
    with pytest.raises(UnavailableError, match="'a' version 1 is not at ready state"):
        manager.version("a", 1)


async def test_a_configuration_that_cannot_be_read_fails_alone(bench: Bench) -> None:
    repository(bench.path, "a", "b")
    (bench.path / "a" / "config.pbtxt").write_text("what is this")

    manager = await bench.started("none")

    (broken, fine) = index(manager)
    assert broken[:3] == ("a", "", "UNAVAILABLE")
    assert "config.pbtxt" in broken[3]
    assert fine == ("b", "1", "READY", "")


async def test_a_model_without_a_version_fails_alone(bench: Bench) -> None:
    repository(bench.path, "a", "b")
    (bench.path / "a" / "1").rmdir()

    manager = await bench.started("none")

    assert "at least one version must be available" in index(manager)[0][3]
    assert not manager.is_ready()


async def test_a_fault_of_ours_in_one_model_does_not_end_the_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    repository(bench.path, "a", "b")

    def fail(_self: object, model: ModelIdentifier) -> dict[str, tuple[int, int]]:
        if model.name == "a":
            raise OSError("the disk is on fire")
        return {}

    monkeypatch.setattr("tritonpy.supervisor.models.catalogue.Catalogue.fingerprint", fail)
    manager = await bench.started("none")

    assert manager.ready_versions("b") == [1]
    assert "the disk is on fire" in caplog.text


async def test_a_repository_that_cannot_be_read_ends_the_start(bench: Bench) -> None:
    bench.path = bench.path / "missing"
    with pytest.raises(InvalidArgumentError, match="does not exist"):
        await bench.started("none")


async def test_models_load_side_by_side_and_one_that_hangs_delays_nobody(bench: Bench) -> None:
    repository(bench.path, "a", "b")
    bench.loader.held["a"] = asyncio.Event()
    manager = bench.manager("none")
    starting = asyncio.create_task(manager.start())

    await until(lambda: manager.ready_versions("b") == [1])
    await until(lambda: index(manager)[0] == ("a", "1", "LOADING", ""))

    assert not manager.is_ready()
    assert not starting.done()
    bench.loader.held["a"].set()
    await starting
    assert manager.is_ready()


async def test_no_more_versions_load_at_once_than_allowed(bench: Bench) -> None:
    repository(bench.path, *"abcd")
    for name in "abcd":
        bench.loader.held[name] = asyncio.Event()
    manager = bench.manager("none", load_threads=2)
    starting = asyncio.create_task(manager.start())
    await until(lambda: [line[2] for line in index(manager)] == ["LOADING"] * 4)
    await until(lambda: len(bench.loader.asked) == 2)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(bench.loader.asked) == 2

    for event in bench.loader.held.values():
        event.set()
    await starting
    assert len(bench.loader.asked) == 4


async def test_what_a_model_loads_while_it_is_loaded_waits_for_no_other(bench: Bench) -> None:
    repository(bench.path, "a", "b")
    bench.loader.held["a"] = asyncio.Event()
    manager = await bench.started(load_threads=1)
    loading = asyncio.create_task(manager.load("a", {}))
    await until(lambda: len(bench.loader.asked) == 1)

    context = contextvars.copy_context()
    context.run(WITHIN_A_LOAD.set, True)
    async with asyncio.timeout(SOON):
        await asyncio.create_task(manager.load("b", {}), context=context)

    bench.loader.held["a"].set()
    await loading


async def test_in_explicit_mode_only_what_is_named_is_loaded(bench: Bench) -> None:
    repository(bench.path, "a", "b")

    manager = await bench.started(startup=("b", "missing"))

    assert index(manager) == [
        ("a", "", "", ""),
        ("b", "1", "READY", ""),
        ("missing", "", "UNAVAILABLE", index(manager)[2][3]),
    ]
    assert "no model repository has a model 'missing'" in index(manager)[2][3]
    assert index(manager, ready=True) == [("b", "1", "READY", "")]
    assert not manager.is_ready()


async def test_in_explicit_mode_a_star_names_everything(bench: Bench) -> None:
    repository(bench.path, "a", "b")
    manager = await bench.started(startup=("*",))
    assert len(index(manager, ready=True)) == 2


async def test_without_strict_readiness_a_failed_model_does_not_count(bench: Bench) -> None:
    repository(bench.path, "a")
    bench.loader.broken["a", 1] = InternalError("no")
    settings = Settings(repositories=(str(bench.path),), strict_readiness=False)
    manager = ModelManager(settings, bench.loader)
    assert not manager.is_ready()
    await manager.start()
    assert manager.is_ready()
    await manager.stop(0.0, 1.0)


# --- loading ----------------------------------------------------------------------------------


async def test_a_model_is_loaded_on_request(bench: Bench) -> None:
    repository(bench.path)
    manager = await bench.started()
    repository(bench.path, "late")

    await manager.load("late", {})

    assert manager.version("late", None).version == 1


async def test_loading_what_serves_and_has_not_changed_does_nothing(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started()

    await asyncio.gather(manager.load("a", {}), manager.load("a", {}))
    await manager.load("a", {})

    assert len(bench.loader.asked) == 1


async def test_a_model_whose_files_have_changed_is_reloaded_and_the_old_one_drains(
    bench: Bench,
) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    old = bench.loader.last("a")
    responses = busy(old)
    touch(bench.path / "a" / "config.pbtxt")

    await manager.load("a", {})

    new = bench.loader.last("a")
    assert new is not old
    assert manager.version("a", None) is new.version
    assert index(manager) == [("a", "1", "READY", "")]
    assert manager.all_served() == [new.version, old.version]
    assert [one.name for one in manager.statistics()] == ["a"]
    assert manager.running == 1
    assert old.closed == []
    old.pool.fakes[0].finishes()
    await until(lambda: old.closed == ["closed"])
    assert responses[0].error is None
    await until(lambda: bench.retired == [old.version])
    assert manager.all_served() == [new.version]


async def test_a_failed_reload_leaves_the_old_one_serving_and_is_tried_again(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    old = manager.version("a", None)
    touch(bench.path / "a" / "config.pbtxt")
    bench.loader.broken["a", 1] = InternalError("bad weights")

    with pytest.raises(InvalidArgumentError, match="bad weights"):
        await manager.load("a", {})
    with pytest.raises(InvalidArgumentError) as caught:
        await manager.load("a", {})

    assert caught.value.message == (
        "load failed for model 'a': version 1 is at UNAVAILABLE state: Internal: bad weights;\n"
    )
    assert manager.version("a", None) is old
    assert index(manager) == [("a", "1", "READY", "")]
    assert manager.is_ready()
    assert bench.retired == []
    bench.loader.broken.clear()
    await manager.load("a", {})
    assert manager.version("a", None) is not old


async def test_the_versions_of_one_load_serve_together_or_not_at_all(bench: Bench) -> None:
    repository(bench.path, "a", versions=(1, 2))
    (bench.path / "a" / "config.pbtxt").write_text('backend: "identity" version_policy: {all {}}')
    bench.loader.broken["a", 2] = InternalError("bad weights")
    manager = await bench.started()

    with pytest.raises(InvalidArgumentError, match="version 2 is at UNAVAILABLE state"):
        await manager.load("a", {})

    assert index(manager) == [
        ("a", "1", "UNAVAILABLE", "another version of the same load failed"),
        ("a", "2", "UNAVAILABLE", "Internal: bad weights"),
    ]
    assert bench.loader.last("a").closed == ["closed"]
    bench.loader.broken.clear()
    await manager.load("a", {})
    assert manager.ready_versions("a") == [1, 2]
    assert manager.version("a", None).version == 2


async def test_a_newer_version_takes_over(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    responses = busy(bench.loader.last("a"))
    old = bench.loader.last("a")
    (bench.path / "a" / "2").mkdir()

    await manager.load("a", {})

    assert index(manager) == [("a", "1", "UNLOADING", ""), ("a", "2", "READY", "")]
    assert manager.version("a", None).version == 2
    with pytest.raises(UnavailableError, match="version 1 is not at ready state"):
        manager.version("a", 1)
    old.pool.fakes[0].finishes()
    await until(lambda: index(manager)[0][2] == "UNAVAILABLE")
    assert index(manager)[0] == ("a", "1", "UNAVAILABLE", "unloaded")
    assert responses[0].error is None
    assert manager.is_ready()


async def test_a_configuration_may_be_given_and_is_forgotten_by_the_next_load(
    bench: Bench,
) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))

    await manager.load("a", {"config": '{"backend": "identity", "maxBatchSize": 8}'})
    assert bench.loader.asked[-1].config.max_batch_size == 8
    await manager.load("a", {"config": '{"backend": "identity", "maxBatchSize": 8}'})
    await manager.load("a", {})

    assert len(bench.loader.asked) == 4
    assert bench.loader.asked[-1].config.max_batch_size == 0


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"what": "x"}, InvalidArgumentError, "unrecognized load parameter 'what'."),
        ({"config": b"{}"}, InvalidArgumentError, "unrecognized load parameter 'config'."),
        ({"file:1/model.py": b""}, InternalError, "Load parameter 'config' must be specified"),
        ({"versions": "x"}, InvalidArgumentError, "must list version numbers"),
    ],
)
async def test_other_parameters_are_refused(
    bench: Bench,
    parameters: dict[str, str | bytes | int | bool],
    error: type[Exception],
    message: str,
) -> None:
    repository(bench.path, "a")
    manager = await bench.started()
    with pytest.raises(error, match=message):
        await manager.load("a", parameters)
    assert index(manager) == [("a", "", "", "")]


@pytest.mark.parametrize("name", ["", "../a", "a/b", " "])
async def test_a_name_that_is_no_folders_name_is_refused(bench: Bench, name: str) -> None:
    manager = await bench.started()
    with pytest.raises(InvalidArgumentError, match="invalid model name"):
        await manager.load(name, {})


async def test_a_model_that_is_in_no_repository_is_not_loaded(bench: Bench) -> None:
    manager = await bench.started()

    with pytest.raises(InternalError) as caught:
        await manager.load("a", {})

    assert caught.value.message == "failed to load 'a', failed to poll from model repository"
    assert index(manager) == []
    assert manager.is_ready()


async def test_a_model_in_two_repositories_is_not_loaded(bench: Bench) -> None:
    repository(bench.path, "a")
    repository(bench.path / ".second", "a")
    manager = await bench.started()

    with pytest.raises(InternalError, match="not unique across all model repositories"):
        await manager.load("a", {})

    reason = "model appears in two or more repositories"
    assert index(manager) == [("a", "", "UNAVAILABLE", reason)]


@pytest.mark.parametrize("mode", ["none", "poll"])
async def test_loading_and_unloading_is_for_explicit_mode_only(
    bench: Bench, mode: ControlMode
) -> None:
    repository(bench.path, "a")
    manager = await bench.started(mode, poll_secs=0)
    with pytest.raises(UnavailableError, match="not allowed if polling is enabled"):
        await manager.load("a", {})
    with pytest.raises(UnavailableError, match="not allowed if polling is enabled"):
        await manager.unload("a")


async def test_a_client_that_goes_away_does_not_stop_the_load(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started()
    bench.loader.held["a"] = asyncio.Event()
    asking = asyncio.create_task(manager.load("a", {}))
    await bench.loader.until_begun()

    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    assert index(manager) == [("a", "1", "LOADING", "")]
    bench.loader.held["a"].set()
    await until(lambda: manager.ready_versions("a") == [1])


# --- unloading --------------------------------------------------------------------------------


async def test_an_unloaded_model_finishes_what_it_has_and_takes_nothing_new(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    served = bench.loader.last("a")
    responses = busy(served)

    await manager.unload("a")

    assert index(manager) == [("a", "1", "UNLOADING", "")]
    assert manager.ready_versions("a") == []
    assert manager.statistics() == []
    assert manager.all_served() == [served.version]  # its counters do not vanish before it does
    with pytest.raises(NotFoundError, match="has no available versions"):
        manager.version("a", None)
    served.pool.fakes[0].finishes()
    await until(lambda: index(manager) == [("a", "1", "UNAVAILABLE", "unloaded")])
    assert responses[0].error is None
    assert bench.retired == [served.version]
    assert manager.is_ready()


async def test_a_model_may_be_loaded_again_while_it_still_finishes(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    old = bench.loader.last("a")
    responses = busy(old)
    await manager.unload("a")
    bench.loader.begun.clear()
    bench.loader.held["a"] = asyncio.Event()

    loading = asyncio.create_task(manager.load("a", {}))
    await bench.loader.until_begun()
    assert index(manager) == [("a", "1", "LOADING", "")]
    bench.loader.held["a"].set()
    await loading

    assert index(manager) == [("a", "1", "READY", "")]
    old.pool.fakes[0].finishes()
    await until(lambda: bench.retired == [old.version])
    assert index(manager) == [("a", "1", "READY", "")]
    assert manager.version("a", None) is bench.loader.last("a").version
    assert responses[0].error is None


async def test_a_failed_load_while_the_old_one_finishes_is_told(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    old = bench.loader.last("a")
    busy(old)
    await manager.unload("a")
    bench.loader.broken["a", 1] = InternalError("bad weights")

    with pytest.raises(InvalidArgumentError, match="bad weights"):
        await manager.load("a", {})

    old.pool.fakes[0].finishes()
    await until(lambda: bench.retired == [old.version])
    assert index(manager) == [("a", "1", "UNAVAILABLE", "Internal: bad weights")]


async def test_a_version_is_unloaded_when_what_was_unloaded_last_has_ended(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    first = bench.loader.last("a")
    busy(first)
    await manager.unload("a")
    await manager.load("a", {})
    second = bench.loader.last("a")
    busy(second)
    await manager.unload("a")

    first.pool.fakes[0].finishes()
    await until(lambda: bench.retired == [first.version])
    assert index(manager) == [("a", "1", "UNLOADING", "")]
    second.pool.fakes[0].finishes()
    await until(lambda: index(manager) == [("a", "1", "UNAVAILABLE", "unloaded")])


async def test_unloading_what_is_not_loaded_is_no_error(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started()
    await manager.unload("a")
    await manager.unload("nobody knows it")
    assert index(manager) == [("a", "", "", "")]


async def test_a_model_that_failed_counts_no_more_when_it_is_unloaded(bench: Bench) -> None:
    repository(bench.path, "a", "b")
    (bench.path / "b" / "config.pbtxt").write_text("what is this")
    bench.loader.broken["a", 1] = InternalError("no")
    manager = await bench.started()
    for name in ("a", "b"):
        with pytest.raises((InvalidArgumentError, InternalError)):
            await manager.load(name, {})
    assert not manager.is_ready()

    await manager.unload("a")
    assert not manager.is_ready()
    await manager.unload("b")

    assert manager.is_ready()
    assert index(manager) == [("a", "1", "UNAVAILABLE", "unloaded"), ("b", "", "", "")]
    with pytest.raises(NotFoundError, match="unknown model: 'b' is not found"):
        manager.version("b", None)


async def test_an_unload_waits_for_the_load_before_it(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started()
    bench.loader.held["a"] = asyncio.Event()
    loading = asyncio.create_task(manager.load("a", {}))
    await bench.loader.until_begun()
    unloading = asyncio.create_task(manager.unload("a"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not unloading.done()

    bench.loader.held["a"].set()
    await asyncio.gather(loading, unloading)

    await until(lambda: index(manager) == [("a", "1", "UNAVAILABLE", "unloaded")])


async def test_operations_that_waited_for_each_other_end_with_the_last_one(bench: Bench) -> None:
    repository(bench.path, "a")
    (bench.path / "a" / "config.pbtxt").write_text("what is this")
    manager = await bench.started()
    failing = asyncio.create_task(manager.load("a", {}))
    unloading = asyncio.create_task(manager.unload("a"))
    loading = asyncio.create_task(
        manager.load("a", {"config": '{"backend": "identity"}'}),
    )
    failed, unloaded, loaded = await asyncio.gather(
        failing, unloading, loading, return_exceptions=True
    )

    assert isinstance(failed, InternalError)
    assert unloaded is None
    assert loaded is None
    if manager.ready_versions("a"):
        assert manager.version("a", None).version == 1
    assert len(manager.all_served()) == len(bench.loader.loaded)


# --- a model whose workers keep crashing ------------------------------------------------------


async def test_a_version_whose_instances_were_all_given_up_is_unavailable_with_the_reason(
    bench: Bench,
) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    (fake,) = bench.loader.last("a").pool.fakes

    fake.dies(WorkerState.FATAL, "killed by SIGSEGV")

    assert index(manager) == [
        ("a", "1", "UNAVAILABLE", "Internal: killed by SIGSEGV; its last words: help")
    ]
    assert index(manager, ready=True) == []
    assert manager.ready_versions("a") == []
    assert not manager.is_ready()


async def test_a_version_that_is_started_again_is_not_ready_but_not_unavailable(
    bench: Bench,
) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    (fake,) = bench.loader.last("a").pool.fakes

    fake.dies(WorkerState.BACKOFF)
    assert index(manager) == [("a", "1", "READY", "")]
    assert not manager.is_ready()
    fake.becomes_ready()
    assert manager.is_ready()


async def test_a_version_that_was_given_up_is_loaded_again_though_nothing_has_changed(
    bench: Bench,
) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    dead = bench.loader.last("a")
    dead.pool.fakes[0].dies(WorkerState.FATAL)

    await manager.load("a", {})

    assert index(manager) == [("a", "1", "READY", "")]
    await until(lambda: bench.retired == [dead.version])


# --- polling ----------------------------------------------------------------------------------


async def test_polling_does_what_has_changed_and_nothing_else(bench: Bench) -> None:
    repository(bench.path, "changes", "goes", "stays")
    manager = await bench.started("poll", poll_secs=0)
    assert len(bench.loader.asked) == 3
    before = {name: manager.version(name, None) for name in ("changes", "stays")}
    touch(bench.path / "changes" / "config.pbtxt")
    (bench.path / "goes" / "config.pbtxt").unlink()
    (bench.path / "goes" / "1").rmdir()
    (bench.path / "goes").rmdir()
    repository(bench.path, "comes")

    await manager.poll()

    await until(lambda: manager.ready_versions("comes") == [1])
    await until(lambda: manager.version("changes", None) is not before["changes"])
    await until(lambda: ("goes", "1", "UNAVAILABLE", "unloaded") in index(manager))
    assert manager.version("stays", None) is before["stays"]
    assert [plan.name for plan in bench.loader.asked[3:]].count("stays") == 0


async def test_polling_does_not_try_a_broken_model_again_before_it_changes(bench: Bench) -> None:
    repository(bench.path, "a", "canary")
    bench.loader.broken["a", 1] = InternalError("no")
    manager = await bench.started("poll", poll_secs=0)
    asked = len(bench.loader.asked)

    touch(bench.path / "canary" / "config.pbtxt")
    await manager.poll()
    await until(lambda: len(bench.loader.asked) > asked)
    assert [plan.name for plan in bench.loader.asked[asked:]] == ["canary"]
    bench.loader.broken.clear()
    touch(bench.path / "a" / "config.pbtxt")
    await manager.poll()

    await until(lambda: manager.ready_versions("a") == [1])


async def test_a_model_that_takes_long_does_not_hold_up_the_polling_of_others(
    bench: Bench,
) -> None:
    manager = await bench.started("poll", poll_secs=0)
    repository(bench.path, "slow")
    bench.loader.held["slow"] = asyncio.Event()
    await manager.poll()
    await bench.loader.until_begun()
    repository(bench.path, "quick")

    await manager.poll()
    await manager.poll()

    await until(lambda: manager.ready_versions("quick") == [1])
    assert [plan.name for plan in bench.loader.asked].count("slow") == 1
    bench.loader.held["slow"].set()
    await until(lambda: manager.ready_versions("slow") == [1])


async def test_a_repository_that_cannot_be_read_for_a_while_changes_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    repository(bench.path, "a")
    manager = await bench.started("poll", poll_secs=0)
    moved = bench.path.with_name("moved away")
    bench.path.rename(moved)

    await manager.poll()

    assert "polling failed, nothing is changed" in caplog.text
    assert manager.ready_versions("a") == [1]
    moved.rename(bench.path)


async def test_polling_goes_on_by_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    polls = asyncio.Event()

    async def poll(_self: ModelManager) -> None:
        polls.set()

    monkeypatch.setattr(ModelManager, "poll", poll)
    await bench.started("poll", poll_secs=0.001)

    async with asyncio.timeout(SOON):
        await polls.wait()


# --- the end ----------------------------------------------------------------------------------


async def test_stopping_gives_up_what_is_being_loaded(bench: Bench) -> None:
    repository(bench.path, "a", versions=(1, 2))
    (bench.path / "a" / "config.pbtxt").write_text('backend: "identity" version_policy: {all {}}')
    manager = await bench.started()
    bench.loader.held["a"] = asyncio.Event()
    loading = asyncio.create_task(manager.load("a", {}))
    await bench.loader.until_begun()

    assert await manager.stop(60.0, 1.0) is True

    with pytest.raises(UnavailableError, match="the server is stopping"):
        await loading
    assert index(manager) == [
        ("a", "1", "UNAVAILABLE", "Unavailable: the server is stopping"),
        ("a", "2", "UNAVAILABLE", "Unavailable: the server is stopping"),
    ]


async def test_stopping_during_the_start_leaves_nothing(bench: Bench) -> None:
    repository(bench.path, "a", "b", "c")
    bench.loader.held["b"] = asyncio.Event()
    bench.loader.held["c"] = asyncio.Event()
    manager = bench.manager("none")
    starting = asyncio.create_task(manager.start())
    await until(lambda: manager.ready_versions("a") == [1])
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)

    assert await manager.stop(60.0, 1.0) is True

    assert [served.closed for served in bench.loader.loaded] == [["closed"]]


async def test_a_version_that_was_loaded_while_its_sibling_was_given_up_is_closed(
    bench: Bench,
) -> None:
    repository(bench.path, "a", versions=(1, 2))
    (bench.path / "a" / "config.pbtxt").write_text('backend: "identity" version_policy: {all {}}')
    loader = bench.loader
    hold = asyncio.Event()
    plain = loader.load

    async def load(plan: object) -> ServedVersion:
        if plan.version == 2:  # type: ignore[attr-defined]
            await hold.wait()
        return await plain(plan)  # type: ignore[arg-type]

    loader.load = load  # type: ignore[method-assign]
    manager = await bench.started()
    loading = asyncio.create_task(manager.load("a", {}))
    await until(lambda: len(loader.loaded) == 1)

    await manager.stop(60.0, 1.0)

    assert loader.loaded[0].closed == ["closed"]
    await asyncio.gather(loading, return_exceptions=True)


async def test_stopping_waits_for_requests_of_all_generations(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    old = bench.loader.last("a")
    old_responses = busy(old)
    touch(bench.path / "a" / "config.pbtxt")
    await manager.load("a", {})
    new = bench.loader.last("a")
    new_responses = busy(new)
    assert manager.running == 2

    stopping = asyncio.create_task(manager.stop(60.0, 1.0))
    for _ in range(3):
        await asyncio.sleep(0)
    old.pool.fakes[0].finishes()
    new.pool.fakes[0].finishes()

    assert await stopping is True
    assert old_responses[0].error is None
    assert new_responses[0].error is None
    assert old.closed == new.closed == ["closed"]
    assert sorted(bench.retired, key=id) == sorted([old.version, new.version], key=id)


async def test_what_did_not_finish_in_time_is_told(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    responses = busy(bench.loader.last("a"))

    assert await manager.stop(0.0, 1.0) is False

    assert isinstance(responses[0].error, UnavailableError)
    assert manager.running == 0


# --- readiness that stays ---------------------------------------------------------------------


@pytest.mark.parametrize("sticky", [False, True])
async def test_readiness_may_stay_once_the_models_of_the_start_were_ready(
    bench: Bench, sticky: bool
) -> None:
    repository(bench.path, "a", "b")
    bench.loader.broken["b", 1] = InternalError("no")
    manager = await bench.started(sticky=sticky, startup=("a",))
    assert manager.is_ready()
    with pytest.raises(InvalidArgumentError):
        await manager.load("b", {})
    assert manager.is_ready() is sticky


async def test_readiness_that_stays_begins_when_all_is_ready(bench: Bench) -> None:
    repository(bench.path, "a")
    bench.loader.broken["a", 1] = InternalError("no")
    manager = await bench.started(sticky=True, startup=("a",))
    assert not manager.is_ready()
    assert isinstance(manager.start_error, InvalidArgumentError)
    bench.loader.broken.clear()
    await manager.load("a", {})
    assert manager.is_ready()


# --- what models say of themselves --------------------------------------------------------------


async def test_with_strict_readiness_every_model_is_asked(bench: Bench) -> None:
    repository(bench.path, "a", "b")
    manager = await bench.started(startup=("a", "b"))
    (fake,) = bench.loader.last("b").pool.fakes
    assert await manager.check_ready()

    fake.says_ready = False
    assert not await manager.check_ready()
    assert manager.is_ready()

    fake.says_ready = True
    assert await manager.check_ready()
    assert fake.asked == 3


async def test_without_strict_readiness_no_model_is_asked(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started(strict=False, startup=("a",))
    (fake,) = bench.loader.last("a").pool.fakes
    fake.says_ready = False

    assert await manager.check_ready()
    assert not fake.asked


@pytest.mark.parametrize("sticky", [False, True])
async def test_what_models_said_may_stay(bench: Bench, sticky: bool) -> None:
    repository(bench.path, "a")
    manager = await bench.started(sticky=sticky, startup=("a",))
    (fake,) = bench.loader.last("a").pool.fakes
    fake.says_ready = False
    assert not await manager.check_ready()

    fake.says_ready = True
    assert await manager.check_ready()

    fake.says_ready = False
    assert await manager.check_ready() is sticky


# --- loads that are tried again, and what is kept ---------------------------------------------


async def test_a_load_that_fails_is_tried_again(bench: Bench) -> None:
    repository(bench.path, "a")
    bench.loader.broken["a", 1] = InternalError("no")
    manager = await bench.started(load_retries=2)
    with pytest.raises(InvalidArgumentError, match="Internal: no"):
        await manager.load("a", {})
    assert len(bench.loader.asked) == 3


async def test_other_instances_are_asked_for_in_place(bench: Bench) -> None:
    repository(bench.path, "a")
    manager = await bench.started(startup=("a",))
    served = manager.version("a", None)
    path = bench.path / "a" / "config.pbtxt"
    path.write_text(path.read_text() + "instance_group [ { count: 2 } ]\n")

    bench.loader.unchangeable.add("a")
    with pytest.raises(InvalidArgumentError, match="version 1 is at UNAVAILABLE state: Invalid"):
        await manager.load("a", {})
    assert index(manager) == [("a", "1", "READY", "")]

    bench.loader.unchangeable.clear()
    await manager.load("a", {})
    assert [plan.config.instance_group[0].count for plan in bench.loader.changed] == [2]
    assert manager.version("a", None) is served


async def test_a_new_version_whose_load_fails_leaves_the_old_one_alone(bench: Bench) -> None:
    repository(bench.path, "a", versions=(1,))
    (bench.path / "a" / "config.pbtxt").write_text('backend: "identity" version_policy { all { } }')
    manager = await bench.started(startup=("a",))
    served = manager.version("a", None)
    (bench.path / "a" / "2").mkdir()
    bench.loader.broken["a", 2] = InternalError("no")

    with pytest.raises(InvalidArgumentError, match="version 2 is at UNAVAILABLE"):
        await manager.load("a", {})

    assert manager.version("a", None) is served
    assert [plan.version for plan in bench.loader.asked] == [1, 2]


# --- labels -----------------------------------------------------------------------------------


async def test_labels_are_those_of_the_configuration_that_serves(bench: Bench) -> None:
    repository(bench.path, "a", versions=(1, 2))
    path = bench.path / "a" / "config.pbtxt"

    def label(text: str) -> None:
        value = f'{{ key: "version_labels" value: {{ string_value: "{text}" }} }}'
        path.write_text(f'backend: "identity" version_policy {{ all {{ }} }} parameters {value}')

    label("stable=1")
    manager = await bench.started(startup=("a",))
    assert manager.labelled("a", "stable") == 1
    assert manager.labelled("a", "canary") is None
    assert manager.labelled("b", "stable") is None
    label("stable")
    with pytest.raises(InternalError, match="'version_labels'"):
        await manager.load("a", {})
    assert manager.labelled("a", "stable") == 1
    label("stable=2")
    await manager.load("a", {})
    assert manager.labelled("a", "stable") == 2
    assert [plan.version for plan in bench.loader.asked] == [1, 2]
