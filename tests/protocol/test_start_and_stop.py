"""What clients see while the server comes up and while it goes down."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from support import models
from support.clients import (
    TIMEOUT,
    connect,
    encode_request,
    eventually,
    get,
    grpc_error,
    grpc_stub,
    index,
    infer_request,
    input_tensor,
    metrics,
    post_json,
)
from support.servers import RunningServer, launch
from tritonclient.grpc import service_pb2 as pb

#: Waits for a file where its name begins with the step.
WAITS = """
    import os
    import time

    import triton_python_backend_utils as pb_utils

    def wait_for(path):
        print("waiting", path, flush=True)
        while not os.path.exists(path):
            time.sleep(0.01)

    class TritonPythonModel:
        def initialize(self, args):
            wait_for({folder!r} + "/initialize")

        def execute(self, requests):
            wait_for({folder!r} + "/execute")
            tensors = [pb_utils.get_input_tensor_by_name(r, "IN") for r in requests]
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())])
                for tensor in tensors
            ]

        def finalize(self):
            print("finalized", flush=True)
"""
TENSOR = {"name": "IN", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}


@contextmanager
def waiting_server(folder: Path) -> Iterator[RunningServer]:
    """A server whose only model comes up when the file `initialize` is there."""
    code = WAITS.format(folder=str(folder))
    models.python_model(folder / "repository", "slow", code, models.identity_config())
    server = launch(folder / "repository")
    try:
        for service, line in (
            ("grpc", "GRPCInferenceService"),
            ("http", "HTTPService"),
            ("metrics", "Metrics Service"),
        ):
            found = server.wait_for_line(rf"Started {line} at \S+:(\d+)")
            server.ports[service] = int(found[1])
        server.wait_for_line("waiting .*/initialize")
        yield server
    finally:
        for step in ("initialize", "execute"):
            (folder / step).touch()
        server.stop()
        server.runtime_directory.rmdir()


def test_the_ports_are_open_before_the_models_are_loaded(tmp_path: Path) -> None:
    with waiting_server(tmp_path) as server:
        assert get(server, "/v2/health/live").status == 200
        assert get(server, "/v2").status == 200
        assert get(server, "/v2/health/ready").status == 400
        assert index(server) == {("slow", "1"): ("LOADING", "")}
        message = "Request for unknown model: 'slow' has no available versions"
        answer = post_json(server, "/v2/models/slow/infer", {"inputs": [TENSOR]})
        assert (answer.status, answer.error) == (404, message)
        answer = get(server, "/v2/models/slow/versions/1")
        message = "Request for unknown model: 'slow' version 1 is not at ready state"
        assert (answer.status, answer.error) == (503, message)
        with grpc_stub(server) as stub:
            assert stub.ServerLive(pb.ServerLiveRequest()).live
            assert not stub.ServerReady(pb.ServerReadyRequest()).ready

        (tmp_path / "initialize").touch()
        eventually(lambda: get(server, "/v2/health/ready").status == 200, "the server is ready")
        (tmp_path / "execute").touch()
        answer = post_json(server, "/v2/models/slow/infer", {"inputs": [TENSOR]})
        assert answer.json["outputs"][0]["data"] == [1, 2, 3, 4]


def test_requests_in_flight_are_answered_before_the_server_ends(tmp_path: Path) -> None:
    (tmp_path / "initialize").touch()
    raw = np.arange(4, dtype=np.float32).tobytes()
    request = infer_request("slow", [input_tensor("IN")], [raw])
    with ExitStack() as stack:
        server = stack.enter_context(waiting_server(tmp_path))
        stub = stack.enter_context(grpc_stub(server))
        idle = stack.enter_context(closing(connect(server)))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        eventually(lambda: get(server, "/v2/health/ready").status == 200, "the server is ready")

        over_grpc = stub.ModelInfer.future(request, timeout=TIMEOUT)
        over_http = [
            pool.submit(post_json, server, "/v2/models/slow/infer", {"inputs": [TENSOR]})
            for _ in range(2)
        ]
        # One runs and two wait at the worker: all have been accepted.
        pending = 'nv_inference_pending_request_count{model="slow",version="1"}'
        eventually(lambda: metrics(server)[pending] == 2, "all requests have come")

        server.process.send_signal(signal.SIGTERM)
        server.wait_for_line("Waiting for in-flight requests to complete: 3 found")
        assert grpc_error(lambda: stub.ModelInfer(request, timeout=TIMEOUT)) == (
            "UNAVAILABLE",
            "GRPC server is shutting down and has stopped accepting new requests.",
        )
        idle.sendall(encode_request("GET", "/v2/health/ready"))
        while data := idle.recv(65536):  # it is told, or its connection is closed
            assert data.startswith((b"HTTP/1.1 503", b'{"error":"Server exiting"}'))

        (tmp_path / "execute").touch()
        assert [one.result(timeout=TIMEOUT).status for one in over_http] == [200, 200]
        assert over_grpc.result().raw_output_contents[0] == raw
        assert server.process.wait(30) == 0
        server.wait_for_line("finalized")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_models_load_ends_the_server(tmp_path: Path, number: int) -> None:
    with waiting_server(tmp_path) as server:
        server.process.send_signal(number)
        assert server.process.wait(30) in (0, 1)
        assert "Traceback" not in server.log
