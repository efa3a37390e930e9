"""Loading, reloading and unloading models on request, over HTTP and gRPC."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import (
    Answer,
    ask,
    eventually,
    get,
    grpc_error,
    grpc_stub,
    index,
    post_json,
)
from support.servers import RunningServer, serving
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

VERSION = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            tensor = pb_utils.Tensor("OUT", np.array([{value}], np.float32))
            return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""
#: Answers when the file beside it says so.
SLOW = """
    import os
    import time

    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            print("executing", flush=True)
            while not os.path.exists({path!r}):
                time.sleep(0.01)
            tensors = [pb_utils.get_input_tensor_by_name(r, "IN") for r in requests]
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())])
                for tensor in tensors
            ]
"""
BROKEN = """
    class TritonPythonModel:
        def initialize(self, args):
            raise ValueError("no")

        def execute(self, requests):
            return []
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    models.python_identity(repository, "first")
    models.identity(repository, "other")
    arguments = ["--model-control-mode=explicit", "--load-model=first"]
    with serving(repository, arguments=arguments) as running:
        yield running


def load(server: RunningServer, model: str, **parameters: Any) -> Answer:
    path = f"/v2/repository/models/{model}/load"
    return post_json(server, path, {"parameters": parameters} if parameters else {})


def unload(server: RunningServer, model: str) -> None:
    """Unload and wait until that is done."""
    answer = ask(server, "POST", f"/v2/repository/models/{model}/unload")
    assert (answer.status, answer.body) == (200, b"")
    eventually(
        lambda: all(
            state == "UNAVAILABLE" and reason == "unloaded"
            for (name, version), (state, reason) in index(server).items()
            if name == model and version
        ),
        f"{model} is unloaded",
    )


def infer(server: RunningServer, model: str, value: float = 1) -> float:
    tensor = {"name": "IN", "datatype": "FP32", "shape": [1], "data": [value]}
    answer = post_json(server, f"/v2/models/{model}/infer", {"inputs": [tensor]})
    assert answer.status == 200, answer.body
    return float(answer.json["outputs"][0]["data"][0])


def version_of(repository: Path, name: str, value: float, version: int = 1) -> None:
    """A model that answers with a number."""
    code = VERSION.format(value=value)
    models.python_model(repository, name, code, models.identity_config(), version)


def is_ready(server: RunningServer) -> bool:
    return get(server, "/v2/health/ready").status == 200


def test_only_what_was_asked_for_is_loaded_at_the_start(server: RunningServer) -> None:
    found = index(server)
    assert found["first", "1"] == ("READY", "")
    assert found["other", ""] == ("", "")
    assert is_ready(server)
    answer = get(server, "/v2/models/other")
    message = "Request for unknown model: 'other' is not found"
    assert (answer.status, answer.error) == (404, message)


def test_a_model_is_loaded_and_unloaded_over_http(server: RunningServer, repository: Path) -> None:
    version_of(repository, "http", 5)
    with httpclient.InferenceServerClient(server.http) as client:
        client.load_model("http")
        assert client.is_model_ready("http")
        assert infer(server, "http") == 5
        (worker,) = server.workers("http")
        client.unload_model("http")
    unload(server, "http")
    worker.wait(30)  # gone, and its memory with it
    assert server.workers("http") == []
    assert is_ready(server)
    answer = get(server, "/v2/models/http")
    message = "Request for unknown model: 'http' has no available versions"
    assert (answer.status, answer.error) == (404, message)
    answer = get(server, "/v2/models/http/versions/1")
    message = "Request for unknown model: 'http' version 1 is not at ready state"
    assert (answer.status, answer.error) == (503, message)
    answer = get(server, "/v2/models/http/stats")
    assert (answer.status, answer.error) == (400, "requested model 'http' is not available")


