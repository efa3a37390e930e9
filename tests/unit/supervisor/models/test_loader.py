"""From a folder to a served version, with real workers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support import models
from support.fakes import SOON, identity_request, until
from support.surroundings import real_surroundings

from tritonpy.ipc.errors import (
    InternalError,
    InvalidArgumentError,
    StatusError,
)
from tritonpy.supervisor.models.catalogue import Catalogue
from tritonpy.supervisor.models.identifier import ModelIdentifier
from tritonpy.supervisor.models.loader import Loader, pool_of
from tritonpy.supervisor.models.model import ServedVersion
from tritonpy.supervisor.models.preparation import Plan
from tritonpy.supervisor.request import InferResponse
from tritonpy.supervisor.settings import ModelControlSettings, Settings, WorkerSettings
from tritonpy.supervisor.workers import devices
from tritonpy.supervisor.workers.process import Surroundings

pytestmark = pytest.mark.anyio

#: A model that completes its own configuration.
DESCRIBED = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        @staticmethod
        def auto_complete_config(config):
            config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [4]})
            config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]})
            config.set_max_batch_size(0)
            return config

        def execute(self, requests):
            return [pb_utils.InferenceResponse([]) for _ in requests]
"""


class Bench:
    """A loader, and what it has loaded."""

    def __init__(self, path: Path, surroundings: Surroundings) -> None:
        self.path = path
        self.settings = Settings(
            repositories=(str(path),),
            models=ModelControlSettings(),
            workers=WorkerSettings(arena_byte_size=4 << 20),
        )
        self.surroundings = surroundings
        self.loader = Loader(self.settings, surroundings, self.find)
        self.served: list[ServedVersion] = []
        self.plans: dict[str, Plan] = {}

    def find(self, model: str, version: int | None, home: str) -> ServedVersion:
        """What was loaded under this name."""
        return next(one for one in self.served if one.name == model)

    async def load(self, name: str) -> ServedVersion:
        catalogue = Catalogue(self.settings)
        await catalogue.look()
        place = catalogue.place(ModelIdentifier("", name))
        config, source = catalogue.config(place)
        async with asyncio.timeout(SOON):
            plan = Plan(name, place.versions[-1], place.directory, config, source)
            self.plans[name] = plan
            made = await self.loader.load(plan)
        self.served.append(made)
        return made

    async def answer(self, served: ServedVersion) -> InferResponse:
        responses: list[InferResponse] = []
        served.submit(identity_request(), responses.append)
        await until(lambda: bool(responses))
        return responses[0]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    with real_surroundings() as surroundings:
        made = Bench(tmp_path, surroundings)
        yield made
        for served in made.served:
            assert await served.close(SOON)
        made.served.clear()


async def test_a_model_is_loaded_into_all_its_instances_and_answers(bench: Bench) -> None:
    models.identity(bench.path, "m", more="instance_group [{ count: 2 kind: KIND_CPU }]")

    served = await bench.load("m")

    assert [instance.name for instance in pool_of(served).instances] == ["m_0_0", "m_0_1"]
    assert pool_of(served).idle == 2
    assert served.snapshot().load_ns > 0
    response = await bench.answer(served)
    assert response.error is None
    assert [tensor.name for tensor in response.outputs] == ["OUTPUT0"]


async def test_a_model_completes_its_own_configuration(bench: Bench) -> None:
    models.python_model(bench.path, "m", DESCRIBED, 'backend: "python"')

    served = await bench.load("m")

    assert [tensor.name for tensor in served.config.input] == ["IN"]
    assert served.config.output[0].dims == [4]
    assert len(pool_of(served).instances) == 1


async def test_labels_are_read_with_the_model(bench: Bench) -> None:
    folder = models.identity(bench.path, "m")
    config = (folder / "config.pbtxt").read_text()
    (folder / "config.pbtxt").write_text(
        config.replace('name: "OUTPUT0"', 'name: "OUTPUT0" label_filename: "labels.txt"')
    )
    (folder / "labels.txt").write_text("cat\ndog\n")

    served = await bench.load("m")

    assert served.labels == {"OUTPUT0": ["cat", "dog"]}


