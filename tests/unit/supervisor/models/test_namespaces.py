"""Models of one name in several repositories, told apart by namespacing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.fakes import FakeLoader, identity_request, repository, until

from tritonpy.ipc.errors import InternalError, InvalidArgumentError, NotFoundError
from tritonpy.supervisor.controlplane import ControlPlane
from tritonpy.supervisor.models.manager import ModelManager
from tritonpy.supervisor.settings import ControlMode, ModelControlSettings, Settings

pytestmark = pytest.mark.anyio

AMBIGUOUS = (
    "There are 2 identifiers of model 'twice' in global map, model namespace must be provided to "
    "resolve ambiguity."
)


class Bench:
    """A manager with namespacing over two repositories that share a name."""

    def __init__(self, path: Path) -> None:
        self.loader = FakeLoader()
        self.first = str(repository(path / "first", "twice", "left"))
        self.second = str(repository(path / "second", "twice", "right"))
        self.managers: list[ModelManager] = []

    async def started(self, mode: ControlMode = "explicit", *startup: str) -> ModelManager:
        control = ModelControlSettings(mode=mode, startup=startup, namespacing=True, poll_secs=0)
        settings = Settings(repositories=(self.first, self.second), models=control)
        manager = ModelManager(settings, self.loader)
        self.managers.append(manager)
        await manager.start()
        return manager


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for manager in made.managers:
        await manager.stop(0.0, 1.0)


def index(manager: ModelManager) -> list[tuple[str, str, str]]:
    return [(line.namespace, line.name, line.state) for line in manager.index(ready=False)]


async def test_all_models_are_served_whatever_their_names(bench: Bench) -> None:
    manager = await bench.started("none")
    assert index(manager) == [
        (bench.first, "left", "READY"),
        (bench.first, "twice", "READY"),
        (bench.second, "right", "READY"),
        (bench.second, "twice", "READY"),
    ]
    assert manager.is_ready()
    assert manager.version("left", None).namespace == bench.first
    assert sorted(one.name for one in manager.statistics()) == ["left", "right", "twice", "twice"]


async def test_a_name_that_several_models_have_is_refused(bench: Bench) -> None:
    manager = await bench.started("none")
    plane = ControlPlane(manager, "triton", "1")
    for version in (None, 1, 9):
        with pytest.raises(InvalidArgumentError) as caught:
            await plane.is_model_ready("twice", version)
        assert caught.value.message == AMBIGUOUS
        for ask in (manager.version, plane.model_metadata, plane.model_config):
            with pytest.raises(InvalidArgumentError) as caught:
                ask("twice", version)
            assert caught.value.message == AMBIGUOUS
        with pytest.raises(InvalidArgumentError) as caught:
            plane.statistics("twice", version)
        assert caught.value.message == "requested model 'twice' is not available"
    assert manager.ready_versions("twice") == []
    assert manager.labelled("twice", "stable") is None


@pytest.mark.parametrize("home", ["first", "second"])
async def test_a_model_that_asks_means_the_one_in_its_own_repository(
    bench: Bench, home: str
) -> None:
    manager = await bench.started("none")
    namespace = getattr(bench, home)
    assert manager.version("twice", None, namespace).namespace == namespace
    assert manager.version("twice", 1, namespace).namespace == namespace


async def test_a_model_that_asks_means_one_elsewhere_if_it_is_the_only_one(bench: Bench) -> None:
    manager = await bench.started("none")
    assert manager.version("right", None, bench.first).namespace == bench.second
    with pytest.raises(InvalidArgumentError, match="There are 2 identifiers"):
        manager.version("twice", None, "a third")


async def test_a_load_loads_all_models_of_the_name_and_an_unload_unloads_them(bench: Bench) -> None:
    manager = await bench.started()
    await manager.load("twice", {})
    assert {plan.namespace for plan in bench.loader.asked} == {bench.first, bench.second}
    assert index(manager)[1] == (bench.first, "twice", "READY")
    assert index(manager)[3] == (bench.second, "twice", "READY")

    await manager.unload("twice")

    await until(
        lambda: (
            [state for _, name, state in index(manager) if name == "twice"]
            == ["UNAVAILABLE", "UNAVAILABLE"]
        )
    )
    with pytest.raises(NotFoundError) as caught:
        manager.version("twice", None)
    assert caught.value.message == "Identifier of model 'twice' is not found in global map"
    assert manager.is_ready()


async def test_what_nobody_has_asked_for_is_unknown_in_the_words_for_namespaces(
    bench: Bench,
) -> None:
    manager = await bench.started()
    for name in ("left", "twice", "nobody"):
        with pytest.raises(InvalidArgumentError) as caught:
            manager.version(name, None)
        assert caught.value.message == f"Request for unknown model: '{name}' is not found"


async def test_a_model_named_at_the_start_is_loaded_wherever_it_lies(bench: Bench) -> None:
    await bench.started("explicit", "twice", "left")
    assert {(plan.namespace, plan.name) for plan in bench.loader.asked} == {
        (bench.first, "twice"),
        (bench.second, "twice"),
        (bench.first, "left"),
    }


async def test_a_model_that_serves_is_told_with_its_namespace(bench: Bench) -> None:
    manager = await bench.started("explicit", "left")
    with pytest.raises(NotFoundError) as caught:
        manager.version("left", 9)
    assert caught.value.message == (
        f"Request for unknown model: '{bench.first}::left' version 9 is not found"
    )


async def test_a_load_that_fails_in_one_repository_serves_the_other(bench: Bench) -> None:
    manager = await bench.started()
    (Path(bench.second) / "twice" / "config.pbtxt").write_text("what is this")
    with pytest.raises(InternalError, match=f"failed to load '{bench.second}::twice', failed to"):
        await manager.load("twice", {})
    assert index(manager)[1] == (bench.first, "twice", "READY")
    assert index(manager)[3] == (bench.second, "twice", "UNAVAILABLE")
    # The broken one is wanted as well.
    with pytest.raises(InvalidArgumentError, match="There are 2 identifiers"):
        manager.version("twice", None)


async def test_loads_that_fail_in_both_repositories_are_told_as_one(bench: Bench) -> None:
    manager = await bench.started()
    bench.loader.broken["twice", 1] = InvalidArgumentError("bad weights")
    with pytest.raises(InvalidArgumentError) as caught:
        await manager.load("twice", {})
    reason = "version 1 is at UNAVAILABLE state: Invalid argument: bad weights;\n"
    assert caught.value.message == "".join(
        f"load failed for model '{namespace}::twice': {reason}"
        for namespace in (bench.first, bench.second)
    )


async def test_a_model_that_comes_with_the_request_lies_in_no_repository(bench: Bench) -> None:
    manager = await bench.started("explicit", "left")
    files: dict[str, str | bytes | int | bool] = {
        "config": '{"backend": "identity"}',
        "file:1/weights": b"",
    }
    await manager.load("left", files)
    assert ("", "left", "READY") in index(manager)
    assert (bench.first, "left", "READY") in index(manager)
    with pytest.raises(InvalidArgumentError, match="There are 2 identifiers"):
        manager.version("left", None)
    await manager.load("given", files)
    assert manager.version("given", None).namespace == ""


async def test_polling_follows_each_repository_by_itself(bench: Bench) -> None:
    manager = await bench.started("poll")
    kept = manager.version("twice", None, bench.first)
    (Path(bench.second) / "twice").rename(Path(bench.second) / ".gone")

    await manager.poll()

    await until(lambda: manager.ready_versions("twice") == [1])
    assert manager.version("twice", None) is kept
    (Path(bench.second) / ".gone").rename(Path(bench.second) / "twice")
    await manager.poll()
    await until(lambda: (bench.second, "twice", "READY") in index(manager))


async def test_requests_reach_the_model_that_was_found(bench: Bench) -> None:
    manager = await bench.started("none")
    one = manager.version("twice", None, bench.second)
    one.submit(identity_request("twice"), lambda _response: None)
    served = [made for made in bench.loader.loaded if made.version is one]
    assert served[0].version.running == 1
    served[0].pool.fakes[0].finishes()
