"""Models that bring the Python that they run in along."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.http as http
from support import environments, models
from support.clients import post_json
from support.servers import START_TIMEOUT, RunningServer, launch, serving
from tritonclient.utils import InferenceServerException

#: Answers with what a model sees: a JSON text for each name of a module that it is asked to import.
INSPECTOR = """
    import importlib, json, os, subprocess, sys

    import numpy as np
    import triton_python_backend_utils as pb_utils

    def look(name):
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            return str(error)
        return getattr(module, "TEXT", module.__file__)

    class TritonPythonModel:
        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            names = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            seen = {name.decode(): look(name.decode()) for name in names}
            seen["version"] = "%d.%d" % sys.version_info[:2]
            seen["path"] = sys.path
            seen["environ"] = dict(os.environ)
            seen["prefix"] = sys.prefix
            seen["child"] = subprocess.run(
                [sys.executable, "-c", "import sys; print(sys.prefix)"],
                capture_output=True, text=True,
            ).stdout.strip()
            text = np.array([json.dumps(seen)], object)
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", text)])
"""


#: Has another model do half of the work, which takes most of what a worker can do.
CALLER = """
    import sys

    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            counter = pb_utils.MetricFamily.COUNTER
            self.family = pb_utils.MetricFamily("calls", "how many", counter)
            self.calls = self.family.Metric(labels={"version": args["model_version"]})

        async def execute(self, requests):
            return [await self.answer(request) for request in requests]

        async def answer(self, request):
            call = pb_utils.InferenceRequest(
                model_name="plain",
                requested_output_names=["OUT"],
                inputs=[pb_utils.get_input_tensor_by_name(request, "IN")],
            )
            answer = pb_utils.get_output_tensor_by_name(await call.async_exec(), "OUT")
            self.calls.increment(1)
            pb_utils.Logger.log_info("called from %d.%d" % sys.version_info[:2])
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", answer.as_numpy() * 2)])
"""


def inspector(repository: Path, name: str, path: str, *, python: str = "", more: str = "") -> Path:
    """A model that tells what it sees of its environment, which lies at a path."""
    texts = {"EXECUTION_ENV_PATH": path, "EXECUTION_ENV_PYTHON": python}
    parameters = "".join(
        f'parameters {{ key: "{key}" value: {{ string_value: "{text}" }} }}\n'
        for key, text in texts.items()
        if text
    )
    config = models.identity_config("TYPE_STRING", more=parameters + more)
    return models.python_model(repository, name, INSPECTOR, config)


def ask(client: http.InferenceServerClient, model: str, *modules: str) -> dict[str, object]:
    """What a model sees when it imports these modules."""
    tensor = http.InferInput("IN", [len(modules)], "BYTES")
    tensor.set_data_from_numpy(np.array(modules, object))
    seen: dict[str, object] = json.loads(client.infer(model, [tensor]).as_numpy("OUT")[0])
    return seen


def reason(client: http.InferenceServerClient, model: str) -> str:
    """Why a model does not serve."""
    (text,) = (
        line["reason"]
        for line in client.get_model_repository_index()
        if line["name"] == model and line.get("reason")
    )
    assert isinstance(text, str)
    return text


class Bench:
    """A repository and a cache of environments."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repository = path / "repository"
        self.repository.mkdir()
        self.cache = path / "cache"

    @contextmanager
    def serving(
        self, *arguments: str
    ) -> Generator[tuple[RunningServer, http.InferenceServerClient]]:
        """The repository's models, with a client."""
        with (
            serving(self.repository, arguments=(self.flag, *arguments)) as server,
            http.InferenceServerClient(server.http) as client,
        ):
            yield server, client

    @property
    def flag(self) -> str:
        return f"--environment-cache-directory={self.cache}"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_model_runs_in_the_virtual_environment_that_it_names(bench: Bench) -> None:
    environment = environments.environment(bench.path / "env")
    environments.add_module(environment, "only_here", "of the environment")
    folder = inspector(bench.repository, "m", str(environment))
    (folder / "1" / "beside.py").write_text("TEXT = 'of the version'\n")
    (folder / "above.py").write_text("TEXT = 'of the model'\n")
    models.python_identity(bench.repository, "plain")
    before = {path.name for path in environments.site_packages(environment).iterdir()}
    with bench.serving() as (server, client):
        modules = ("only_here", "beside", "above", "numpy", "tritonclient", "aiohttp")
        seen = ask(client, "m", *modules)

        assert seen["only_here"] == "of the environment"
        assert seen["beside"] == "of the version"
        assert seen["above"] == "of the model"
        assert str(server.runtime_directory) in str(seen["numpy"])
        assert seen["tritonclient"] == "No module named 'tritonclient'"
        assert seen["aiohttp"] == "No module named 'aiohttp'"
        assert seen["prefix"] == seen["child"] == str(environment)
        variables = seen["environ"]
        assert isinstance(variables, dict)
        assert variables["VIRTUAL_ENV"] == str(environment)
        assert variables["PATH"].startswith(f"{environment}/bin:")
        assert variables["LD_LIBRARY_PATH"].startswith(f"{environment}/lib")
        assert "CONDA_PREFIX" not in variables
        assert client.is_model_ready("plain")
    after = {path.name for path in environments.site_packages(environment).iterdir()}
    assert after - before <= {"__pycache__"}
    assert not bench.cache.exists()


