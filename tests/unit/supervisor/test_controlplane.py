"""The one door for everything that is not inference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.fakes import FakeLoader, repository

from tritonpy.ipc.errors import InvalidArgumentError, NotFoundError, UnavailableError
from tritonpy.supervisor.controlplane import EXTENSIONS, ControlPlane, TensorMetadata
from tritonpy.supervisor.models.manager import ModelManager
from tritonpy.supervisor.settings import ModelControlSettings, Settings
from tritonpy.supervisor.workers.states import WorkerState

pytestmark = pytest.mark.anyio


class Bench:
    """A control plane over a manager that loads nothing for real."""

    def __init__(self, path: Path) -> None:
        self.loader = FakeLoader()
        settings = Settings(
            repositories=(str(repository(path, "a", "b")),),
            models=ModelControlSettings(mode="explicit", startup=("a",)),
        )
        self.manager = ModelManager(settings, self.loader)
        self.plane = ControlPlane(self.manager, "my server", "1.2.3")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.manager.stop(0.0, 1.0)


@pytest.fixture
async def started(bench: Bench) -> Bench:
    await bench.manager.start()
    return bench


async def test_a_server_is_live_before_it_is_ready_and_neither_while_it_exits(
    bench: Bench,
) -> None:
    plane = bench.plane
    assert (plane.is_live(), await plane.is_ready(), plane.exiting) == (True, False, False)
    await bench.manager.start()
    assert (plane.is_live(), await plane.is_ready(), plane.exiting) == (True, True, False)
    plane.begin_exit()
    assert (plane.is_live(), await plane.is_ready(), plane.exiting) == (False, False, True)


async def test_the_server_says_who_it_is(bench: Bench) -> None:
    metadata = bench.plane.server_metadata()
    assert (metadata.name, metadata.version) == ("my server", "1.2.3")
    assert metadata.extensions == EXTENSIONS


async def test_a_model_is_ready_when_an_instance_runs(started: Bench) -> None:
    plane = started.plane
    (fake,) = started.loader.last("a").pool.fakes
    assert await plane.is_model_ready("a", None)
    assert await plane.is_model_ready("a", 1)
    for state in (WorkerState.BACKOFF, WorkerState.STARTING, WorkerState.LOADING):
        fake.dies(state)
        assert not await plane.is_model_ready("a", None)
        assert not await plane.is_ready()
    fake.becomes_ready()
    assert await plane.is_model_ready("a", None)


async def test_a_model_that_loads_or_was_unloaded_is_not_ready(started: Bench) -> None:
    plane = started.plane
    started.loader.held["b"] = asyncio.Event()
    started.loader.begun.clear()
    loading = asyncio.create_task(plane.load("b", {}))
    await started.loader.until_begun()
    assert not await plane.is_model_ready("b", 1)
    started.loader.held["b"].set()
    await loading
    await plane.unload("b", unload_dependents=False)
    assert not await plane.is_model_ready("b", 1)


@pytest.mark.parametrize(("model", "version"), [("nobody", None), ("a", 9), ("b", None)])
async def test_what_is_unknown_is_told_by_every_question(
    started: Bench, model: str, version: int | None
) -> None:
    plane = started.plane
    with pytest.raises(NotFoundError, match=f"unknown model: '{model}'"):
        await plane.is_model_ready(model, version)
    for ask in (plane.model_metadata, plane.model_config):
        with pytest.raises(NotFoundError, match=f"unknown model: '{model}'"):
            ask(model, version)


async def test_the_metadata_of_a_model_is_that_of_its_configuration(started: Bench) -> None:
    metadata = started.plane.model_metadata("a", None)

    assert (metadata.name, metadata.versions, metadata.platform) == ("a", ["1"], "identity")
    assert metadata.inputs == [TensorMetadata("INPUT0", "FP32", [-1])]
    assert metadata.outputs == [TensorMetadata("OUTPUT0", "FP32", [-1])]
    assert started.plane.model_metadata("a", 1).versions == ["1"]


async def test_the_shape_of_a_model_that_batches_begins_with_the_batch(started: Bench) -> None:
    version = started.loader.last("a").version
    version.config = type(version.config)(
        name="a",
        platform="onnxruntime_onnx",
        backend="onnxruntime",
        max_batch_size=8,
        input=version.config.input,
        output=version.config.output,
    )

    metadata = started.plane.model_metadata("a", None)

    assert metadata.platform == "onnxruntime_onnx"
    assert metadata.inputs[0].shape == [-1, -1]
    assert started.plane.model_config("a", None) is version.config


async def test_statistics_are_of_one_version_one_model_or_all(started: Bench) -> None:
    plane = started.plane
    await plane.load("b", {})

    assert [one.name for one in plane.statistics("", None)] == ["a", "b"]
    assert [one.name for one in plane.statistics("b", None)] == ["b"]
    assert [one.version for one in plane.statistics("b", 1)] == ["1"]


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("nobody", None, "requested model 'nobody' is not available"),
        ("nobody", 1, "requested model 'nobody' is not available"),
        ("a", 9, "requested model version is not available for model 'a'"),
    ],
)
async def test_statistics_of_what_does_not_serve_are_refused(
    started: Bench, model: str, version: int | None, message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        started.plane.statistics(model, version)
    assert caught.value.message == message


async def test_the_index_tells_what_serves_and_what_could(started: Bench) -> None:
    lines = [(one.name, one.version, one.state) for one in started.plane.index(ready=False)]
    assert lines == [("a", "1", "READY"), ("b", "", "")]
    assert [one.name for one in started.plane.index(ready=True)] == ["a"]


async def test_a_server_that_exits_loads_and_unloads_nothing(started: Bench) -> None:
    started.plane.begin_exit()
    with pytest.raises(UnavailableError, match="stopping"):
        await started.plane.load("b", {})
    with pytest.raises(UnavailableError, match="stopping"):
        await started.plane.unload("a", unload_dependents=False)
    assert started.manager.ready_versions("a") == [1]
