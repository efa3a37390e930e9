"""What waits at a busy instance runs on the first one that is idle, once, and not at all when its
client has gone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as httpclient
from support import models
from support.clients import eventually, grpc_stub, infer_request, input_tensor, metrics
from support.servers import RunningServer, serving

#: Notes what it runs and by which instance; a request whose id is that of a gate waits for it.
GATED = """
    import os
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.name = args["model_instance_name"]

        def execute(self, requests):
            responses = []
            for request in requests:
                print("runs", request.request_id(), "on", self.name, flush=True)
                gate = os.path.join({gates!r}, request.request_id())
                if os.path.exists(gate):
                    open(gate).close()
                tensor = pb_utils.get_input_tensor_by_name(request, "IN")
                output = pb_utils.Tensor("OUT", tensor.as_numpy())
                responses.append(pb_utils.InferenceResponse([output]))
            return responses
"""


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    """Where a pipe stands for each request that waits until the test opens it."""
    (tmp_path / "gates").mkdir()
    for name in ("slow", "fast"):
        os.mkfifo(tmp_path / "gates" / name)
    return tmp_path / "gates"


@pytest.fixture
def server(tmp_path: Path, gates: Path) -> Iterator[RunningServer]:
    repository = tmp_path / "repository"
    for name, more in (
        ("single", "instance_group { count: 2 kind: KIND_CPU }"),
        ("batched", "instance_group { count: 2 kind: KIND_CPU } dynamic_batching { }"),
        ("alone", ""),
    ):
        size = 2 if name == "batched" else 0
        config = models.identity_config("TYPE_INT32", max_batch_size=size, more=more)
        models.python_model(repository, name, GATED.format(gates=str(gates)), config)
    with serving(repository) as running:
        yield running


def ask(server: RunningServer, model: str, request_id: str, rows: int) -> list[int]:
    shape = [rows, 1] if rows else [1]
    tensor = httpclient.InferInput("IN", shape, "INT32")
    tensor.set_data_from_numpy(np.arange(max(1, rows), dtype=np.int32).reshape(shape))
    with httpclient.InferenceServerClient(server.http, network_timeout=60) as client:
        result = client.infer(model, [tensor], request_id=request_id)
    out = result.as_numpy("OUT")
    assert out is not None
    return list(out.ravel())


def open_gate(gates: Path, name: str) -> None:
    with (gates / name).open("w"):
        pass


def runs(server: RunningServer) -> dict[str, str]:
    """Which instance ran which request; each ran once."""
    pairs = [
        line.split("runs ")[1].split(" on ") for line in server.log.splitlines() if "runs " in line
    ]
    counts = Counter(request for request, _ in pairs)
    assert set(counts.values()) == {1}, counts
    return {request: instance.strip(' "') for request, instance in pairs}


def pending(server: RunningServer, model: str) -> float:
    """Requests that have not begun, in the queue or at the workers ahead of time."""
    return metrics(server)[f'nv_inference_pending_request_count{{model="{model}",version="1"}}']


@pytest.mark.parametrize(("model", "rows"), [("single", 0), ("batched", 2)])
def test_a_slow_instance_holds_one_batch_and_the_other_gets_the_rest(
    server: RunningServer, gates: Path, model: str, rows: int
) -> None:
    with ThreadPoolExecutor(8) as pool:

        def send(name: str) -> Future[list[int]]:
            return pool.submit(ask, server, model, name, rows)

        slow = send("slow")
        server.wait_for_line("runs slow")
        fast = send("fast")
        server.wait_for_line("runs fast")
        rest = [send(f"rest{number}") for number in range(5)]
        # Some or all are at the workers ahead of time, the others wait in the queue.
        eventually(lambda: pending(server, model) == 5, "five wait")

        open_gate(gates, "fast")

        expected = list(range(max(1, rows)))
        assert [answer.result(60) for answer in (fast, *rest)] == [expected] * 6
        assert not slow.done()
        open_gate(gates, "slow")
        assert slow.result(60) == expected
    eventually(lambda: len(runs(server)) == 7, "all have run, and the log says so")
    ran = runs(server)
    assert {ran[f"rest{number}"] for number in range(5)} == {ran["fast"]}
    assert ran["slow"] != ran["fast"]


def test_a_request_that_was_sent_ahead_never_runs_when_its_client_goes(
    server: RunningServer, gates: Path
) -> None:
    series = 'nv_inference_request_failure{model="alone",reason="CANCELED",version="1"}'

    def call(stub: Any, name: str) -> Any:
        tensor = input_tensor("IN", "INT32", [1])
        return stub.ModelInfer.future(infer_request("alone", [tensor], [bytes(4)], id=name))

    with grpc_stub(server) as stub:
        slow = call(stub, "slow")
        server.wait_for_line("runs slow")
        ahead = call(stub, "ahead")
        last = call(stub, "last")
        eventually(lambda: pending(server, "alone") == 2, "both are sent ahead")

        ahead.cancel()

        eventually(lambda: metrics(server)[series] == 1, "it is counted as cancelled")
        eventually(lambda: pending(server, "alone") == 1, "the last one waits on")
        assert not slow.done()
        open_gate(gates, "slow")
        assert slow.result(60).id == "slow"
        assert last.result(60).id == "last"
    assert set(runs(server)) == {"slow", "last"}
