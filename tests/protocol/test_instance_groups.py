"""Instance groups: where their workers run, and whether they are given requests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from support import models
from support.clients import post_json
from support.servers import RunningServer, launch, serving

#: Answers with the number of its instance group.
GROUP = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.group = int(args["model_instance_name"].split("_")[1])

        def execute(self, requests):
            out = pb_utils.Tensor("OUT", np.array([self.group], np.int32))
            return [pb_utils.InferenceResponse([out]) for _ in requests]
"""

CORE = max(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    for name, more in (
        (
            "some",
            "instance_group [{ kind: KIND_CPU passive: true }, { kind: KIND_CPU count: 2 }]",
        ),
        ("none", "instance_group [{ kind: KIND_CPU passive: true }]"),
        ("pinned", 'instance_group [{ kind: KIND_CPU host_policy: "quiet" }]'),
    ):
        models.python_model(
            repository, name, GROUP, models.identity_config("TYPE_INT32", more=more)
        )
    arguments = [
        f"--host-policy=quiet,cpu-cores={CORE}-{CORE}",
        "--host-policy=quiet,numa-node=0",
        "--host-policy=gpu_0,cpu-cores=0-0",
    ]
    with serving(repository, arguments=arguments) as running:
        yield running


def infer(server: RunningServer, model: str) -> list[int]:
    tensor = {"name": "IN", "datatype": "INT32", "shape": [1], "data": [1]}
    answer = post_json(server, f"/v2/models/{model}/infer", {"inputs": [tensor]})
    assert answer.status == 200, answer.body
    (output,) = answer.json["outputs"]
    data: list[int] = output["data"]
    return data


def test_a_passive_instance_is_there_and_gets_no_requests(server: RunningServer) -> None:
    assert len(server.workers("some")) == 3
    with ThreadPoolExecutor(8) as pool:
        groups = list(pool.map(lambda _: infer(server, "some"), range(40)))
    assert groups == [[1]] * 40


def test_a_model_with_passive_instances_only_takes_no_requests(server: RunningServer) -> None:
    assert len(server.workers("none")) == 1
    tensor = {"name": "IN", "datatype": "INT32", "shape": [1], "data": [1]}
    answer = post_json(server, "/v2/models/none/infer", {"inputs": [tensor]})
    assert answer.status == 503
    assert answer.error == (
        "[request id: <id_unknown>] model 'none' version 1 has passive instances only, which take "
        "no requests"
    )


def cores(process: psutil.Process) -> set[int]:
    """On which cores all threads of a process may run."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return {core for task in tasks for core in os.sched_getaffinity(int(task.name))}


def test_a_worker_runs_where_its_host_policy_says(server: RunningServer) -> None:
    (pinned,) = server.workers("pinned")
    assert cores(pinned) == {CORE}
    for other in server.workers("some"):
        assert cores(other) == os.sched_getaffinity(0)
    infer(server, "pinned")


def test_a_worker_that_is_started_again_runs_there_too(server: RunningServer) -> None:
    (pinned,) = server.workers("pinned")
    pinned.kill()
    server.wait_for_line("model instance 'pinned_0_0' serves again")
    (again,) = server.workers("pinned")
    assert again.pid != pinned.pid
    assert cores(again) == {CORE}


def test_a_host_policy_that_makes_no_sense_ends_the_server(tmp_path: Path) -> None:
    server = launch(tmp_path, arguments=["--host-policy=cpu,cpu-cores=0-4095"])
    assert server.process.wait(60) == 1
    server.stop()
    assert "error: creating server: host policy 'cpu' has cpu-cores=0-4095" in server.log
    server.runtime_directory.rmdir()
