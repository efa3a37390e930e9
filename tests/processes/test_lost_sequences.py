"""A worker that dies takes its sequences with it, and says so until they begin anew."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http
from support import models
from support.clients import eventually, grpc_stub, infer_request, input_tensor, pending
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

#: Answers with its process and how many requests it has had.
COUNT = """
    import os

    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.count = 0

        def execute(self, requests):
            self.count += len(requests)
            tensor = pb_utils.Tensor("OUT", np.array([os.getpid(), self.count], np.int32))
            return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""
CONFIG = """
    backend: "python"
    input { name: "IN" data_type: TYPE_INT32 dims: 1 }
    output { name: "OUT" data_type: TYPE_INT32 dims: 2 }
    instance_group { count: 2 }
    sequence_batching { max_sequence_idle_microseconds: 60000000 }
"""


def step(server: RunningServer, id: int, flags: str = "") -> int:
    """One request of a sequence; returns the process that answered."""
    tensor = http.InferInput("IN", [1], "INT32")
    tensor.set_data_from_numpy(np.array([1], np.int32))
    with http.InferenceServerClient(server.http) as client:
        result = client.infer(
            "count",
            [tensor],
            sequence_id=id,
            sequence_start="S" in flags,
            sequence_end="E" in flags,
        ).as_numpy("OUT")
    assert result is not None
    return int(result[0])


def test_a_killed_worker_ends_its_sequences_and_no_others(tmp_path: Path) -> None:
    models.python_model(tmp_path, "count", COUNT, CONFIG)
    with serving(tmp_path) as running:
        lost, kept = step(running, 1, "S"), step(running, 2, "S")
        assert lost != kept
        (worker,) = [one for one in running.workers("count") if one.pid == lost]

        worker.send_signal(signal.SIGKILL)
        running.wait_for_line(r"was killed by signal SIGKILL")

        for _ in range(2):
            with pytest.raises(InferenceServerException) as refused:
                step(running, 1)
            assert refused.value.status() == "503"
            assert "sequence 1 of model 'count' is lost: the worker of model instance" in str(
                refused.value
            )
            assert "SIGKILL; begin it anew, with the START flag" in str(refused.value)
        assert step(running, 2) == kept
        running.wait_for_line(r"serves again")
        anew = step(running, 1, "S")
        assert anew not in (lost, kept)
        assert step(running, 1, "E") == anew
        assert step(running, 2, "E") == kept


def test_a_sequence_in_the_backlog_is_served_by_the_next_worker(tmp_path: Path) -> None:
    models.python_model(tmp_path, "count", COUNT, CONFIG.replace("count: 2", "count: 1"))
    with serving(tmp_path) as running, grpc_stub(running) as stub:
        first = step(running, 1, "S")
        tensor = input_tensor("IN", "INT32", [1], {"int_contents": [1]})
        parameters = {"sequence_id": 2, "sequence_start": True, "sequence_end": True}
        waits = stub.ModelInfer.future(infer_request("count", [tensor], parameters=parameters))
        eventually(lambda: pending(running, "count") == 1, "the second sequence waits")

        running.workers("count")[0].send_signal(signal.SIGKILL)

        answer = np.frombuffer(waits.result(timeout=60).raw_output_contents[0], np.int32)
        assert int(answer[0]) != first
