"""An instance group gets more and fewer instances while the server serves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import Answer, ask, eventually, get, metrics, post_json, statistics
from support.servers import RunningServer, serving

#: Answers its process, after the file has come that it is told to wait for.
PID = """
    import json, os, time
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            folder = args["model_repository"]
            if args["model_instance_name"].endswith("_1") and os.path.exists(f"{folder}/full"):
                raise RuntimeError("no room for two")

        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            wait = json.loads(request.parameters()).get("wait", "")
            if wait:
                open(f"{wait}.{os.getpid()}", "w").close()
            while wait and not os.path.exists(wait):
                time.sleep(0.01)
            out = pb_utils.Tensor("OUT", np.array([os.getpid()], np.int32))
            return pb_utils.InferenceResponse([out])
"""
NAMED = """
    instance_group [
      { name: "named_a" kind: KIND_CPU },
      { name: "named_b" kind: KIND_CPU passive: true }
    ]
"""
ENSEMBLE = """
    platform: "ensemble"
    input [ { name: "IN" data_type: TYPE_INT32 dims: [-1] } ]
    output [ { name: "OUT" data_type: TYPE_INT32 dims: [-1] } ]
    ensemble_scheduling { step [ {
      model_name: "busy" model_version: -1
      input_map { key: "IN" value: "IN" } output_map { key: "OUT" value: "OUT" }
    } ] }