def test_an_environments_own_numpy_is_preferred(bench: Bench) -> None:
    environment = environments.environment(bench.path / "env")
    packages = environments.site_packages(environment)
    own = Path(np.__file__).parent
    for path in (own, own.with_name("numpy.libs")):
        if path.exists():
            (packages / path.name).symlink_to(path)
    info = packages / "numpy-1.99.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.99\n")
    inspector(bench.repository, "m", str(environment))
    with bench.serving() as (_server, client):
        seen = ask(client, "m", "numpy")

    assert seen["numpy"] == str(packages / "numpy" / "__init__.py")
    assert "environments/msgspec-" in str(seen["path"])
    assert "environments/msgspec-numpy" not in str(seen["path"])


def test_a_worker_that_is_killed_comes_back_in_its_environment(bench: Bench) -> None:
    environment = environments.environment(bench.path / "env")
    environments.add_module(environment, "only_here", "of the environment")
    inspector(bench.repository, "m", str(environment))
    with bench.serving() as (server, client):
        (worker,) = server.workers("m")
        worker.kill()
        server.wait_for_line("model instance 'm_0' serves again")

        assert ask(client, "m", "only_here")["only_here"] == "of the environment"


def test_instances_that_are_added_later_run_in_the_environment_too(bench: Bench) -> None:
    environment = environments.packable(bench.path / "env")
    archive = environments.pack(environment, bench.path / "env.tar.gz")
    inspector(bench.repository, "m", str(archive))
    with bench.serving() as (server, _client):
        archive.unlink()  # what was loaded does not need it any more

        assert post_json(server, "/v2/models/m/instances", {"count": 3}).status == 200

        (kept,) = environments.kept(bench.cache, "archive")
        workers = server.workers("m")
        assert len(workers) == 3
        assert {worker.cmdline()[0] for worker in workers} == {str(kept / "tree/bin/python")}


