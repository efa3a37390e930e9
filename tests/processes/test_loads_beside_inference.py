"""Loads disturb nobody: neither other models, nor those who use the model that is loaded anew."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import Answer, ask, eventually, index, post_json
from support.servers import RunningServer, serving

#: Computes in its initialization until there is a file.
BURNING = """
    import os

    class TritonPythonModel:
        def initialize(self, args):
            print("burning", flush=True)
            while not os.path.exists({path!r}):
                sum(range(10_000))

        def execute(self, requests):
            return []
"""
NUMBER = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                rows = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy().shape
                tensor = pb_utils.Tensor("OUT", np.full(rows, {value}, np.float32))
                responses.append(pb_utils.InferenceResponse([tensor]))
            return responses
"""
AGENT = """
    model_repository_agents {
      agents [ { name: "checksum" parameters { key: "MD5:pipe" value: "0" } } ]
    }
"""
LABELS = 'output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [1] label_filename: "pipe" } ]'
WARMUP = """
    model_warmup [ {
      name: "w"
      batch_size: 1
      inputs { key: "INPUT0" value { data_type: TYPE_FP32 dims: [1] input_data_file: "pipe" } }
    } ]
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    models.identity(repository, "steady")
    arguments = ["--model-control-mode=explicit", "--load-model=steady"]
    with serving(repository, arguments=arguments) as running:
        yield running


def load(server: RunningServer, model: str) -> Answer:
    return ask(server, "POST", f"/v2/repository/models/{model}/load")


def answers(server: RunningServer, count: int) -> None:
    """Have the steady model answer so many requests."""
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [5]}
    for _ in range(count):
        answer = post_json(server, "/v2/models/steady/infer", {"inputs": [tensor]})
        assert answer.status == 200, answer.body
        assert answer.json["outputs"][0]["data"] == [5]


def test_a_model_that_computes_while_it_loads_keeps_nobody_from_answering(
    server: RunningServer, repository: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    models.python_model(
        repository, "burning", BURNING.format(path=str(go)), models.identity_config()
    )
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, server, "burning")
        server.wait_for_line("burning")
        answers(server, 100)
        assert index(server)["burning", "1"][0] == "LOADING"
        assert not loading.done()
        go.touch()
        assert loading.result(timeout=30).status == 200


@pytest.mark.parametrize(
    ("name", "more", "pipe"),
    [
        ("checked", AGENT, "pipe"),
        ("labelled", LABELS, "pipe"),
        ("warm", WARMUP, "warmup/pipe"),
    ],
    ids=["checksum", "labels", "warm-up"],
)
def test_files_that_cannot_be_read_at_once_keep_nobody_from_answering(
    server: RunningServer, repository: Path, name: str, more: str, pipe: str
) -> None:
    """A pipe that nobody writes to yet blocks whoever reads it, as a slow disk does."""
    models.identity(repository, name, dims=[1])
    config = repository / name / "config.pbtxt"
    text = config.read_text()
    if "label_filename" in more:
        text = text[: text.index("output [")]
    config.write_text(text + more)
    path = repository / name / pipe
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, server, name)
        with path.open("wb") as writer:  # waits until the server reads
            answers(server, 20)
            assert not loading.done()
            writer.write(b"0123")
        assert loading.result(timeout=30).status in (200, 500)


def ask_http(server: RunningServer, stop: threading.Event, seen: list[float]) -> None:
    tensor = httpclient.InferInput("IN", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
    with httpclient.InferenceServerClient(server.http) as client:
        while not stop.is_set():
            answer = client.infer("served", [tensor]).as_numpy("OUT")
            assert answer is not None
            seen.append(answer.item())


def ask_grpc(server: RunningServer, stop: threading.Event, seen: list[float]) -> None:
    tensor = grpcclient.InferInput("IN", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
    answers: SimpleQueue[object] = SimpleQueue()

    def keep(result: object, error: object) -> None:
        answers.put(error or result)

    with grpcclient.InferenceServerClient(server.grpc) as client:
        while not stop.is_set():
            for _ in range(8):
                client.async_infer("served", [tensor], keep)
            for _ in range(8):
                answer = answers.get(timeout=30)
                assert isinstance(answer, grpcclient.InferResult), answer
                values = answer.as_numpy("OUT")
                assert values is not None
                seen.append(values.item())


def test_no_request_is_dropped_while_its_model_is_loaded_anew_again_and_again(
    server: RunningServer, repository: Path
) -> None:
    config = models.identity_config(max_batch_size=4, dims=[1], more="dynamic_batching { }")

    def write(value: int, version: int = 1) -> None:
        code = NUMBER.format(value=value)
        models.python_model(repository, "served", code, config, version)
        assert load(server, "served").status == 200

    write(0)
    stop = threading.Event()
    seen: list[float] = []
    clients: list[Callable[[RunningServer, threading.Event, list[float]], None]] = [
        ask_http,
        ask_http,
        ask_grpc,
    ]
    with ThreadPoolExecutor(len(clients)) as pool:
        asking = [pool.submit(client, server, stop, seen) for client in clients]
        try:
            for value, version in ((1, 1), (2, 2), (3, 2), (4, 3)):
                write(value, version)
                eventually(lambda value=value: value in seen, "the new one answers")
        finally:
            stop.set()
        for client in asking:
            client.result(timeout=30)
    assert set(seen) == {0, 1, 2, 3, 4}