def test_a_model_is_loaded_and_unloaded_over_grpc(server: RunningServer, repository: Path) -> None:
    version_of(repository, "grpc", 6)
    with grpcclient.InferenceServerClient(server.grpc) as client:
        client.load_model("grpc")
        assert client.is_model_ready("grpc")
        assert infer(server, "grpc") == 6
        client.unload_model("grpc")
        with pytest.raises(InferenceServerException, match="has no available versions"):
            client.is_model_ready("grpc")


def test_unloading_what_is_not_loaded_is_no_error(server: RunningServer) -> None:
    for model in ("other", "nope"):
        assert ask(server, "POST", f"/v2/repository/models/{model}/unload").status == 200
    with grpcclient.InferenceServerClient(server.grpc) as client:
        client.unload_model("nope")
    assert ("nope", "") not in index(server)


def test_a_model_that_does_not_exist_cannot_be_loaded(server: RunningServer) -> None:
    message = "failed to load 'nope', failed to poll from model repository"
    answer = load(server, "nope")
    assert (answer.status, answer.error) == (500, message)
    with grpc_stub(server) as stub:
        call = partial(stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="nope"))
        assert grpc_error(call) == ("INTERNAL", message)
    assert is_ready(server)


@pytest.mark.parametrize("name", ["..", "%2E%2E", "a%2Fb", "%20", "..%2F..%2Fetc", "a..b", "%00"])
def test_names_that_are_no_folder_are_refused(server: RunningServer, name: str) -> None:
    answer = ask(server, "POST", f"/v2/repository/models/{name}/load")
    if (
        "%" in name and ".." not in name
    ):  # what is spelt is no name, so the segment is taken as it is
        assert answer.status == 500
        assert answer.error == f"failed to load '{name}', failed to poll from model repository"
    else:
        assert answer.status == 400
        assert answer.error.startswith("invalid model name")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (
            "{",
            500,
            "failed to parse the request JSON buffer: Missing a name for object member. at 1 "
            "(line 1, column 2)",
        ),
        ('{"parameters":5}', 500, "attempt to get members for non-object"),
        ('{"parameters":{"config":5}}', 500, "attempt to access JSON non-string as string"),
        ('{"parameters":{"foo":"x"}}', 500, "unexpected error on creating Triton parameter"),
    ],
)
def test_a_load_request_that_is_wrong_is_refused(
    server: RunningServer, body: str, status: int, message: str
) -> None:
    answer = ask(server, "POST", "/v2/repository/models/first/load", body)
    assert (answer.status, answer.error) == (status, message)


def test_a_load_request_over_grpc_that_is_wrong_is_refused(server: RunningServer) -> None:
    for parameters, message in (
        (
            {"foo": pb.ModelRepositoryParameter(string_param="x")},
            "unrecognized load parameter 'foo'.",
        ),
        (
            {"config": pb.ModelRepositoryParameter(int64_param=3)},
            "invalid value type for load parameter 'config', expected string_param.",
        ),
    ):
        request = pb.RepositoryModelLoadRequest(model_name="first", parameters=parameters)
        with grpc_stub(server) as stub:
            call = partial(stub.RepositoryModelLoad, request)
            assert grpc_error(call) == ("INVALID_ARGUMENT", message)


def test_loading_again_what_has_not_changed_does_nothing(
    server: RunningServer, repository: Path
) -> None:
    (worker,) = server.workers("first")
    assert load(server, "first").status == 200
    assert [one.pid for one in server.workers("first")] == [worker.pid]


def test_a_reload_takes_over_when_it_is_ready(server: RunningServer, repository: Path) -> None:
    version_of(repository, "changing", 1)
    assert load(server, "changing").status == 200
    (old,) = server.workers("changing")
    assert infer(server, "changing") == 1
    version_of(repository, "changing", 22)
    assert load(server, "changing").status == 200
    assert infer(server, "changing") == 22
    old.wait(30)
    assert len(server.workers("changing")) == 1


