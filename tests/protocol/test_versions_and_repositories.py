"""Version labels, repository agents and several repositories, over HTTP and gRPC."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from support import models
from support.clients import ask, eventually, get, grpc_error, grpc_stub, index, post_json
from support.servers import RunningServer, launch, serving
from tritonclient.grpc import service_pb2 as pb

CODE = dedent(
    """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            tensor = pb_utils.Tensor("OUT", np.array([{value}], np.float32))
            return [pb_utils.InferenceResponse([tensor]) for _ in requests]
    """
).lstrip()
TENSOR = {"name": "IN", "datatype": "FP32", "shape": [1], "data": [1]}
LABELS = """
    version_policy { all { } }
    parameters { key: "version_labels" value: { string_value: "stable=1,canary=2,gone=9" } }
"""


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = [tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")]
    for version in (1, 2):
        config = models.identity_config(more=LABELS)
        models.python_model(made[0], "labelled", CODE.format(value=version), config, version)
    for repository in made:
        models.identity(repository, "twice")
    digest = hashlib.md5(CODE.format(value=7).encode()).hexdigest()
    for name, expected in (("checked", digest), ("altered", "0" * 32)):
        agent = f'name: "checksum" parameters {{ key: "MD5:1/model.py" value: "{expected}" }}'
        config = models.identity_config(
            more=f"model_repository_agents {{ agents [ {{ {agent} }} ] }}"
        )
        models.python_model(made[1], name, CODE.format(value=7), config)
    return made


@pytest.fixture(scope="module")
def server(repositories: list[Path]) -> Iterator[RunningServer]:
    arguments = ["--model-control-mode=explicit", "--load-model=labelled", "--load-model=checked"]
    with serving(*repositories, arguments=arguments) as running:
        yield running


@pytest.mark.parametrize(("label", "expected"), [("stable", 1), ("canary", 2)])
def test_a_label_stands_for_a_version_everywhere(
    server: RunningServer, label: str, expected: int
) -> None:
    path = f"/v2/models/labelled/versions/{label}"
    answer = post_json(server, f"{path}/infer", {"inputs": [TENSOR]})
    assert answer.json["model_version"] == str(expected)
    assert answer.json["outputs"][0]["data"] == [expected]
    assert get(server, path).json["versions"] == [str(expected)]
    assert get(server, f"{path}/ready").status == 200
    assert get(server, f"{path}/config").json["name"] == "labelled"
    (counted,) = get(server, f"{path}/stats").json["model_stats"]
    assert counted["version"] == str(expected)

    request = pb.ModelInferRequest(model_name="labelled", model_version=label)
    request.inputs.add(name="IN", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    with grpc_stub(server) as stub:
        assert stub.ModelInfer(request).model_version == str(expected)
        (streamed,) = stub.ModelStreamInfer(iter([request]))
        assert streamed.infer_response.model_version == str(expected)
        assert stub.ModelReady(pb.ModelReadyRequest(name="labelled", version=label)).ready


def test_a_label_that_is_not_given_names_nothing(server: RunningServer) -> None:
    assert get(server, "/v2/models/labelled/versions/nightly").status == 404
    answer = get(server, "/v2/models/labelled/versions/gone")
    assert answer.error == "Request for unknown model: 'labelled' version 9 is not found"
    request = pb.ModelMetadataRequest(name="labelled", version="nightly")
    with grpc_stub(server) as stub:
        error = grpc_error(lambda: stub.ModelMetadata(request))
    assert "failed to get model version from specified version string 'nightly'" in str(error)


def test_the_checksum_agent_admits_and_refuses(server: RunningServer) -> None:
    assert get(server, "/v2/models/checked/ready").status == 200
    assert "| checksum         | built in |" in server.log
    answer = ask(server, "POST", "/v2/repository/models/altered/load")
    assert answer.status == 500
    assert answer.error.startswith(
        "failed to load 'altered', failed to poll from model repository: 'altered': "
        "Mismatched MD5 hash for file 1/model.py"
    )


def test_a_model_in_two_repositories_is_not_served(server: RunningServer) -> None:
    reason = "model appears in two or more repositories"
    assert index(server)["twice", ""] == ("UNAVAILABLE", reason)
    answer = ask(server, "POST", "/v2/repository/models/twice/load")
    assert answer.status == 500
    assert "not unique across all model repositories" in answer.error


def test_a_model_that_appears_in_a_second_repository_is_unloaded(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    second.mkdir()
    models.identity(first, "m")
    arguments = ["--model-control-mode=poll", "--repository-poll-secs=1"]
    with serving(first, second, arguments=arguments) as server:
        assert get(server, "/v2/models/m/ready").status == 200
        models.identity(second, "m")
        server.wait_for_line("failed to poll model 'm': not unique across all model repositories")
        eventually(lambda: ("m", "") in index(server), "it is unloaded")
        (second / "m").rename(second / ".m")
        eventually(lambda: ("m", "1") in index(server), "it is loaded again")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--model-control-mode=explicit", "--load-model=m"],
            "error: creating server: Invalid argument - load failed for model 'm': version 1 is at "
            "UNAVAILABLE state: ",
        ),
        ([], "error: creating server: Internal - failed to load all models"),
    ],
    ids=["explicit", "none"],
)
def test_a_failed_model_ends_the_start_on_request(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    models.python_model(tmp_path, "m", "raise ValueError('no')\n", models.identity_config())
    server = launch(tmp_path, arguments=["--exit-on-error=true", *arguments])
    try:
        assert server.process.wait(60) == 1
    finally:
        server.stop()
        server.runtime_directory.rmdir()
    assert message in server.log
