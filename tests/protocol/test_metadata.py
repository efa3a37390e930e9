"""What the server tells of itself and of its models, over HTTP and gRPC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import (
    Answer,
    ask,
    get,
    grpc_error,
    grpc_stub,
    index,
    infer_request,
    input_tensor,
    post_json,
    unharmed,
)
from support.servers import RunningServer, serving
from tritonclient.grpc import service_pb2 as pb

EXTENSIONS = [
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
]
ODD_NAMES = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                tensor = pb_utils.get_input_tensor_by_name(request, "scope/in:0")
                output = pb_utils.Tensor("scope/out:0", tensor.as_numpy())
                responses.append(pb_utils.InferenceResponse([output]))
            return responses
"""
ODD_NAMES_CONFIG = """
    backend: "python"
    input { name: "scope/in:0" data_type: TYPE_FP32 dims: 2 }
    output { name: "scope/out:0" data_type: TYPE_FP32 dims: 2 }
"""
VERSIONED = {
    "all": ("version_policy { all { } }", [1, 2, 3]),
    "latest": ("", [3]),
    "latest_two": ("version_policy { latest { num_versions: 2 } }", [2, 3]),
    "specific": ("version_policy { specific { versions: [ 1, 3, 9 ] } }", [1, 3]),
}
FOUR = np.arange(4, dtype=np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "plain", dims=[4])
    models.identity(repository, "batching", max_batch_size=4, more="dynamic_batching { }")
    models.identity(repository, "text", "TYPE_STRING")
    models.python_model(repository, "odd names", ODD_NAMES, ODD_NAMES_CONFIG)
    for name, (policy, _) in VERSIONED.items():
        directory = models.identity(repository, name, dims=[4], more=policy)
        for folder in ("2", "3", "01", "0", "four", "-5"):
            (directory / folder).mkdir()
    with serving(repository) as running, unharmed(running):
        yield running


def test_the_server_is_live_and_ready(server: RunningServer) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/health/live?x=1"):
        answer = get(server, path)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-type"] == "text/plain"
    with grpcclient.InferenceServerClient(server.grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
    with httpclient.InferenceServerClient(server.http) as http:
        assert http.is_server_live()
        assert http.is_server_ready()


def test_the_standard_health_service_says_serving(server: RunningServer) -> None:
    health = pytest.importorskip("grpc_health.v1.health_pb2")
    health_grpc = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    import grpc

    with grpc.insecure_channel(server.grpc) as channel:
        stub = health_grpc.HealthStub(channel)
        for service in ("", "whatever"):
            answer = stub.Check(health.HealthCheckRequest(service=service))
            assert answer.status == health.HealthCheckResponse.SERVING


def test_models_and_versions_are_ready(server: RunningServer) -> None:
    for path in ("plain", "plain/versions/1", "all/versions/2", "odd%20names"):
        answer = get(server, f"/v2/models/{path}/ready")
        assert (answer.status, answer.body) == (200, b"")
    with grpcclient.InferenceServerClient(server.grpc) as client:
        assert client.is_model_ready("plain")
        assert client.is_model_ready("all", "3")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nope", "Request for unknown model: 'nope' is not found"),
        ("plain/versions/9", "Request for unknown model: 'plain' version 9 is not found"),
        ("latest/versions/1", "Request for unknown model: 'latest' version 1 is not found"),
    ],
)
@pytest.mark.parametrize("kind", ["", "/config", "/ready"])
def test_what_is_not_served_is_not_found(
    server: RunningServer, path: str, message: str, kind: str
) -> None:
    answer = get(server, f"/v2/models/{path}{kind}")
    assert (answer.status, answer.error) == (404, message)


def test_the_servers_metadata(server: RunningServer) -> None:
    answer = get(server, "/v2")
    assert list(answer.json) == ["name", "version", "extensions"]
    assert answer.json["name"] == "triton"
    assert answer.json["extensions"] == EXTENSIONS
    with grpcclient.InferenceServerClient(server.grpc) as client:
        metadata = client.get_server_metadata()
    assert (metadata.name, metadata.version) == ("triton", answer.json["version"])
    assert list(metadata.extensions) == EXTENSIONS


def test_a_models_metadata(server: RunningServer) -> None:
    assert get(server, "/v2/models/plain").body == (
        b'{"name":"plain","versions":["1"],"platform":"identity",'
        b'"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[4]}],'
        b'"outputs":[{"name":"OUTPUT0","datatype":"FP32","shape":[4]}]}'
    )


def test_metadata_have_the_batch_dimension_and_the_protocols_datatypes(
    server: RunningServer,
) -> None:
    assert get(server, "/v2/models/batching").json["inputs"] == [
        {"name": "INPUT0", "datatype": "FP32", "shape": [-1, -1]}
    ]
    assert get(server, "/v2/models/text").json["outputs"] == [
        {"name": "OUTPUT0", "datatype": "BYTES", "shape": [-1]}
    ]
    with grpcclient.InferenceServerClient(server.grpc) as client:
        metadata = client.get_model_metadata("batching")
    assert list(metadata.inputs[0].shape) == [-1, -1]
    assert metadata.outputs[0].datatype == "FP32"


