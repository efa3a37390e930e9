"""Models of one name in two repositories, told apart by namespacing, over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import ask, eventually, get
from support.ensembles import ensemble, step
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

CODE = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            tensor = pb_utils.Tensor("OUT", np.array([{value}], np.float32))
            return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""
ARGUMENTS = ["--model-namespacing=true", "--model-control-mode=poll", "--repository-poll-secs=1"]
AMBIGUOUS = (
    "There are 2 identifiers of model 'twice' in global map, model namespace must be provided to "
    "resolve ambiguity."
)


@pytest.fixture
def repositories(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "first", tmp_path / "second"]
    for value, repository in enumerate(made):
        for name in ("twice", repository.name):
            models.python_model(
                repository, name, CODE.format(value=value), models.identity_config()
            )
    return made


@pytest.fixture
def server(repositories: list[Path]) -> Iterator[RunningServer]:
    with serving(*repositories, arguments=ARGUMENTS) as running:
        yield running


def infer(server: RunningServer, model: str) -> float:
    tensor = httpclient.InferInput("IN", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, np.float32))
    with httpclient.InferenceServerClient(server.http) as client:
        answer = client.infer(model, [tensor]).as_numpy("OUT")
    assert answer is not None
    return float(answer[0])


def test_models_of_one_name_serve_and_a_bare_name_must_be_clear(
    server: RunningServer, repositories: list[Path]
) -> None:
    first, second = map(str, repositories)
    assert (infer(server, "first"), infer(server, "second")) == (0, 1)
    assert len(server.workers("twice")) == 2
    with pytest.raises(InferenceServerException) as caught:
        infer(server, "twice")
    assert (caught.value.status(), caught.value.message()) == ("400", AMBIGUOUS)
    with grpcclient.InferenceServerClient(server.grpc) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.get_model_metadata("twice")
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert caught.value.message() == AMBIGUOUS
        listed: Any = client.get_model_repository_index()
    assert [one.name for one in listed.models] == ["first", "twice", "second", "twice"]
    assert f"| {first}::twice" in server.log
    assert [
        (one["namespace"], one["name"]) for one in get(server, "/v2/models").json["models"]
    ] == [(first, "first"), (first, "twice"), (second, "second"), (second, "twice")]
    metrics = ask(server, "GET", "/metrics", service="metrics").body.decode()
    for namespace, count in ((first, 0), (second, 0)):
        labels = f'model="twice",namespace="{namespace}",version="1"'
        assert f"nv_inference_request_success{{{labels}}} {count}\n" in metrics
    assert get(server, "/v2/health/ready").status == 200


def test_a_name_is_clear_again_when_one_of_the_models_goes(
    server: RunningServer, repositories: list[Path]
) -> None:
    (repositories[0] / "twice").rename(repositories[0] / ".twice")
    eventually(lambda: get(server, "/v2/models/twice").status == 200, "the name is clear")
    assert infer(server, "twice") == 1


def test_steps_mean_their_neighbours_unless_they_name_a_namespace(
    repositories: list[Path],
) -> None:
    first, second = repositories
    at_home = step("twice", {"IN": "IN"}, {"OUT": "OUT"})
    elsewhere = at_home.replace("{", f'{{ model_namespace: "{first}"', 1)
    for repository, name, one in (
        (first, "first_home", at_home),
        (second, "second_home", at_home),
        (second, "abroad", elsewhere),
    ):
        ensemble(repository, name, ["IN FP32 -1"], ["OUT FP32 -1"], [one])
    with serving(first, second, arguments=ARGUMENTS) as server:
        found = [infer(server, name) for name in ("first_home", "second_home", "abroad")]
    assert found == [0, 1, 0]