def test_a_new_version_replaces_the_old_one(server: RunningServer, repository: Path) -> None:
    version_of(repository, "versions", 1)
    assert load(server, "versions").status == 200
    version_of(repository, "versions", 2, version=2)
    assert load(server, "versions").status == 200
    assert infer(server, "versions") == 2
    assert get(server, "/v2/models/versions").json["versions"] == ["2"]
    eventually(
        lambda: index(server)["versions", "1"] == ("UNAVAILABLE", "unloaded"),
        "version 1 is unloaded",
    )
    assert is_ready(server)


def test_a_reload_that_fails_leaves_the_old_one_serving(
    server: RunningServer, repository: Path
) -> None:
    version_of(repository, "stubborn", 3)
    assert load(server, "stubborn").status == 200
    (worker,) = server.workers("stubborn")

    models.write(repository / "stubborn" / "1" / "model.py", BROKEN)
    answer = load(server, "stubborn")
    assert answer.status == 400
    assert answer.error.startswith(
        "load failed for model 'stubborn': version 1 is at UNAVAILABLE state: Internal: "
        "ValueError: no"
    )
    (repository / "stubborn" / "config.pbtxt").write_text("garbage")
    answer = load(server, "stubborn")
    assert answer.status == 500
    assert answer.error.startswith(
        "failed to load 'stubborn', failed to poll from model repository: failed to read text "
    )
    (repository / "stubborn" / "config.pbtxt").write_text(models.identity_config())
    models.write(repository / "stubborn" / "2" / "model.py", BROKEN)
    assert load(server, "stubborn").status == 400

    assert index(server)["stubborn", "1"] == ("READY", "")
    assert infer(server, "stubborn") == 3
    assert [one.pid for one in server.workers("stubborn")] == [worker.pid]
    assert is_ready(server)
    unload(server, "stubborn")


def test_a_first_load_that_fails_makes_the_server_unready_until_it_is_unloaded(
    server: RunningServer, repository: Path
) -> None:
    models.python_model(repository, "failing", BROKEN, models.identity_config())
    answer = load(server, "failing")
    assert answer.status == 400
    assert answer.error.startswith(
        "load failed for model 'failing': version 1 is at UNAVAILABLE state: Internal: ValueError"
    )
    assert answer.error.endswith(";\n")
    with grpc_stub(server) as stub:
        request = pb.RepositoryModelLoadRequest(model_name="failing")
        status, details = grpc_error(partial(stub.RepositoryModelLoad, request))
    assert (status, details) == ("INVALID_ARGUMENT", answer.error)
    assert index(server)["failing", "1"][0] == "UNAVAILABLE"
    assert not is_ready(server)
    unload(server, "failing")
    assert is_ready(server)

    version_of(repository, "failing", 4)
    assert load(server, "failing").status == 200
    assert infer(server, "failing") == 4


def test_a_version_that_failed_is_forgotten_when_it_is_gone(
    server: RunningServer, repository: Path
) -> None:
    config = models.identity_config(more="version_policy { all { } }")
    models.python_model(repository, "half", VERSION.format(value=1), config)
    models.write(repository / "half" / "2" / "model.py", BROKEN)
    assert load(server, "half").status == 400
    assert not is_ready(server)
    (repository / "half" / "2" / "model.py").unlink()
    (repository / "half" / "2").rmdir()
    assert load(server, "half").status == 200
    assert [version for name, version in index(server) if name == "half"] == ["1"]
    assert is_ready(server)


def test_a_configuration_given_with_the_load_replaces_the_files(
    server: RunningServer, repository: Path
) -> None:
    version_of(repository, "override", 1)
    assert load(server, "override").status == 200
    config = {
        "backend": "python",
        "max_batch_size": 3,
        "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [4]}],
        "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]}],
    }
    with httpclient.InferenceServerClient(server.http) as client:
        client.load_model("override", config=json.dumps(config))
        assert client.get_model_config("override")["max_batch_size"] == 3
        assert client.get_model_metadata("override")["inputs"][0]["shape"] == [-1, 4]
    config["max_batch_size"] = 5
    with grpcclient.InferenceServerClient(server.grpc) as client:
        client.load_model("override", config=json.dumps(config))
        assert client.get_model_config("override").config.max_batch_size == 5