def test_models_share_an_archive_that_is_unpacked_once_until_it_changes(bench: Bench) -> None:
    environment = environments.packable(bench.path / "env")
    (environment / "conda-meta").mkdir()
    environments.add_module(environment, "only_here", "the first")
    first = inspector(bench.repository, "first", "$$TRITON_MODEL_DIRECTORY/env.tar.gz")
    archive = environments.pack(environment, first / "env.tar.gz")
    second = inspector(bench.repository, "second", "$$TRITON_MODEL_DIRECTORY/copied.tar.gz")
    shutil.copy(archive, second / "copied.tar.gz")
    inspector(bench.repository, "third", str(archive))
    control = "--model-control-mode=explicit"
    with bench.serving(control, "--load-model=*") as (server, client):
        (kept,) = environments.kept(bench.cache, "archive")
        for model in ("first", "second", "third"):
            seen = ask(client, model, "only_here")
            assert seen["only_here"] == "the first"
            assert seen["prefix"] == seen["child"] == str(kept / "tree")
            variables = seen["environ"]
            assert isinstance(variables, dict)
            assert variables["CONDA_PREFIX"] == str(kept / "tree")
        assert server.log.count("unpacking the execution environment") == 1

        environments.add_module(environment, "only_here", "the second")
        environments.pack(environment, archive)
        client.load_model("first")

        assert ask(client, "first", "only_here")["only_here"] == "the second"
        assert ask(client, "second", "only_here")["only_here"] == "the first"
        assert server.log.count("unpacking the execution environment") == 2
    with bench.serving(control, "--load-model=first") as (server, client):
        assert ask(client, "first", "only_here")["only_here"] == "the second"
        assert "unpacking the execution environment" not in server.log


def test_two_servers_that_start_together_unpack_an_archive_once(bench: Bench) -> None:
    environment = environments.packable(bench.path / "env")
    environments.add_module(environment, "only_here", "of the environment")
    archive = environments.pack(environment, bench.path / "env.tar.gz")
    inspector(bench.repository, "m", str(archive))
    servers = [launch(bench.repository, arguments=(bench.flag,)) for _ in range(2)]
    try:
        for server in servers:
            server.wait_until_up()
            with http.InferenceServerClient(server.http) as client:
                assert ask(client, "m", "only_here")["only_here"] == "of the environment"
    finally:
        for server in servers:
            server.stop()
            shutil.rmtree(server.runtime_directory)

    logs = "".join(server.log for server in servers)
    assert logs.count("unpacking the execution environment") == 1
    assert len(environments.kept(bench.cache, "archive")) == 1


def test_a_backend_in_python_brings_an_environment_for_its_models(bench: Bench) -> None:
    environment = environments.packable(bench.path / "env")
    environments.add_module(environment, "only_here", "of the backend")
    backend = bench.path / "backends" / "mine"
    models.write(backend / "model.py", INSPECTOR)
    environments.pack(environment, backend / "pb_exec_env_model.py.tar.gz")
    config = models.identity_config("TYPE_STRING", backend="mine")
    models.write(bench.repository / "m" / "config.pbtxt", config)
    (bench.repository / "m" / "1").mkdir()
    with bench.serving(f"--backend-directory={backend.parent}") as (_server, client):
        assert ask(client, "m", "only_here")["only_here"] == "of the backend"


def test_why_an_environment_cannot_be_used_is_told_in_the_index(bench: Bench) -> None:
    empty = bench.path / "empty"
    (empty / "bin").mkdir(parents=True)
    bare = bench.path / "bare"
    (bare / "bin").mkdir(parents=True)
    (bare / "bin" / "activate").write_text("")
    text = bench.path / "text.tar.gz"
    text.write_text("no archive")
    evil = bench.path / "evil.tar.gz"
    with tarfile.open(evil, "w:gz") as archive:
        archive.add(text, "../../../escaped")
    packed = environments.pack(empty, bench.path / "packed.tar.gz")
    places = {
        "missing": "/nowhere/env.tar.gz",
        "empty": str(empty),
        "packed": str(packed),
        "bare": str(bare),
        "text": str(text),
        "evil": str(evil),
        "outside": "$$TRITON_MODEL_DIRECTORY/../../empty",
    }
    for name, place in places.items():
        inspector(bench.repository, name, place)
    models.python_identity(bench.repository, "plain")
    with bench.serving() as (_server, client):
        reasons = {name: reason(client, name) for name in places}
        assert client.is_model_ready("plain")

    activate = "The Python environment should contain an 'activate' script."
    assert reasons["missing"] == (
        "Internal: Failed to get the canonical path for /nowhere/env.tar.gz."
    )
    assert reasons["empty"] == f"Internal: Path {empty}/bin/activate does not exist. {activate}"
    assert reasons["packed"].endswith(f"/tree/bin/activate does not exist. {activate}")
    assert f"Path {bare}/bin/python does not exist." in reasons["bare"]
    used = "of model '{}' cannot be used: "
    assert used.format("text") + "it is no tar archive" in reasons["text"]
    assert used.format("evil") + "it holds '../../../escaped'" in reasons["evil"]
    assert "which leads out of the model's folder" in reasons["outside"]
    assert not list(bench.path.rglob("escaped"))
    # What was unpacked well is kept, although it is of no use.
    assert len(environments.kept(bench.cache, "archive")) == 1
    assert len([path for path in bench.cache.iterdir() if path.is_dir()]) == 1


