"""Models that are loaded at their first request, over HTTP and gRPC, and unloaded again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import ask, eventually, get, grpc_stub, index, post_json
from support.servers import RunningServer, serving
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

ON_DEMAND = ("UNAVAILABLE", "loaded on demand, at its next request")

#: Loads when there is a file.
PATIENT = """
    import os
    import time

    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            print("waiting", flush=True)
            while not os.path.exists({path!r}):
                time.sleep(0.01)

        def execute(self, requests):
            tensors = [pb_utils.get_input_tensor_by_name(r, "IN") for r in requests]
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())])
                for tensor in tensors
            ]
"""
BROKEN = """
    class TritonPythonModel:
        def initialize(self, args):
            raise ValueError("no weights")

        def execute(self, requests):
            return []
"""
#: Takes as much memory as it says, for as long as it is loaded.
HEAVY = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.weights = np.ones({mib} << 20, np.uint8)

        def execute(self, requests):
            tensors = [pb_utils.get_input_tensor_by_name(r, "IN") for r in requests]
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())])
                for tensor in tensors
            ]
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    for name in ("http", "grpc", "stream", "metadata", "config", "looked_at", "labelled", "brief"):
        more = ""
        if name == "labelled":
            more = 'parameters { key: "version_labels" value { string_value: "stable=1" } }'
        models.python_identity(repository, name, more=more)
    models.python_model(repository, "generate", HEAVY.format(mib=1), models.identity_config())
    models.python_model(repository, "broken", BROKEN, models.identity_config())
    go = str(repository / ".go")
    models.python_model(repository, "patient", PATIENT.format(path=go), models.identity_config())
    with serving(repository, arguments=["--model-residency=on-demand"]) as running:
        yield running


def body(value: float = 1) -> dict[str, Any]:
    return {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [1], "data": [value]}]}


def infer(server: RunningServer, model: str, value: float = 1) -> float:
    answer = post_json(server, f"/v2/models/{model}/infer", body(value))
    assert answer.status == 200, answer.body
    return float(answer.json["outputs"][0]["data"][0])


def is_loaded(server: RunningServer, model: str) -> bool:
    return bool(server.workers(model))


def test_a_model_that_nobody_asked_for_is_listed_and_costs_nothing(server: RunningServer) -> None:
    for path in ("/v2/models/looked_at/ready", "/v2/models/looked_at/versions/1/ready"):
        answer = get(server, path)
        assert (answer.status, answer.error) == (400, "Model version not ready")
    assert get(server, "/v2/models/looked_at/stats").status == 400
    assert index(server)["looked_at", ""] == ON_DEMAND
    assert get(server, "/v2/health/ready").status == 200
    listed = {one["name"]: one for one in get(server, "/v2/models").json["models"]}
    assert listed["looked_at"] == {"name": "looked_at", "versions": [], "reason": ON_DEMAND[1]}
    with grpc_stub(server) as stub:
        assert not stub.ModelReady(pb.ModelReadyRequest(name="looked_at")).ready
        assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert not is_loaded(server, "looked_at")


def test_the_first_request_over_http_loads_the_model(server: RunningServer) -> None:
    tensor = httpclient.InferInput("IN", [3], "FP32")
    tensor.set_data_from_numpy(np.arange(3, dtype=np.float32))
    with httpclient.InferenceServerClient(server.http) as client:
        answer = client.infer("http", [tensor]).as_numpy("OUT")
        assert client.is_model_ready("http")
    assert answer is not None
    assert answer.tolist() == [0, 1, 2]
    assert index(server)["http", "1"] == ("READY", "")


def test_the_first_request_over_grpc_loads_the_model(server: RunningServer) -> None:
    tensor = grpcclient.InferInput("IN", [1], "FP32")
    tensor.set_data_from_numpy(np.array([5], np.float32))
    with grpcclient.InferenceServerClient(server.grpc) as client:
        answer = client.infer("grpc", [tensor]).as_numpy("OUT")
    assert answer is not None
    assert answer.tolist() == [5]


def test_the_first_request_of_a_stream_loads_the_model_and_errors_keep_their_turn(
    server: RunningServer,
) -> None:
    requests: list[Any] = []
    for model in ("stream", "broken", "stream"):
        request = pb.ModelInferRequest(model_name=model)
        request.inputs.add(name="IN", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
        requests.append(request)
    with grpc_stub(server) as stub:
        first, second, third = stub.ModelStreamInfer(iter(requests))
    assert first.infer_response.model_name == third.infer_response.model_name == "stream"
    assert "model 'broken' cannot be loaded on demand" in second.error_message


def test_a_generate_call_loads_the_model(server: RunningServer) -> None:
    connection = HTTPConnection(server.http)
    with closing(connection):
        connection.request("POST", "/v2/models/generate/generate", json.dumps({"IN": [2.0]}))
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["OUT"]) == (200, 2.0)


@pytest.mark.parametrize(("model", "path"), [("metadata", ""), ("config", "/config")])
def test_who_asks_what_a_model_takes_loads_it(server: RunningServer, model: str, path: str) -> None:
    assert not is_loaded(server, model)
    assert get(server, f"/v2/models/{model}{path}").json["name"] == model
    assert is_loaded(server, model)


def test_labels_are_known_before_the_model_is_loaded(server: RunningServer) -> None:
    answer = post_json(server, "/v2/models/labelled/versions/stable/infer", body())
    assert (answer.status, answer.json["model_version"]) == (200, "1")


def test_a_model_that_cannot_be_loaded_is_503_with_the_reason(server: RunningServer) -> None:
    answer = post_json(server, "/v2/models/broken/infer", body())
    assert answer.status == 503
    assert answer.error.startswith("model 'broken' cannot be loaded on demand: load failed for ")
    assert "no weights" in answer.error
    with (
        grpcclient.InferenceServerClient(server.grpc) as client,
        pytest.raises(InferenceServerException) as caught,
    ):
        client.get_model_metadata("broken")
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    assert index(server)["broken", "1"][0] == "UNAVAILABLE"
    assert get(server, "/v2/health/ready").status == 200


def test_requests_that_come_while_the_model_loads_share_the_load(
    server: RunningServer, repository: Path
) -> None:
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(infer, server, "patient", value) for value in range(8)]
        server.wait_for_line("waiting")
        assert index(server)["patient", "1"][0] == "LOADING"
        assert get(server, "/v2/health/ready").status == 200
        infer(server, "brief")  # others are served meanwhile
        (repository / ".go").touch()
        assert [one.result(timeout=30) for one in asking] == list(range(8))
    assert server.log.count("waiting") == 1
    assert server.log.count("loading 'patient' on demand") == 1


def test_an_idle_model_is_unloaded_and_no_request_notices(tmp_path: Path) -> None:
    models.python_identity(tmp_path, "m")
    arguments = ["--model-residency=on-demand", "--residency-idle-secs=1"]
    with serving(tmp_path, arguments=arguments) as server:
        assert infer(server, "m", 1) == 1
        (worker,) = server.workers("m")
        server.wait_for_line("unloading 'm', which is loaded on demand: it was not used for 1 sec")
        worker.wait(30)
        eventually(lambda: index(server)["m", "1"] == ON_DEMAND, "it is unloaded")
        metrics = ask(server, "GET", "/metrics", service="metrics").body.decode()
        assert 'nv_inference_count{model="m"' not in metrics
        assert infer(server, "m", 2) == 2


def test_versions_share_traffic_by_a_rule_that_outlives_their_going_and_coming(
    tmp_path: Path,
) -> None:
    config = models.identity_config(more="version_policy { all { } }")
    for version in (1, 2):
        models.python_model(tmp_path, "m", models.IDENTITY_PY, config, version)

    def versions(server: RunningServer) -> list[str]:
        answers = [post_json(server, "/v2/models/m/infer", body()) for _ in range(4)]
        return sorted(answer.json["model_version"] for answer in answers)

    arguments = ["--model-residency=on-demand", "--residency-idle-secs=1"]
    with serving(tmp_path, arguments=arguments) as server:
        assert versions(server) == ["2"] * 4
        rule = {"weights": {"1": 3, "2": 1}}
        assert post_json(server, "/v2/models/m/traffic", rule).status == 200
        for worker in server.workers("m"):
            worker.wait(30)
        assert versions(server) == ["1", "1", "1", "2"]


@pytest.mark.parametrize("protocol", ["http", "grpc", "stream"])
def test_no_request_is_lost_to_a_model_that_comes_and_goes(tmp_path: Path, protocol: str) -> None:
    models.python_identity(tmp_path, "m")
    # Whenever it is looked, and nobody uses the model, it is too large.
    arguments = ["--model-residency=on-demand", "--residency-max-byte-size=1"]
    with serving(tmp_path, arguments=arguments) as server, grpc_stub(server) as stub:
        for count in range(1, 100_000):
            if protocol == "http":
                assert infer(server, "m", count) == count
            else:
                request = pb.ModelInferRequest(model_name="m")
                tensor = request.inputs.add(name="IN", datatype="FP32", shape=[1])
                tensor.contents.fp32_contents.append(count)
                if protocol == "grpc":
                    answer = stub.ModelInfer(request)
                else:
                    (streamed,) = stub.ModelStreamInfer(iter([request]))
                    assert not streamed.error_message
                    answer = streamed.infer_response
                assert np.frombuffer(answer.raw_output_contents[0], np.float32) == [count]
            if server.log.count("unloading 'm'") == 3:
                break
        assert server.log.count("unloading 'm'") >= 3


def test_when_memory_is_short_the_least_recently_used_model_goes(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        models.python_model(tmp_path, name, HEAVY.format(mib=300), models.identity_config())
    arguments = [
        "--model-residency=on-demand",
        "--residency-idle-secs=0",
        f"--residency-max-byte-size={850 << 20}",
    ]
    with serving(tmp_path, arguments=arguments) as server:
        for name in ("one", "two", "one"):
            infer(server, name)
        infer(server, "three")
        server.wait_for_line("unloading 'two', which is loaded on demand: memory is short by")
        eventually(lambda: not is_loaded(server, "two"), "the least recently used is gone")
        assert is_loaded(server, "one")
        assert is_loaded(server, "three")
        assert infer(server, "two", 3) == 3


def test_a_request_gives_up_after_a_while_and_the_load_goes_on(tmp_path: Path) -> None:
    repository, go = tmp_path / "repository", tmp_path / "go"
    code = PATIENT.format(path=str(go))
    models.python_model(repository, "m", code, models.identity_config())
    config = json.dumps("on-demand")
    path = repository / "m" / "config.pbtxt"
    path.write_text(
        path.read_text() + f'parameters {{ key: "residency" value {{ string_value: {config} }} }}'
    )
    with serving(repository, arguments=["--residency-wait-secs=1"]) as server:
        answer = post_json(server, "/v2/models/m/infer", body())
        assert answer.status == 503
        assert "was not ready within 1 seconds; the load goes on" in answer.error
        go.touch()
        eventually(lambda: index(server)["m", "1"][0] == "READY", "it is loaded")
        assert infer(server, "m", 4) == 4