@pytest.mark.parametrize("config", ["{", "[]", '{"no_such_field":1}', '{"max_batch_size":"x"}'])
def test_a_given_configuration_that_is_wrong_is_refused_and_changes_nothing(
    server: RunningServer, config: str
) -> None:
    (worker,) = server.workers("first")
    answer = load(server, "first", config=config)
    assert answer.status == 400
    assert answer.error.startswith("Invalid config override: ")
    assert "\n" not in answer.error
    assert [one.pid for one in server.workers("first")] == [worker.pid]


def test_requests_that_run_are_finished_before_their_model_goes(
    server: RunningServer, repository: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    code = SLOW.format(path=str(go))
    models.python_model(repository, "slow", code, models.identity_config())
    assert load(server, "slow").status == 200
    (worker,) = server.workers("slow")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(infer, server, "slow", 7)
        server.wait_for_line("executing")
        assert ask(server, "POST", "/v2/repository/models/slow/unload").status == 200
        assert index(server)["slow", "1"] == ("UNLOADING", "")
        assert worker.is_running()
        assert get(server, "/v2/models/slow").status == 404
        go.touch()
        assert running.result(timeout=30) == 7
    worker.wait(30)


def test_a_model_may_be_loaded_again_while_it_is_being_unloaded(
    server: RunningServer, repository: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    models.python_model(repository, "again", SLOW.format(path=str(go)), models.identity_config())
    assert load(server, "again").status == 200
    (worker,) = server.workers("again")
    with ThreadPoolExecutor(1) as pool:
        executions = server.log.count("executing")
        running = pool.submit(infer, server, "again", 7)
        eventually(lambda: server.log.count("executing") > executions, "the request runs")
        assert ask(server, "POST", "/v2/repository/models/again/unload").status == 200
        version_of(repository, "again", 8)
        assert load(server, "again").status == 200
        assert infer(server, "again") == 8
        assert index(server)["again", "1"] == ("READY", "")
        go.touch()
        assert running.result(timeout=30) == 7
    worker.wait(30)
    assert index(server)["again", "1"] == ("READY", "")
    assert infer(server, "again") == 8


def test_loads_of_one_model_at_the_same_time_follow_one_another(
    server: RunningServer, repository: Path
) -> None:
    version_of(repository, "busy", 1)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: load(server, "busy").status, range(6)))
    assert answers == [200] * 6
    assert len(server.workers("busy")) == 1
    with ThreadPoolExecutor(6) as pool:
        unloads = [
            pool.submit(ask, server, "POST", f"/v2/repository/models/busy/{action}")
            for action in ("unload", "load") * 3
        ]
        assert [one.result().status for one in unloads] == [200] * 6
    unload(server, "busy")
    eventually(lambda: server.workers("busy") == [], "all workers are gone")


def test_requests_are_answered_all_the_time_while_a_model_reloads(
    server: RunningServer, repository: Path
) -> None:
    version_of(repository, "served", 0)
    assert load(server, "served").status == 200
    stop = threading.Event()
    seen: list[float] = []

    def ask_on() -> None:
        tensor = httpclient.InferInput("IN", [1], "FP32")
        tensor.set_data_from_numpy(np.zeros(1, np.float32))
        with httpclient.InferenceServerClient(server.http) as client:
            while not stop.is_set():
                result = client.infer("served", [tensor]).as_numpy("OUT")
                assert result is not None
                seen.append(result.item())

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(ask_on) for _ in range(2)]
        for value in range(1, 4):
            version_of(repository, "served", value)
            assert load(server, "served").status == 200
            count = len(seen)
            eventually(lambda count=count: len(seen) > count + 10, "requests are answered")
        stop.set()
        for one in clients:
            one.result(timeout=30)
    assert set(seen) == {0, 1, 2, 3}
    assert seen[-1] == 3