def test_a_stub_of_tritons_beside_a_model_is_not_used(bench: Bench) -> None:
    folder = models.python_identity(bench.repository, "m")
    (folder / "triton_python_backend_stub").write_text("no program")
    with bench.serving() as (server, client):
        assert client.is_model_ready("m")
        assert server.log.count("triton_python_backend_stub in its folder is not used") == 1


def requirements(bench: Bench, name: str, text: str) -> Path:
    """A model whose environment is made of requirements; returns the model's folder."""
    place = "$$TRITON_MODEL_DIRECTORY/requirements.txt"
    folder = inspector(bench.repository, name, place)
    (folder / "requirements.txt").write_text(text)
    return folder


@pytest.mark.slow
def test_requirements_are_installed_once_for_all_models_and_servers(bench: Bench) -> None:
    environments.wheel(bench.path / "wheels", "only_here", "the first")
    text = f"--no-index\n--find-links {bench.path / 'wheels'}\nonly_here\n"
    for name in ("one", "two"):
        requirements(bench, name, text)
    control = "--model-control-mode=explicit"
    with bench.serving(control, "--load-model=*") as (server, client):
        for name in ("one", "two"):
            seen = ask(client, name, "only_here", "aiohttp")
            assert seen["only_here"] == "the first"
            assert seen["aiohttp"] == "No module named 'aiohttp'"
        (kept,) = environments.kept(bench.cache, "requirements")
        assert seen["prefix"] == str(kept / "tree")
        assert len(server.log.split("installing the execution environment")) == 2
        server.wait_for_line(r"execution environment '.*requirements\.txt': .*only.here")
    with bench.serving(control, "--load-model=one") as (server, client):
        assert ask(client, "one", "only_here")["only_here"] == "the first"
        assert "installing" not in server.log


@pytest.mark.slow
def test_requirements_are_installed_anew_when_what_they_name_has_changed(bench: Bench) -> None:
    wheels = bench.path / "wheels"
    environments.wheel(wheels, "only_here", "the first")
    requirements(bench, "m", f"--no-index\n--find-links {wheels}\nonly_here\n")
    with bench.serving("--model-control-mode=explicit", "--load-model=m") as (_server, client):
        assert ask(client, "m", "only_here")["only_here"] == "the first"

        environments.wheel(wheels, "only_here", "the second")
        client.unload_model("m")
        client.load_model("m")

        assert ask(client, "m", "only_here")["only_here"] == "the second"


@pytest.mark.slow
def test_requirements_that_cannot_be_installed_fail_the_load_with_what_pip_said(
    bench: Bench,
) -> None:
    requirements(bench, "m", "--no-index\nno-such-package==1.0\n")
    with bench.serving("--model-control-mode=explicit") as (_server, client):
        with pytest.raises(InferenceServerException, match="cannot be installed: it ended with"):
            client.load_model("m")

        told = reason(client, "m")
    assert "No matching distribution found for no-such-package==1.0" in told
    assert not [path for path in bench.cache.iterdir() if path.is_dir()]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_ends_what_it_installs(bench: Bench, how: signal.Signals) -> None:
    source = bench.path / "endless"
    source.mkdir()
    os.mkfifo(source / "pipe")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "endless"\nbackend-path = ["."]\n'
    )
    (source / "endless.py").write_text(f"open({str(source / 'pipe')!r}).read()\n")
    requirements(bench, "m", f"{source}\n")
    server = launch(bench.repository, arguments=(bench.flag,))
    try:
        server.wait_for_line("Getting requirements to build wheel: started")
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(how)
    finally:
        server.stop()
        gone, left = psutil.wait_procs(children, START_TIMEOUT)
        shutil.rmtree(server.runtime_directory)

    assert gone
    assert not left
    if how is signal.SIGTERM:  # else the next server clears it
        assert not [path for path in bench.cache.iterdir() if path.is_dir()]
    assert environments.kept(bench.cache, "requirements") == []


