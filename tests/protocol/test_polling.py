"""Poll mode: what changes in the repository changes what is served."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import models
from support.clients import ask, eventually, get, index, post_json
from support.servers import RunningServer, serving

ANSWER = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            tensor = pb_utils.Tensor("OUT", np.array([{value}], np.float32))
            return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def server(repository: Path) -> Iterator[RunningServer]:
    add(repository, "steady", 1)
    add(repository, "changing", 1)
    arguments = ["--model-control-mode=poll", "--repository-poll-secs=1"]
    with serving(repository, arguments=arguments) as running:
        yield running


def add(repository: Path, name: str, value: float, version: int = 1) -> None:
    code = ANSWER.format(value=value)
    models.python_model(repository, name, code, models.identity_config(), version)


def answer(server: RunningServer, model: str) -> float | None:
    """What the model says, None when it is not served."""
    tensor = {"name": "IN", "datatype": "FP32", "shape": [1], "data": [0]}
    found = post_json(server, f"/v2/models/{model}/infer", {"inputs": [tensor]})
    return float(found.json["outputs"][0]["data"][0]) if found.status == 200 else None


def test_models_come_change_and_go_with_their_files(
    server: RunningServer, repository: Path
) -> None:
    (steady,) = server.workers("steady")
    assert answer(server, "changing") == 1

    add(repository, "new", 5)
    add(repository, "changing", 2)
    eventually(lambda: answer(server, "new") == 5, "the new model serves")
    eventually(lambda: answer(server, "changing") == 2, "the changed model serves")

    add(repository, "changing", 3, version=2)
    eventually(lambda: answer(server, "changing") == 3, "the new version serves")
    eventually(
        lambda: get(server, "/v2/models/changing").json["versions"] == ["2"], "the old one is gone"
    )

    shutil.rmtree(repository / "new")
    eventually(lambda: answer(server, "new") is None, "the removed model does not serve")
    eventually(lambda: server.workers("new") == [], "its worker is gone")

    assert [worker.pid for worker in server.workers("steady")] == [steady.pid]
    assert answer(server, "steady") == 1
    assert get(server, "/v2/health/ready").status == 200


def test_a_broken_change_leaves_the_old_one_serving_and_is_not_tried_again_and_again(
    server: RunningServer, repository: Path
) -> None:
    (repository / "changing" / "1" / "model.py").write_text("raise ValueError('broken')\n")
    models.write(repository / "bad" / "config.pbtxt", "no_such_field: 1")
    server.wait_for_line("failed to load 'changing' version 1: .*broken")
    server.wait_for_line("failed to load 'bad', failed to poll from model repository")
    # Two more models, one after the other: the repository is looked at again in between.
    for number in (1, 2):
        add(repository, f"later{number}", number)
        eventually(lambda number=number: answer(server, f"later{number}") == number, "it serves")
    assert server.log.count("failed to load 'changing' version 1") == 1
    assert server.log.count("failed to load 'bad'") == 1
    assert answer(server, "changing") == 1
    assert index(server)["bad", ""][0] == "UNAVAILABLE"

    add(repository, "changing", 7)
    shutil.rmtree(repository / "bad")
    eventually(lambda: answer(server, "changing") == 7, "the repaired model serves")
    eventually(lambda: get(server, "/v2/health/ready").status == 200, "the server is ready")


def test_clients_cannot_control_models_in_poll_mode(server: RunningServer) -> None:
    found = ask(server, "POST", "/v2/repository/models/steady/unload")
    assert (found.status, found.error) == (
        503,
        "explicit model load / unload is not allowed if polling is enabled",
    )
