"""A model's own `is_ready`, asked by whoever wants to know whether a real server's model is."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tritonclient.grpc as grpcclient
from support import models
from support.clients import ask, eventually, get, post_json
from support.servers import RunningServer, serving

#: Is as ready as a file in the model's folder says; told "wait", execute waits until another is
#: there. What is asked at once is counted.
CODE = """
    import os
    import threading

    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.folder = args["model_repository"]
            self.lock = threading.Lock()

        {definition} is_ready(self):
            with open(os.path.join(self.folder, "asked"), "a") as log:
                log.write(".")
            with open(os.path.join(self.folder, "ready")) as file:
                text = file.read()
            if text == "hang":
                while not os.path.exists(os.path.join(self.folder, "go")):
                    {pause}
                return True
            if text == "raise":
                raise ValueError("the base is away")
            return {{"yes": True, "no": False, "odd": 1}}[text]

        def execute(self, requests):
            open(os.path.join(self.folder, "executing"), "w").close()
            while not os.path.exists(os.path.join(self.folder, "go")):
                threading.Event().wait(0.01)
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.zeros(1, np.float32))])
                for _ in requests
            ]
"""
PLAIN = CODE.format(definition="def", pause="threading.Event().wait(0.01)")
COROUTINE = CODE.format(definition="async def", pause="await asyncio.sleep(0.01)").replace(
    "import os\n", "import asyncio\n    import os\n", 1
)


class Asked:
    """A model whose answer the test decides."""

    def __init__(self, server: RunningServer, folder: Path) -> None:
        self.server = server
        self.name = folder.name
        self._folder = folder

    def says(self, text: str) -> None:
        (self._folder / "next").write_text(text)
        (self._folder / "next").rename(self._folder / "ready")

    def goes(self) -> None:
        (self._folder / "go").touch()

    @property
    def is_executing(self) -> bool:
        return (self._folder / "executing").exists()

    @property
    def times_asked(self) -> int:
        return len((self._folder / "asked").read_text())

    def is_ready(self) -> bool:
        """What HTTP and gRPC say, which is the same."""
        answer = get(self.server, f"/v2/models/{self.name}/ready")
        with grpcclient.InferenceServerClient(self.server.grpc) as client:
            by_grpc = client.is_model_ready(self.name)
        if answer.status != 200:
            assert (answer.status, answer.error) == (400, "Model version not ready")
        assert by_grpc is (answer.status == 200)
        return by_grpc


NAMES = {"plain": PLAIN, "coroutine": COROUTINE}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    for name, code in NAMES.items():
        for test in ("answers", "fails", "busy", "hangs"):
            folder = models.python_model(path, f"{name}_{test}", code, models.identity_config())
            (folder / "ready").write_text("yes")
    models.python_identity(path, "without")
    return path


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    arguments = ["--strict-readiness=false"]
    with serving(repository, arguments=arguments) as running:
        yield running


@pytest.mark.parametrize("kind", NAMES)
def test_the_model_decides(server: RunningServer, repository: Path, kind: str) -> None:
    model = Asked(server, repository / f"{kind}_answers")
    assert model.is_ready()

    model.says("no")
    assert not model.is_ready()

    model.says("yes")
    assert model.is_ready()
    assert get(server, "/v2/models/without/ready").status == 200


@pytest.mark.parametrize("kind", NAMES)
def test_an_exception_and_what_is_no_bool_are_no(
    server: RunningServer, repository: Path, kind: str
) -> None:
    model = Asked(server, repository / f"{kind}_fails")
    model.says("raise")
    assert not model.is_ready()
    server.wait_for_line(f"Asking model '{kind}_fails_0' whether it is ready failed:")
    server.wait_for_line("ValueError: the base is away")

    model.says("odd")
    assert not model.is_ready()
    server.wait_for_line("must return a boolean value, got int")

    model.says("yes")
    assert model.is_ready()


@pytest.mark.parametrize("kind", NAMES)
def test_a_busy_model_is_asked_beside(server: RunningServer, repository: Path, kind: str) -> None:
    model = Asked(server, repository / f"{kind}_busy")
    tensor = {"name": "IN", "datatype": "FP32", "shape": [1], "data": [1]}
    path, document = f"/v2/models/{model.name}/infer", {"inputs": [tensor]}
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(post_json, server, path, document)
        try:
            eventually(lambda: model.is_executing, "the model executes")
            assert model.is_ready()
            model.says("no")
            assert not model.is_ready()
        finally:
            model.goes()
        assert running.result().status == 200
    model.says("yes")
    assert model.is_ready()


def test_those_who_ask_at_once_share_one_answer(server: RunningServer, repository: Path) -> None:
    """And nobody waits for it longer than Triton's five seconds."""
    model = Asked(server, repository / "plain_hangs")
    model.says("hang")
    path = f"/v2/models/{model.name}/ready"
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: ask(server, "GET", path).status, range(4)))
    assert answers == [400] * 4
    assert model.times_asked == 1

    model.goes()
    eventually(model.is_ready, "the model is ready")


def test_server_readiness_asks_the_models_too(tmp_path: Path) -> None:
    folder = models.python_model(tmp_path, "m", PLAIN, models.identity_config())
    (folder / "ready").write_text("no")
    with serving(tmp_path) as server:
        model = Asked(server, folder)
        with grpcclient.InferenceServerClient(server.grpc) as client:
            assert get(server, "/v2/health/ready").status == 400
            assert not client.is_server_ready()

            model.says("yes")
            assert get(server, "/v2/health/ready").status == 200
            assert client.is_server_ready()

            server.workers("m")[0].kill()
            server.wait_for_line("model instance 'm_0' serves again")
            assert client.is_server_ready()
