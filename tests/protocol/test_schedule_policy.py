"""Priorities, queue limits, timeouts and the order of answers, as clients meet them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import eventually, get, metrics, statistics, unharmed
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

#: Notes the id of each request, and does not answer `blocker` before there is a file `go`.
GATED = """
    import json
    import time
    from pathlib import Path

    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.folder = Path(args["model_repository"])

        def execute(self, requests):
            for request in requests:
                with open(self.folder / "seen", "a") as file:
                    print(request.request_id(), file=file)
                while request.request_id() == "blocker" and not (self.folder / "go").exists():
                    time.sleep(0.005)
            return [
                pb_utils.InferenceResponse([
                    pb_utils.Tensor(
                        "OUT", pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                    )
                ])
                for request in requests
            ]
"""
BATCHING = {
    "priorities": "priority_levels: 3 default_priority_level: 2",
    "limited": "default_queue_policy { max_queue_size: 1 }",
    "rejects": "default_queue_policy { default_timeout_microseconds: 1000 }",
    "delays": """
        default_queue_policy {
          timeout_action: DELAY
          default_timeout_microseconds: 3600000000
          allow_timeout_override: true
        }
    """,
    "patient": "default_queue_policy { max_queue_size: 9 allow_timeout_override: true }",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name, batching in BATCHING.items():
        more = f"dynamic_batching {{ {batching} }}"
        config = models.identity_config(max_batch_size=1, dims=(1,), more=more)
        models.python_model(folder, name, GATED, config)
    config = models.identity_config(
        max_batch_size=1,
        dims=(1,),
        more="dynamic_batching { preserve_ordering: true } instance_group { count: 2 }",
    )
    models.python_model(folder, "ordered", GATED, config)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with serving(repository) as running, unharmed(running):
        yield running


@contextmanager
def blocked(server: RunningServer, repository: Path, model: str) -> Iterator[ThreadPoolExecutor]:
    """The model's instance is busy until the end of the block."""
    folder = repository / model
    (folder / "go").unlink(missing_ok=True)
    (folder / "seen").unlink(missing_ok=True)
    with ThreadPoolExecutor(16) as threads:
        blocker = threads.submit(infer, server, model, "blocker")
        try:
            eventually(lambda: "blocker" in seen(repository, model), "the instance is busy")
            yield threads
        finally:
            (folder / "go").touch()
            blocker.result()


def seen(repository: Path, model: str) -> list[str]:
    file = repository / model / "seen"
    return file.read_text().split() if file.exists() else []


def infer(
    server: RunningServer, model: str, name: str, library: Any = grpcclient, **more: Any
) -> None:
    tensor = library.InferInput("IN", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    address = server.grpc if library is grpcclient else server.http
    with library.InferenceServerClient(address) as client:
        result = client.infer(model, [tensor], request_id=name, **more)
        assert result.as_numpy("OUT").tolist() == [[1.0]]


def queued(server: RunningServer, model: str) -> float:
    return metrics(server)[f'nv_inference_pending_request_count{{model="{model}",version="1"}}']


def test_requests_run_in_the_order_of_their_priorities(
    server: RunningServer, repository: Path
) -> None:
    sent: list[Future[None]] = []
    with blocked(server, repository, "priorities") as threads:
        for number, (name, library, priority) in enumerate(
            (
                ("third", httpclient, 3),
                ("default", grpcclient, 0),
                ("second", grpcclient, 2),
                ("beyond", httpclient, 9),
                ("first", httpclient, 1),
            ),
            start=1,
        ):
            sent.append(
                threads.submit(infer, server, "priorities", name, library, priority=priority)
            )
            eventually(lambda n=number: queued(server, "priorities") == n, "it is queued")
    for each in sent:
        each.result()

    expected = ["blocker", "first", "default", "second", "beyond", "third"]
    assert seen(repository, "priorities") == expected


@pytest.mark.parametrize("library", [httpclient, grpcclient])
def test_a_request_beyond_the_queues_size_is_refused_at_once(
    server: RunningServer, repository: Path, library: Any
) -> None:
    before = statistics(server, "limited")["inference_stats"]["fail"]["count"]
    with blocked(server, repository, "limited") as threads:
        waits = threads.submit(infer, server, "limited", "waits")
        eventually(lambda: queued(server, "limited") == 1, "one request is queued")

        with pytest.raises(InferenceServerException) as refusal:
            infer(server, "limited", "refused", library)

    waits.result()
    assert refusal.value.status() in ("503", "StatusCode.UNAVAILABLE")
    assert refusal.value.message() == "[request id: refused] Exceeds maximum queue size"
    assert seen(repository, "limited") == ["blocker", "waits"]
    after = statistics(server, "limited")["inference_stats"]["fail"]["count"]
    assert after == before + 1
    sample = 'nv_inference_request_failure{model="limited",reason="REJECTED",version="1"}'
    assert metrics(server)[sample] == after


def test_a_request_that_waits_too_long_is_given_up_while_the_instance_is_busy(
    server: RunningServer, repository: Path
) -> None:
    with blocked(server, repository, "rejects"), pytest.raises(InferenceServerException) as refusal:
        infer(server, "rejects", "late")

    assert refusal.value.status() == "StatusCode.UNAVAILABLE"
    assert refusal.value.message() == "[request id: late] Request timeout expired"
    assert seen(repository, "rejects") == ["blocker"]


def test_a_late_request_runs_after_those_that_are_in_time(
    server: RunningServer, repository: Path
) -> None:
    with blocked(server, repository, "delays") as threads:
        late = threads.submit(infer, server, "delays", "late", timeout=1)
        eventually(lambda: queued(server, "delays") == 1, "the late one is queued")
        in_time = threads.submit(infer, server, "delays", "in_time")
        eventually(lambda: queued(server, "delays") == 2, "both are queued")

    late.result()
    in_time.result()
    assert seen(repository, "delays") == ["blocker", "in_time", "late"]


def test_a_requests_timeout_does_not_count_where_the_policy_has_none(
    server: RunningServer, repository: Path
) -> None:
    with blocked(server, repository, "patient") as threads:
        waits = threads.submit(infer, server, "patient", "waits", timeout=1)
        eventually(lambda: queued(server, "patient") == 1, "it is queued")

    waits.result()


def test_an_answer_waits_for_the_one_before_it_where_order_is_preserved(
    server: RunningServer, repository: Path
) -> None:
    with blocked(server, repository, "ordered") as threads:
        second = threads.submit(infer, server, "ordered", "second")
        eventually(
            lambda: statistics(server, "ordered")["execution_count"] == 1,
            "the second is executed",
        )
        assert not second.done()

    second.result()


def test_the_extension_is_listed(server: RunningServer) -> None:
    assert "schedule_policy" in get(server, "/v2").json["extensions"]
