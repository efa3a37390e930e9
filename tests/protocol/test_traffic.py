"""Requests that name no version are shared among versions, and copied for others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import Answer, ask, eventually, get, post_json, unharmed
from support.servers import RunningServer, serving

#: Answers the sum of IN, then overwrites IN; version 3 fails, and waits for a file if told to.
CODE = """
    import json
    import os
    import time
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.version = int(args["model_version"])

        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            wait = json.loads(request.parameters()).get("wait", "")
            while self.version == 3 and wait and not os.path.exists(wait):
                time.sleep(0.01)
            if self.version == 3 and not wait:
                raise RuntimeError("version 3 fails")
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            total = np.array([array.sum()], np.float64)
            array[:] = 0
            return pb_utils.InferenceResponse([pb_utils.Tensor("SUM", total)])
"""
CONFIG = """
    backend: "python"
    input {{ name: "IN" data_type: TYPE_FP32 dims: [ -1 ] }}
    output {{ name: "SUM" data_type: TYPE_FP64 dims: [ 1 ] }}
    version_policy {{ all {{ }} }}
    parameters {{ key: "version_labels" value: {{ string_value: "stable=1,canary=2,broken=3" }} }}
    {more}
"""
SMALL, LARGE = 8, 100_000


def versions(repository: Path, name: str, more: str = "") -> None:
    for version in (1, 2, 3):
        models.python_model(repository, name, CODE, CONFIG.format(more=more), version)


def in_configuration(rule: object) -> str:
    text = json.dumps(rule).replace('"', '\\"')
    return f'parameters {{ key: "traffic" value: {{ string_value: "{text}" }} }}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    for name in ("split", "sticky", "shadowed", "slow", "refused", "named", "busy"):
        versions(repository, name)
    rule = {"weights": {"stable": 3, "canary": 1}}
    versions(repository, "configured", in_configuration(rule))
    arguments = ["--http-header-forward-pattern=x-user", "--grpc-header-forward-pattern=x-user"]
    with serving(repository, arguments=arguments) as running, unharmed(running, tracebacks=True):
        yield running


def infer(
    server: RunningServer,
    model: str,
    *,
    protocol: str = "http",
    size: int = SMALL,
    version: str = "",
    headers: dict[str, str] | None = None,
    **more: Any,
) -> str:
    """The version that answered, with the right sum."""
    library: Any = httpclient if protocol == "http" else grpcclient
    tensor = library.InferInput("IN", [size], "FP32")
    tensor.set_data_from_numpy(np.ones(size, np.float32))
    address = server.http if protocol == "http" else server.grpc
    with library.InferenceServerClient(address) as client:
        result = client.infer(model, [tensor], model_version=version, headers=headers, **more)
    assert result.as_numpy("SUM")[0] == size
    response = result.get_response()
    found = response["model_version"] if protocol == "http" else response.model_version
    return str(found)


def change(server: RunningServer, model: str, rule: object) -> Answer:
    return post_json(server, f"/v2/models/{model}/traffic", rule)


def traffic(server: RunningServer, model: str) -> Any:
    answer = get(server, f"/v2/models/{model}/traffic")
    assert answer.status == 200
    return answer.json


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_weights_share_requests_exactly_over_both_protocols(
    server: RunningServer, size: int
) -> None:
    assert change(server, "split", {"weights": {"1": 3, "canary": 1}}).status == 200
    protocols = ("http", "grpc") * 4
    found = Counter(infer(server, "split", protocol=each, size=size) for each in protocols)
    assert found == {"1": 6, "2": 2}
    change(server, "split", None)
    assert infer(server, "split", version="2") == "2"


def test_a_configuration_may_have_a_rule_and_a_request_replaces_it(server: RunningServer) -> None:
    assert Counter(infer(server, "configured") for _ in range(4)) == {"1": 3, "2": 1}
    assert traffic(server, "configured") == {
        "rule": {"weights": {"stable": 3, "canary": 1}},
        "source": "configuration",
        "versions": {"stable": 3, "canary": 1},
        "shadow": [],
    }

    answer = change(server, "configured", {"weights": {"2": 1}})

    assert answer.json["source"] == "request"
    assert {infer(server, "configured") for _ in range(4)} == {"2"}
    assert change(server, "configured", None).json["source"] == "configuration"
    assert Counter(infer(server, "configured") for _ in range(4)) == {"1": 3, "2": 1}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_header_sticks_to_a_version(server: RunningServer, protocol: str, size: int) -> None:
    change(server, "sticky", {"weights": {"1": 1, "2": 1}, "sticky": "parameter:x-user"})
    placed = {
        user: {
            infer(server, "sticky", protocol=each, size=size, headers={"x-user": user})
            for each in (protocol, "http")
        }
        for user in map(str, range(12))
    }
    assert all(len(found) == 1 for found in placed.values())
    assert {found for each in placed.values() for found in each} == {"1", "2"}
    by_parameter = infer(server, "sticky", protocol=protocol, parameters={"x-user": "3"})
    assert {by_parameter} == placed["3"]


def test_a_request_that_names_a_version_gets_it(server: RunningServer) -> None:
    change(server, "named", {"weights": {"1": 1}, "shadow": [{"version": "canary"}]})
    for protocol in ("http", "grpc"):
        assert infer(server, "named", version="2", protocol=protocol) == "2"
    seen = traffic(server, "named")
    assert seen["versions"] == {"1": 0}
    assert seen["shadow"][0]["success"] == 0


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_copies_are_answered_measured_and_thrown_away(server: RunningServer, size: int) -> None:
    rule = {"weights": {"1": 1}, "shadow": [{"version": "canary"}, {"version": "3"}]}
    change(server, "shadowed", {})
    change(server, "shadowed", rule)
    for protocol in ("http", "grpc") * 3:
        # Each model overwrites its input: nobody may see what another one wrote.
        assert infer(server, "shadowed", protocol=protocol, size=size) == "1"

    def done() -> bool:
        canary, broken = traffic(server, "shadowed")["shadow"]
        return bool(canary["success"] == 6 and broken["fail"] == 6)

    eventually(done, "the copies are answered")
    canary, broken = traffic(server, "shadowed")["shadow"]
    assert canary["total_ns"] > 0
    assert (canary["pending"], canary["fail"], canary["dropped"]) == (0, 0, 0)
    assert (broken["pending"], broken["success"]) == (0, 0)


def test_slow_copies_hold_up_nobody_and_are_dropped(server: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "go"
    rule = {"weights": {"1": 1}, "shadow": [{"version": "broken", "max_pending": 2}]}
    change(server, "slow", rule)
    for _ in range(5):
        parameters = {"wait": str(file)}
        assert infer(server, "slow", size=LARGE, parameters=parameters) == "1"
    (seen,) = traffic(server, "slow")["shadow"]
    assert (seen["pending"], seen["dropped"]) == (2, 3)

    file.touch()

    def done() -> bool:
        return bool(traffic(server, "slow")["shadow"][0]["success"] == 2)

    eventually(done, "the copies are answered")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"weights": {"7": 1}}, "names version '7', and the versions and labels are 1, 2, 3"),
        ({"shadow": [{"version": "nobody"}]}, "names version 'nobody'"),
        ({"weights": {"1": 0}}, "all weights are 0"),
        ({"wights": {}}, "unknown field `wights`"),
        ([], "is no traffic rule"),
    ],
)
def test_a_wrong_rule_is_refused_and_changes_nothing(
    server: RunningServer, rule: object, message: str
) -> None:
    answer = change(server, "refused", rule)
    assert answer.status == 400
    assert message in answer.error
    assert traffic(server, "refused")["rule"] is None
    assert infer(server, "refused", version="1") == "1"


def test_unknown_models_and_methods_are_refused(server: RunningServer) -> None:
    assert change(server, "nobody", None).status == 404
    assert get(server, "/v2/models/nobody/traffic").status == 404
    assert get(server, "/v2/models/split/versions/1/traffic").status == 404
    assert ask(server, "DELETE", "/v2/models/split/traffic").status == 405


def test_only_local_peers_change_traffic(server: RunningServer) -> None:
    headers = {"X-Forwarded-For": "192.0.2.1"}
    path = "/v2/models/split/traffic"
    assert ask(server, "POST", path, "null", headers).status == 403
    assert ask(server, "GET", path, "", headers).status == 200


def test_a_rule_is_kept_over_a_reload_and_loads_nothing_anew(tmp_path: Path) -> None:
    versions(tmp_path, "m")
    arguments = ["--model-control-mode=explicit", "--load-model=m"]
    with serving(tmp_path, arguments=arguments) as running:
        change(running, "m", {"weights": {"1": 1, "2": 1}})
        workers = sorted(worker.pid for worker in running.workers())
        config = CONFIG.format(more=in_configuration({"weights": {"1": 1}}))
        models.write(tmp_path / "m" / "config.pbtxt", config)

        assert post_json(running, "/v2/repository/models/m/load", {}).status == 200

        assert sorted(worker.pid for worker in running.workers()) == workers
        assert Counter(infer(running, "m") for _ in range(4)) == {"1": 2, "2": 2}
        code = (tmp_path / "m" / "2" / "model.py").read_text()
        (tmp_path / "m" / "2" / "model.py").write_text(code + "\n")
        assert post_json(running, "/v2/repository/models/m/load", {}).status == 200
        assert Counter(infer(running, "m") for _ in range(4)) == {"1": 2, "2": 2}
        change(running, "m", None)
        assert {infer(running, "m") for _ in range(3)} == {"1"}


def test_a_configuration_with_a_wrong_rule_is_refused(tmp_path: Path) -> None:
    versions(tmp_path, "m", in_configuration({"sticky": "header"}))
    with serving(tmp_path) as running:
        assert "parameter 'traffic' of model 'm' is no traffic rule" in running.log
