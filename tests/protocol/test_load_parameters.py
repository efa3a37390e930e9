"""Loads that bring files along or name versions, over HTTP and gRPC."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import Answer, ask, eventually, get, index, post_json
from support.servers import RunningServer, serving

CODE = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            tensor = pb_utils.Tensor("OUT", np.array([{value}], np.float32))
            return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""
CONFIG = json.dumps(
    {
        "backend": "python",
        "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [-1]}],
        "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [-1]}],
    }
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    for version in (1, 2, 3):
        models.python_model(repository, "m", code(version), models.identity_config(), version)
    with serving(repository, arguments=["--model-control-mode=explicit"]) as running:
        yield running


def code(value: float) -> str:
    return dedent(CODE.format(value=value))


def load(server: RunningServer, model: str, parameters: dict[str, str] | None = None) -> Answer:
    body = {"parameters": parameters} if parameters else {}
    return post_json(server, f"/v2/repository/models/{model}/load", body)


def unload(server: RunningServer, model: str) -> None:
    assert ask(server, "POST", f"/v2/repository/models/{model}/unload").status == 200
    eventually(lambda: not ready(server, model), f"{model} is unloaded")


def ready(server: RunningServer, model: str) -> list[str]:
    states = index(server).items()
    return [version for (name, version), (state, _) in states if (name, state) == (model, "READY")]


def answer_of(server: RunningServer, model: str, version: str = "") -> float:
    tensor = {"name": "IN", "datatype": "FP32", "shape": [1], "data": [1]}
    path = f"/v2/models/{model}{version}/infer"
    return float(post_json(server, path, {"inputs": [tensor]}).json["outputs"][0]["data"][0])


def folders(server: RunningServer) -> list[Path]:
    """What was made on the disk for files that came with a load."""
    return list(server.runtime_directory.glob("*/given-*"))


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_files_given_with_a_load_replace_the_folder_until_a_plain_load(
    server: RunningServer,
) -> None:
    assert load(server, "m").status == 200
    with httpclient.InferenceServerClient(server.http) as client:
        client.load_model("m", config=CONFIG, files={"file:7/model.py": code(70).encode()})
    assert ready(server, "m") == ["7"]
    assert answer_of(server, "m") == 70
    (folder,) = folders(server)
    assert folder.stat().st_mode & 0o077 == 0

    with grpcclient.InferenceServerClient(server.grpc) as client:
        client.load_model("m", config=CONFIG, files={"file:8/model.py": code(80).encode()})
    assert answer_of(server, "m") == 80
    eventually(lambda: len(folders(server)) == 1, "the first folder is gone")

    assert load(server, "m").status == 200
    assert ready(server, "m") == ["3"]
    assert answer_of(server, "m") == 3
    eventually(lambda: not folders(server), "both folders are gone")


def test_a_model_of_given_files_needs_no_repository_and_leaves_nothing(
    server: RunningServer,
) -> None:
    files = {"config": CONFIG, "file:1/model.py": base64_of(code(5))}
    assert load(server, "nowhere", files).status == 200
    assert answer_of(server, "nowhere") == 5
    unload(server, "nowhere")
    eventually(lambda: not folders(server), "the folder is gone")
    assert load(server, "nowhere").status == 500


@pytest.mark.parametrize(
    "files",
    [
        {"file:../model.py": "eA=="},
        {"file:/tmp/model.py": "eA=="},
        {"file:1/../../model.py": "eA=="},
        {"file:": "eA=="},
        {"file:1//model.py": "eA=="},
        {"file:1": "eA==", "file:1/model.py": "eA=="},
        {"file:1/model.py": "eA==", "file:1": "eA=="},
        {"file:model.py": "eA=="},
        {"file:1/model.py": base64_of("raise ValueError('no')")},
    ],
    ids=["up", "absolute", "up again", "empty", "empty part", "file first", "folder first",
         "no version", "broken"],
)  # fmt: skip
def test_given_files_that_will_not_do_change_nothing_and_leave_nothing(
    server: RunningServer, files: dict[str, str]
) -> None:
    assert load(server, "m").status == 200
    answer = load(server, "m", {"config": CONFIG, **files})
    assert answer.status in (400, 500)
    assert answer.error.startswith(("failed to load 'm'", "load failed for model 'm'"))
    assert answer_of(server, "m") == 3
    eventually(lambda: not folders(server), "the folder is gone")


def test_files_are_not_taken_without_a_configuration(server: RunningServer) -> None:
    answer = load(server, "m", {"file:1/model.py": base64_of(code(5))})
    assert answer.status == 500
    assert "Load parameter 'config' must be specified for model file override" in answer.error


def test_a_load_may_name_the_versions_to_serve(server: RunningServer) -> None:
    assert load(server, "m", {"versions": "1,3"}).status == 200
    assert ready(server, "m") == ["1", "3"]
    assert answer_of(server, "m", "/versions/1") == 1
    policy = get(server, "/v2/models/m/config").json["version_policy"]
    assert policy == {"specific": {"versions": [1, 3]}}

    three = {worker.pid for worker in server.workers("m")}
    assert load(server, "m", {"versions": "[2, 3]"}).status == 200
    assert ready(server, "m") == ["2", "3"]
    eventually(lambda: len(server.workers("m")) == 2, "version 1 has ended")
    assert len(three & {worker.pid for worker in server.workers("m")}) == 1

    for wrong in ("", "0", "x", "[1", "1.5", "4"):
        answer = load(server, "m", {"versions": wrong})
        assert answer.status in (400, 500)
        assert "'versions'" in answer.error
    assert ready(server, "m") == ["2", "3"]

    assert load(server, "m").status == 200
    assert ready(server, "m") == ["3"]


def versioned(server: RunningServer, repository: Path, name: str, more: str = "") -> Path:
    """A model that serves all of its versions, of which there is one; returns its configuration."""
    policy = "version_policy { all { } }"
    config = models.identity_config(more=f"{policy} {more}")
    folder = models.python_model(repository, name, code(1), config)
    assert load(server, name).status == 200
    return folder / "config.pbtxt"


def pids(server: RunningServer, name: str) -> set[int]:
    return {worker.pid for worker in server.workers(name)}


def test_a_version_that_is_added_is_loaded_beside_one_that_stays(
    server: RunningServer, repository: Path
) -> None:
    versioned(server, repository, "growing")
    (first,) = pids(server, "growing")
    models.write(repository / "growing" / "2" / "model.py", code(2))

    assert load(server, "growing").status == 200

    assert ready(server, "growing") == ["1", "2"]
    assert first in pids(server, "growing")
    assert len(pids(server, "growing")) == 2
    assert answer_of(server, "growing") == 2

    models.write(repository / "growing" / "1" / "model.py", code(10))
    assert load(server, "growing").status == 200
    assert answer_of(server, "growing", "/versions/1") == 10


def test_a_file_for_all_versions_reloads_all(server: RunningServer, repository: Path) -> None:
    config = versioned(server, repository, "shared")
    before = pids(server, "shared")
    (config.parent / "labels.txt").write_text("one")
    assert load(server, "shared").status == 200
    eventually(lambda: not before & pids(server, "shared"), "the old worker has ended")


def test_a_change_of_instances_alone_keeps_the_others_running(
    server: RunningServer, repository: Path
) -> None:
    config = versioned(server, repository, "crew")
    text = config.read_text()
    (first,) = pids(server, "crew")

    config.write_text(text + "instance_group [ { count: 3 kind: KIND_CPU } ]")
    assert load(server, "crew").status == 200
    assert first in pids(server, "crew")
    assert len(pids(server, "crew")) == 3
    groups = get(server, "/v2/models/crew/config").json["instance_group"]
    assert [group["count"] for group in groups] == [3]

    config.write_text(text)
    assert load(server, "crew").status == 200
    eventually(lambda: len(pids(server, "crew")) == 1, "two instances have ended")
    assert answer_of(server, "crew") == 1

    config.write_text(text + "instance_group [ { count: 2 kind: KIND_GPU gpus: [ 99 ] } ]")
    answer = load(server, "crew")
    assert answer.status == 400
    assert "GPU 99" in answer.error
    assert answer_of(server, "crew") == 1
    unload(server, "crew")
    eventually(lambda: not pids(server, "crew"), "all instances have ended")


def test_a_change_of_instances_drops_no_request(server: RunningServer, repository: Path) -> None:
    config = versioned(server, repository, "busy")
    text = config.read_text()
    stop = threading.Event()

    def ask_on(_: int) -> int:
        count = 0
        while not stop.is_set():
            assert answer_of(server, "busy") == 1
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        counts = [pool.submit(ask_on, number) for number in range(4)]
        try:
            for instances in (3, 1, 2, 4, 1):
                group = f"instance_group [ {{ count: {instances} kind: KIND_CPU }} ]"
                config.write_text(text + group)
                assert load(server, "busy").status == 200
        finally:
            stop.set()
        assert all(count.result() for count in counts)
    eventually(lambda: len(pids(server, "busy")) == 1, "the others have ended")