@pytest.mark.parametrize("model", VERSIONED)
def test_the_version_policy_decides_what_is_served(server: RunningServer, model: str) -> None:
    served = VERSIONED[model][1]
    assert get(server, f"/v2/models/{model}").json["versions"] == [str(n) for n in served]
    assert [version for name, version in index(server) if name == model] == [
        str(number) for number in served
    ]
    for number in served:
        path = f"/v2/models/{model}/versions/{number}"
        assert get(server, path).json["versions"] == [str(number)]
        assert infer(server, path).json["model_version"] == str(number)
    assert infer(server, f"/v2/models/{model}").json["model_version"] == str(served[-1])


def infer(server: RunningServer, path: str) -> Answer:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [4], "data": FOUR.tolist()}
    return post_json(server, f"{path}/infer", {"inputs": [tensor]})


def test_a_version_with_a_leading_zero_is_that_version(server: RunningServer) -> None:
    assert get(server, "/v2/models/all/versions/02").json["versions"] == ["2"]


def test_folders_that_are_no_versions_are_told_and_ignored(server: RunningServer) -> None:
    for folder in ("01", "0", "-5"):
        assert f"/latest/{folder} is not a version of model 'latest' and is ignored" in server.log
    assert "names version 9, which is not there" in server.log


def test_the_configuration_is_complete_and_in_tritons_order(server: RunningServer) -> None:
    answer = get(server, "/v2/models/batching/config")
    assert answer.headers["content-type"] == "application/json"
    expected: dict[str, Any] = {
        "name": "batching",
        "platform": "",
        "backend": "identity",
        "runtime": "",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 4,
        "input": [
            {
                "name": "INPUT0",
                "data_type": "TYPE_FP32",
                "format": "FORMAT_NONE",
                "dims": [-1],
                "is_shape_tensor": False,
                "allow_ragged_batch": False,
                "optional": False,
                "is_non_linear_format_io": False,
            }
        ],
        "output": [
            {
                "name": "OUTPUT0",
                "data_type": "TYPE_FP32",
                "dims": [-1],
                "label_filename": "",
                "is_shape_tensor": False,
                "is_non_linear_format_io": False,
            }
        ],
        "batch_input": [],
        "batch_output": [],
        "optimization": {
            "priority": "PRIORITY_DEFAULT",
            "input_pinned_memory": {"enable": True},
            "output_pinned_memory": {"enable": True},
            "gather_kernel_buffer_threshold": 0,
            "eager_batching": False,
        },
        "dynamic_batching": {
            "preferred_batch_size": [4],
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
            "priority_levels": 0,
            "default_priority_level": 0,
            "priority_queue_policy": {},
        },
        "instance_group": [
            {
                "name": "batching",
                "kind": "KIND_CPU",
                "count": 1,
                "gpus": [],
                "secondary_devices": [],
                "profile": [],
                "passive": False,
                "host_policy": "",
            }
        ],
        "default_model_filename": "",
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
    }
    assert json.dumps(answer.json) == json.dumps(expected)


def test_the_configuration_over_grpc_says_the_same(server: RunningServer) -> None:
    with grpcclient.InferenceServerClient(server.grpc) as client:
        config = client.get_model_config("batching").config
        as_json = client.get_model_config("batching", as_json=True)["config"]
    assert config.backend == "identity"
    assert config.max_batch_size == 4
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert as_json["input"][0]["dims"] == ["-1"]
    assert config.instance_group[0].count == 1


def test_statistics_before_and_after(server: RunningServer) -> None:
    def stats() -> dict[str, Any]:
        (found,) = get(server, "/v2/models/text/stats").json["model_stats"]
        assert isinstance(found, dict)
        return found

    before = stats()
    assert list(before) == [
        "name",
        "version",
        "last_inference",
        "inference_count",
        "execution_count",
        "inference_stats",
        "response_stats",
        "batch_stats",
        "memory_usage",
    ]
    assert before["last_inference"] == before["inference_count"] == 0
    assert before["batch_stats"] == []
    wrong = {"name": "INPUT0", "datatype": "INT8", "shape": [1], "data": [1]}
    good = {"name": "INPUT0", "datatype": "BYTES", "shape": [1], "data": ["a"]}
    assert post_json(server, "/v2/models/text/infer", {"inputs": [wrong]}).status == 400
    assert post_json(server, "/v2/models/text/infer", {"inputs": [good]}).status == 200

    after = stats()
    assert after["last_inference"] > 0
    assert (after["inference_count"], after["execution_count"]) == (1, 1)
    counts = {name: entry["count"] for name, entry in after["inference_stats"].items()}
    assert counts == {
        "success": 1,
        "fail": 0,  # what is refused at the door counts nowhere
        "queue": 1,
        "compute_input": 1,
        "compute_infer": 1,
        "compute_output": 1,
        "cache_hit": 0,
        "cache_miss": 0,
    }
    assert after["inference_stats"]["success"]["ns"] > 0
    (batch,) = after["batch_stats"]
    assert batch["batch_size"] == 1
    with grpcclient.InferenceServerClient(server.grpc) as client:
        over_grpc = client.get_inference_statistics("text").model_stats[0]
    assert over_grpc.inference_stats.success.ns == after["inference_stats"]["success"]["ns"]
    assert over_grpc.batch_stats[0].compute_infer.ns == batch["compute_infer"]["ns"]