@pytest.fixture(scope="session")
def wheels() -> Path:
    """A folder with what workers need in all the Pythons of this machine, fetched once."""
    return environments.worker_wheels()


@pytest.mark.slow
@pytest.mark.parametrize("version", sorted(environments.interpreters()))
def test_a_model_runs_in_each_version_of_python(bench: Bench, version: str, wheels: Path) -> None:
    python = environments.interpreters()[version]
    environment = environments.environment(bench.path / "env", python)
    environments.add_module(environment, "only_here", "of the environment")
    before = {path.name for path in environments.site_packages(environment).iterdir()}
    folder = inspector(
        bench.repository, "m", str(environment), more="instance_group [{ count: 2 }]"
    )
    (folder / "1" / "beside.py").write_text("TEXT = 'of the version'\n")
    models.python_identity(bench.repository, "plain")
    place = f'parameters {{ key: "EXECUTION_ENV_PATH" value: {{ string_value: "{environment}" }} }}'
    config = models.identity_config(more=place)
    models.python_model(bench.repository, "caller", CALLER, config)
    with bench.serving(f"--worker-wheels={wheels}") as (server, client):
        seen = ask(client, "m", "only_here", "beside", "numpy", "tritonclient")

        assert seen["version"] == version
        assert seen["only_here"] == "of the environment"
        assert seen["beside"] == "of the version"
        assert seen["tritonclient"] == "No module named 'tritonclient'"
        if version in environments.foreign():
            (kept,) = environments.kept(bench.cache, "libraries")
            assert seen["numpy"] == str(kept / "tree" / "numpy" / "__init__.py")
        path = seen["path"]
        assert isinstance(path, list)
        assert not [each for each in path if each.startswith(sys.prefix)]
        installed = int(version in environments.foreign())
        assert server.log.count("installing what a worker needs") == installed
        assert len(server.workers("m")) == 2
        tensor = http.InferInput("IN", [100_000], "FP32")
        tensor.set_data_from_numpy(np.arange(100_000, dtype=np.float32))
        doubled = client.infer("caller", [tensor]).as_numpy("OUT")
        np.testing.assert_array_equal(doubled, np.arange(100_000, dtype=np.float32) * 2)
        server.wait_for_line(f"called from {version}")
    after = {path.name for path in environments.site_packages(environment).iterdir()}
    assert after - before <= {"__pycache__"}


@pytest.mark.slow
def test_requirements_are_installed_for_the_python_that_is_named(
    bench: Bench, wheels: Path
) -> None:
    version, python = max(
        environments.interpreters().items(), key=lambda each: int(each[0].removeprefix("3."))
    )
    environments.wheel(bench.path / "wheels", "only_here", "of the wheel")
    folder = inspector(
        bench.repository, "m", "$$TRITON_MODEL_DIRECTORY/requirements.txt", python=python
    )
    text = f"--no-index\n--find-links {bench.path / 'wheels'}\nonly_here\n"
    (folder / "requirements.txt").write_text(text)
    with bench.serving(f"--worker-wheels={wheels}") as (_server, client):
        seen = ask(client, "m", "only_here")

    assert seen["version"] == version
    assert seen["only_here"] == "of the wheel"


def test_requirements_may_be_for_a_python_that_is_not_here(bench: Bench) -> None:
    folder = inspector(
        bench.repository, "m", "$$TRITON_MODEL_DIRECTORY/requirements.txt", python="3.99"
    )
    (folder / "requirements.txt").write_text("")
    with bench.serving() as (_server, client):
        assert "there is no python3.99 on the server's PATH" in reason(client, "m")