"""


def pid_model(repository: Path, name: str, more: str = "", version: int = 1) -> None:
    models.python_model(
        repository, name, PID, models.identity_config("TYPE_INT32", more=more), version
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name in ("busy", "waits", "full", "refused"):
        pid_model(folder, name)
    pid_model(folder, "named", NAMED)
    for version in (1, 2):
        pid_model(folder, "two", "version_policy { all { } }", version)
    models.write(folder / "ensemble" / "config.pbtxt", ENSEMBLE)
    (folder / "ensemble" / "1").mkdir()
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with serving(repository) as running:
        yield running


def path(model: str, version: int | None = None) -> str:
    return f"/v2/models/{model}{f'/versions/{version}' if version else ''}/instances"


def scale(server: RunningServer, model: str, count: object, **more: object) -> Answer:
    return post_json(server, path(model), {"count": count, **more})


def instances(server: RunningServer, model: str, version: int = 1) -> Any:
    answer = get(server, path(model, version))
    assert answer.status == 200, answer.body
    (found,) = answer.json["versions"]
    assert found["version"] == str(version)
    return found


def settled(server: RunningServer, model: str, names: list[str]) -> None:
    """Wait until a model has these instances and no other process."""

    def done() -> bool:
        found = instances(server, model)["instances"]
        return [one["name"] for one in found] == names and len(server.workers(model)) == len(names)

    eventually(done, f"{model} has {names}")


def infer(server: RunningServer, model: str, protocol: str = "http", **parameters: Any) -> int:
    """The process that answered."""
    library: Any = httpclient if protocol == "http" else grpcclient
    tensor = library.InferInput("IN", [1], "INT32")
    tensor.set_data_from_numpy(np.ones(1, np.int32))
    with library.InferenceServerClient(server.http if protocol == "http" else server.grpc) as one:
        result = one.infer(model, [tensor], parameters=parameters or None)
    return int(result.as_numpy("OUT")[0])


def test_a_group_grows_and_shrinks_under_load_without_an_error(server: RunningServer) -> None:
    (first,) = server.workers("busy")
    stop = threading.Event()
    seen: set[int] = set()

    def load(protocol: str) -> int:
        asked = 0
        while not stop.is_set():
            seen.add(infer(server, "busy", protocol))
            asked += 1
        return asked

    with ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(load, protocol) for protocol in ("http", "grpc") * 3]
        try:
            answer = scale(server, "busy", 3)
            assert answer.status == 200, answer.body
            # They serve when the answer comes.
            (now,) = answer.json["versions"]
            assert now["groups"] == [{"name": "busy", "kind": "KIND_CPU", "count": 3}]
            assert [
                (one["name"], one["state"], one["deaths"], one["leaving"], one["gpu"])
                for one in now["instances"]
            ] == [(f"busy_{n}", "READY", 0, False, None) for n in range(3)]
            workers = {worker.pid: worker for worker in server.workers("busy")}
            assert len(workers) == 3
            seen.clear()
            eventually(lambda: seen == set(workers), "all three answer")
            states = metrics(server)
            name = 'tritonpy_model_instances{{model="busy",state="{}",version="1"}}'
            assert states[name.format("READY")] == 3
            assert states[name.format("BACKOFF")] == 0

            assert scale(server, "busy", 1).status == 200
            settled(server, "busy", ["busy_0"])
            gone, _alive = psutil.wait_procs(
                [worker for pid, worker in workers.items() if pid != first.pid], timeout=30
            )
            assert len(gone) == 2
            assert {infer(server, "busy") for _ in range(5)} == {first.pid}
        finally:
            stop.set()
        total = 5 + sum(client.result() for client in clients)  # raises what any of them met

    assert metrics(server)[name.format("READY")] == 1
    stats = statistics(server, "busy")["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"]) == (total, 0)
    config = get(server, "/v2/models/busy/config").json
    assert config["instance_group"][0]["count"] == 1


def test_an_instance_that_leaves_finishes_what_it_has(
    server: RunningServer, tmp_path: Path
) -> None:
    file = tmp_path / "go"
    assert scale(server, "waits", 2).status == 200
    with ThreadPoolExecutor(2) as pool:
        try:
            asked = [pool.submit(infer, server, "waits", wait=str(file)) for _ in range(2)]
            workers = {worker.pid for worker in server.workers("waits")}
            eventually(lambda: len(list(tmp_path.iterdir())) == 2, "both run")

            (now,) = scale(server, "waits", 1).json["versions"]

            assert [(one["name"], one["leaving"]) for one in now["instances"]] == [
                ("waits_0", False),
                ("waits_1", True),
            ]
            assert {worker.pid for worker in server.workers("waits")} == workers
        finally:
            file.touch()
        assert {one.result() for one in asked} == workers
    settled(server, "waits", ["waits_0"])


def test_new_instances_that_fail_leave_everything_as_it_was(
    server: RunningServer, repository: Path
) -> None:
    (repository / "full" / "full").touch()
    (worker,) = server.workers("full")

    answer = scale(server, "full", 3)

    assert answer.status in (400, 500)
    assert answer.error.startswith("model 'full' version 1 is not scaled: ")
    assert "no room for two" in answer.error
    settled(server, "full", ["full_0"])
    assert infer(server, "full") == worker.pid
    assert instances(server, "full")["groups"][0]["count"] == 1


def test_a_group_of_several_is_named_and_a_passive_one_may_be(server: RunningServer) -> None:
    assert scale(server, "named", 2, group="named_b").status == 200
    settled(server, "named", ["named_a_0", "named_b_0", "named_b_1"])
    assert scale(server, "named", 2, group="named_a").status == 200
    assert {group["name"]: group["count"] for group in instances(server, "named")["groups"]} == {
        "named_a": 2,
        "named_b": 2,
    }
    answer = scale(server, "named", 2)
    assert answer.status == 400
    assert answer.error == (
        "model 'named' has several instance groups: say by 'group' which one is to be scaled, of "
        "'named_a', 'named_b'"
    )


def test_all_versions_or_one_are_scaled(server: RunningServer) -> None:
    (one, two) = scale(server, "two", 2).json["versions"]
    assert len(one["instances"]) == len(two["instances"]) == 2
    answer = post_json(server, path("two", 2), {"count": 3})
    assert [version["version"] for version in answer.json["versions"]] == ["2"]
    assert len(instances(server, "two", 2)["instances"]) == 3
    assert len(instances(server, "two", 1)["instances"]) == 2


@pytest.mark.parametrize(
    ("model", "body", "status", "message"),
    [
        ("refused", {"count": 0}, 400, "with 1 to 256 instances: Expected `int` >= 1"),
        ("refused", {"count": 257}, 400, "Expected `int` <= 256"),
        ("refused", {}, 400, "missing required field `count`"),
        ("refused", {"count": 2, "group": "x"}, 400, "no instance group 'x': there is 'refused'"),
        ("ensemble", {"count": 2}, 400, "is an ensemble, which has no instances"),
        ("nobody", {"count": 2}, 404, "unknown model: 'nobody'"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    server: RunningServer, model: str, body: object, status: int, message: str
) -> None:
    answer = post_json(server, path(model), body)
    assert answer.status == status
    assert message in answer.error
    assert len(server.workers("refused")) == 1


def test_paths_and_methods(server: RunningServer) -> None:
    assert get(server, path("refused", 7)).status == 404
    assert post_json(server, path("refused", 7), {"count": 2}).status == 404
    assert ask(server, "DELETE", path("refused")).status == 405
    assert instances(server, "ensemble") == {"version": "1", "groups": [], "instances": []}


def test_only_local_peers_scale(server: RunningServer) -> None:
    headers = {"X-Forwarded-For": "192.0.2.1"}
    assert ask(server, "POST", path("refused"), '{"count": 2}', headers).status == 403
    assert ask(server, "GET", path("refused"), "", headers).status == 200
    assert len(server.workers("refused")) == 1


def test_counts_are_kept_over_a_reload_until_the_groups_change_or_an_unload(
    tmp_path: Path,
) -> None:
    pid_model(tmp_path, "m")
    arguments = ["--model-control-mode=explicit", "--load-model=m"]
    with serving(tmp_path, arguments=arguments) as running:

        def call(what: str) -> None:
            assert post_json(running, f"/v2/repository/models/m/{what}", {}).status == 200

        assert scale(running, "m", 3).status == 200
        before = {worker.pid for worker in running.workers()}
        models.write(tmp_path / "m" / "1" / "model.py", PID + "\n")
        call("load")
        assert [one["name"] for one in instances(running, "m")["instances"]] == [
            "m_0",
            "m_1",
            "m_2",
        ]
        eventually(lambda: len(running.workers()) == 3, "the old workers have ended")
        assert before.isdisjoint(worker.pid for worker in running.workers())

        group = "instance_group [{ kind: KIND_CPU count: 2 }]"
        config = models.identity_config("TYPE_INT32", more=group)
        models.write(tmp_path / "m" / "config.pbtxt", config)
        call("load")
        eventually(lambda: len(running.workers()) == 2, "as the file says")

        assert scale(running, "m", 1).status == 200
        call("unload")
        answer = scale(running, "m", 1)
        assert answer.status == 404
        call("load")
        assert len(instances(running, "m")["instances"]) == 2