def test_statistics_of_all_models_of_one_and_of_one_version(server: RunningServer) -> None:
    everything = get(server, "/v2/models/stats").json["model_stats"]
    names = [(entry["name"], entry["version"]) for entry in everything]
    assert names == sorted(names)
    assert ("all", "2") in names
    assert len(get(server, "/v2/models/all/stats").json["model_stats"]) == 3
    (one,) = get(server, "/v2/models/all/versions/2/stats").json["model_stats"]
    assert (one["name"], one["version"]) == ("all", "2")
    with grpc_stub(server) as stub:
        assert len(stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats) == len(names)


def test_statistics_of_what_is_not_served_are_refused(server: RunningServer) -> None:
    answer = get(server, "/v2/models/nope/stats")
    assert (answer.status, answer.error) == (400, "requested model 'nope' is not available")
    answer = get(server, "/v2/models/plain/versions/7/stats")
    assert (answer.status, answer.error) == (
        400,
        "requested model version is not available for model 'plain'",
    )


def test_the_index_lists_every_version(server: RunningServer) -> None:
    answer = ask(server, "POST", "/v2/repository/index")
    entries = answer.json
    assert {"name": "plain", "version": "1", "state": "READY"} in entries
    assert [entry["name"] for entry in entries] == sorted(entry["name"] for entry in entries)
    assert ask(server, "POST", "/v2/repository/anything/index", '{"ready":true}').json == entries
    with grpcclient.InferenceServerClient(server.grpc) as client:
        over_grpc = client.get_model_repository_index().models
    assert [entry.name for entry in over_grpc] == [entry["name"] for entry in entries]


@pytest.mark.parametrize(
    ("body", "status"), [('{"ready":"x"}', 400), ("{", 500), ("[]", 200), ("", 200)]
)
def test_the_index_reads_its_body_as_json(server: RunningServer, body: str, status: int) -> None:
    answer = ask(server, "POST", "/v2/repository/index", body)
    assert answer.status == status
    assert status == 200 or answer.error


@pytest.mark.parametrize("action", ["load", "unload"])
def test_models_are_not_controlled_by_clients_in_this_mode(
    server: RunningServer, action: str
) -> None:
    message = "explicit model load / unload is not allowed if polling is enabled"
    for model in ("plain", "nope"):
        answer = ask(server, "POST", f"/v2/repository/models/{model}/{action}")
        assert (answer.status, answer.error) == (503, message)
    answer = ask(server, "POST", f"/v2/repository/repo/models/plain/{action}")
    assert (answer.status, answer.error) == (
        501,
        "'repository_name' specification is not supported",
    )
    with grpc_stub(server) as stub:
        load = partial(stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="plain"))
        assert grpc_error(load) == ("UNAVAILABLE", message)


def test_tensor_names_may_hold_colons_and_slashes_and_model_names_blanks(
    server: RunningServer,
) -> None:
    data = np.array([1, 2], np.float32)
    tensor = httpclient.InferInput("scope/in:0", [2], "FP32")
    tensor.set_data_from_numpy(data)
    with httpclient.InferenceServerClient(server.http) as client:
        result = client.infer("odd names", [tensor]).as_numpy("scope/out:0")
    np.testing.assert_array_equal(result, data)
    with grpc_stub(server) as stub:
        request = infer_request(
            "odd names", [input_tensor("scope/in:0", shape=[2])], [data.tobytes()]
        )
        assert stub.ModelInfer(request).outputs[0].name == "scope/out:0"


def test_ids_and_parameters_come_back(server: RunningServer) -> None:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}
    answer = post_json(server, "/v2/models/plain/infer", {"id": 'a"b é', "inputs": [tensor]})
    assert list(answer.json) == ["id", "model_name", "model_version", "parameters", "outputs"]
    assert answer.json["id"] == 'a"b é'
    assert answer.json["parameters"] == {
        "param0": "an example string parameter",
        "param1": 42,
        "param2": False,
        "param3": 123.123,
    }
    with grpc_stub(server) as stub:
        request = infer_request("plain", [input_tensor()], [FOUR.tobytes()], id="é")
        response = stub.ModelInfer(request)
    assert response.id == "é"
    assert response.parameters["param1"].int64_param == 42
    assert response.parameters["param3"].double_param == 123.123


def test_the_log_has_tritons_tables(server: RunningServer) -> None:
    assert "| plain      | 1       | READY  |" in server.log
    for service in ("GRPCInferenceService", "HTTPService", "Metrics Service"):
        assert f"Started {service} at 127.0.0.1:" in server.log