async def test_instances_share_the_cores_and_give_them_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cores", lambda: 8)
    bench.loader = Loader(bench.settings, bench.surroundings, bench.find)
    models.identity(bench.path, "m")
    models.identity(bench.path, "broken", more="version_policy { specific { versions: [1] } }")
    (bench.path / "broken" / "config.pbtxt").write_text("""
        backend: "identity"
        input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [1] }]
        output [{ name: "OUTPUT7" data_type: TYPE_FP32 dims: [1] }]
    """)
    served = await bench.load("m")
    with pytest.raises(StatusError):
        await bench.load("broken")
    await served.close(SOON)
    await served.close(SOON)

    assert "0 instances" in repr(bench.loader._shares)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        pytest.param(
            'backend: "identity" input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [1] }]'
            'output [{ name: "OUTPUT7" data_type: TYPE_FP32 dims: [1] }]',
            InvalidArgumentError,
            "OUTPUT7",
            id="the backend refuses it",
        ),
        pytest.param(
            'backend: "identity" max_batch_size: -1'
            'input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [1] }]'
            'output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [1] }]',
            InvalidArgumentError,
            "max_batch_size",
            id="the configuration is wrong",
        ),
        pytest.param(
            'backend: "nonsense" input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [1] }]'
            'output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [1] }]',
            StatusError,
            "nonsense",
            id="there is no such backend",
        ),
        pytest.param(
            'backend: "python" instance_group [{ kind: KIND_GPU }]',
            InvalidArgumentError,
            "GPU",
            id="there is no GPU",
        ),
        pytest.param(
            'backend: "identity" input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [1] }]'
            'output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [1] '
            'label_filename: "none.txt" }]',
            StatusError,
            "none.txt",
            id="a label file is missing",
        ),
    ],
)
async def test_a_model_that_cannot_be_served_says_why_and_leaves_nothing(
    bench: Bench,
    text: str,
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_gpus(_backend: str) -> tuple[int, ...]:
        return ()

    monkeypatch.setattr(devices, "usable_gpus", no_gpus)
    models.identity(bench.path, "m")
    (bench.path / "m" / "config.pbtxt").write_text(text)

    with pytest.raises(error, match=message):
        await bench.load("m")

    assert bench.served == []


async def test_one_instance_that_fails_fails_the_version(bench: Bench) -> None:
    code = """
        import os, sys

        class TritonPythonModel:
            def initialize(self, args):
                if args["model_instance_name"].endswith("_1"):
                    print("no room for two", file=sys.stderr)
                    os._exit(3)

            def execute(self, requests):
                return []
    """
    config = models.identity_config(more="instance_group [{ count: 2 kind: KIND_CPU }]")
    models.python_model(bench.path, "m", code, config)

    with pytest.raises(InternalError, match=r"'m_0_1' exited with status 3.*no room for two"):
        await bench.load("m")


async def test_a_load_that_is_given_up_leaves_nothing(bench: Bench) -> None:
    code = """
        import os, threading

        class TritonPythonModel:
            def initialize(self, args):
                open(os.path.join(args["model_repository"], "begun"), "w").close()
                threading.Event().wait()

            def execute(self, requests):
                return []
    """
    folder = models.python_model(bench.path, "m", code, models.identity_config())
    loading = asyncio.create_task(bench.load("m"))
    await until(lambda: (folder / "begun").exists())

    loading.cancel()
    await asyncio.wait([loading], timeout=SOON)

    assert loading.cancelled()


async def test_what_a_model_asks_for_in_vain_is_told(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    models.identity(bench.path, "cached", more="response_cache { enable: true }")

    await bench.load("cached")

    assert "model 'cached' enables response_cache, and the server has no cache" in caplog.text


async def test_what_has_ended_goes_first_and_what_is_missing_is_started(bench: Bench) -> None:
    models.identity(bench.path, "m", more="instance_group [{ count: 2 kind: KIND_CPU }]")
    served = await bench.load("m")
    pool = pool_of(served)
    dead, alive = pool.instances
    await dead.stop(SOON)

    for count in (1, 3):
        plan = dataclasses.replace(bench.plans["m"], counts={"m_0": count})
        dismissed = await bench.loader.change_instances(served, plan)
        assert dismissed == ([dead] if count == 1 else [])
        await bench.loader.dismiss(served, dismissed, SOON, SOON)
        assert pool.instances[0] is alive
        assert served.config.instance_group[0].count == count
        assert len(pool.instances) == pool.idle == count
    assert (await bench.answer(served)).error is None
