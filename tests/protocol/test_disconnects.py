"""Clients that go away: their requests are dropped, the others are served, and nothing leaks."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.http as httpclient
from support import models
from support.clients import (
    TIMEOUT,
    ask,
    connect,
    encode_request,
    eventually,
    get,
    grpc_stub,
    index,
    infer_request,
    input_tensor,
    metrics,
    read_answer,
    statistics,
    with_binary,
)
from support.ensembles import ensemble, step
from support.proxy import proxy
from support.servers import RunningServer, serving
from support.transports import each_transport, option
from tritonclient.grpc import service_pb2_grpc

#: Runs until its gate is open or its client has gone, and tells of both.
GATED = """
    import os
    import time

    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                print("running", request.request_id(), flush=True)
                while not os.path.exists({gate!r}) and not request.is_cancelled():
                    time.sleep(0.005)
                if request.is_cancelled():
                    print("cancelled", request.request_id(), flush=True)
                tensor = pb_utils.get_input_tensor_by_name(request, "IN")
                output = pb_utils.Tensor("OUT", tensor.as_numpy())
                responses.append(pb_utils.InferenceResponse([output]))
            return responses
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def transport() -> str:
    """The transport of gRPC where it makes no difference."""
    return "grpcio"


@pytest.fixture
def server(tmp_path: Path, gate: Path, transport: str) -> Iterator[RunningServer]:
    repository = tmp_path / "repository"
    config = models.identity_config("TYPE_UINT8")
    models.python_model(repository, "gated", GATED.format(gate=str(gate)), config)
    models.identity(repository, "plain", "TYPE_UINT8")
    steps = [step("gated", {"IN": "IN"}, {"OUT": "x"}),
             step("plain", {"INPUT0": "x"}, {"OUTPUT0": "OUT"})]  # fmt: skip
    ensemble(repository, "pipeline", ["IN UINT8 -1"], ["OUT UINT8 -1"], steps)
    arguments = ["--model-control-mode=explicit", "--load-model=*", option(transport)]
    with serving(repository, arguments=arguments) as running:
        yield running
        gate.touch()
        assert "Traceback" not in running.log


def body_of(name: str, data: bytes, request_id: str = "") -> tuple[bytes, dict[str, str | None]]:
    tensor = {
        "name": name,
        "datatype": "UINT8",
        "shape": [len(data)],
        "parameters": {"binary_data_size": len(data)},
    }
    document = {
        "id": request_id,
        "inputs": [tensor],
        "parameters": {"binary_data_output": True},
    }
    return with_binary(document, data)


def send(
    server: RunningServer, request_id: str, size: int = 3, model: str = "gated"
) -> socket.socket:
    """Send a request to the gated model; the caller reads the answer or goes away."""
    connection = connect(server)
    body, headers = body_of("IN", bytes(size), request_id)
    connection.sendall(encode_request("POST", f"/v2/models/{model}/infer", body, headers))
    return connection


def vanish(connection: socket.socket) -> None:
    """Close a connection as a crashed client does: by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def cancelled(server: RunningServer, model: str = "gated") -> float:
    series = f'nv_inference_request_failure{{model="{model}",reason="CANCELED",version="1"}}'
    return metrics(server)[series]


def pending(server: RunningServer) -> float:
    return metrics(server)['nv_inference_pending_request_count{model="gated",version="1"}']


def assert_serves(server: RunningServer, model: str, name: str) -> None:
    tensor = httpclient.InferInput(name, [5], "UINT8")
    tensor.set_data_from_numpy(np.arange(5, dtype=np.uint8))
    with httpclient.InferenceServerClient(server.http) as client:
        result = client.infer(model, [tensor]).as_numpy(name.replace("IN", "OUT"))
    assert result is not None
    assert result.tolist() == [0, 1, 2, 3, 4]


def assert_nothing_leased(server: RunningServer) -> None:
    """A model ends at once when it is unloaded: it waits for every request and every lease."""
    for model in ("gated", "plain"):
        (worker,) = server.workers(model)
        assert ask(server, "POST", f"/v2/repository/models/{model}/unload").status == 200
        worker.wait(20)
    eventually(
        lambda: all(reason == "unloaded" for _, reason in index(server).values()), "all unloaded"
    )


@pytest.mark.parametrize("end", [vanish, socket.socket.close], ids=["reset", "close"])
def test_a_model_sees_that_its_client_has_gone(server: RunningServer, end: Any) -> None:
    connection = send(server, "going", 100_000)
    server.wait_for_line("running going")
    end(connection)
    server.wait_for_line("cancelled going")
    assert_serves(server, "plain", "INPUT0")
    assert get(server, "/v2/health/ready").status == 200
    assert_nothing_leased(server)


@pytest.mark.parametrize("end", [vanish, socket.socket.close], ids=["reset", "close"])
def test_the_running_step_of_an_ensemble_sees_it_and_no_further_one_runs(
    server: RunningServer, end: Any
) -> None:
    connection = send(server, "going", 100_000, "pipeline")
    server.wait_for_line("running going")
    end(connection)
    server.wait_for_line("cancelled going")
    eventually(lambda: cancelled(server, "pipeline") == 1, "the ensemble's request is cancelled")
    assert statistics(server, "plain")["execution_count"] == 0
    assert ask(server, "POST", "/v2/repository/models/pipeline/unload").status == 200
    assert_nothing_leased(server)


def test_a_step_that_waits_is_dropped_when_the_ensembles_client_goes(
    server: RunningServer, gate: Path
) -> None:
    with closing(send(server, "first")) as first:
        server.wait_for_line("running first")
        leaving = [send(server, f"leaving{number}", 50_000, "pipeline") for number in range(3)]
        eventually(lambda: pending(server) == 3, "three steps wait")
        for connection in leaving:
            vanish(connection)
        eventually(lambda: cancelled(server) == 3, "all three are counted as cancelled")
        assert pending(server) == 0
        gate.touch()
        assert read_answer(first).status == 200
    assert cancelled(server, "pipeline") == 3
    assert "running leaving" not in server.log
    assert ask(server, "POST", "/v2/repository/models/pipeline/unload").status == 200
    assert_nothing_leased(server)


def test_a_request_that_waits_is_dropped_when_its_client_goes(
    server: RunningServer, gate: Path
) -> None:
    with closing(send(server, "first")) as first:
        server.wait_for_line("running first")
        # The worker is sent these ahead of time, and they are taken back.
        leaving = [send(server, f"leaving{number}", 50_000) for number in range(4)]
        eventually(lambda: pending(server) == 4, "four requests wait")
        for connection in leaving:
            vanish(connection)
        eventually(lambda: cancelled(server) == 4, "all four are counted as cancelled")
        assert pending(server) == 0
        gate.touch()
        assert read_answer(first).status == 200
    assert_serves(server, "gated", "IN")
    counts = statistics(server, "gated")["inference_stats"]
    assert counts["fail"]["count"] == 4
    assert counts["success"]["count"] == 2
    assert "running leaving" not in server.log
    assert_nothing_leased(server)


@each_transport
def test_a_grpc_call_that_is_cancelled_is_dropped_or_told_to_the_model(
    server: RunningServer, gate: Path
) -> None:
    def call(request_id: str) -> Any:
        tensor = input_tensor("IN", "UINT8", [50_000])
        request = infer_request("gated", [tensor], [bytes(50_000)], id=request_id)
        return stub.ModelInfer.future(request, timeout=TIMEOUT)

    with grpc_stub(server) as stub:
        running = call("running1")
        server.wait_for_line("running running1")
        # The worker is sent these ahead of time, and they are taken back.
        leaving = [call(f"leaving{number}") for number in range(3)]
        eventually(lambda: pending(server) == 3, "three wait")
        for waiting in leaving:
            waiting.cancel()
        eventually(lambda: cancelled(server) == 3, "they are counted as cancelled")
        running.cancel()
        server.wait_for_line("cancelled running1")
    gate.touch()
    assert_serves(server, "gated", "IN")
    assert_nothing_leased(server)


@each_transport
def test_a_grpc_deadline_ends_the_request(server: RunningServer) -> None:
    with grpc_stub(server) as stub:
        tensor = input_tensor("IN", "UINT8", [3])
        call = stub.ModelInfer.future(
            infer_request("gated", [tensor], [b"abc"], id="late"), timeout=0.5
        )
        assert call.exception(TIMEOUT).code().name == "DEADLINE_EXCEEDED"
        server.wait_for_line("cancelled late")


@each_transport
def test_a_grpc_deadline_drops_a_request_that_waits(server: RunningServer, gate: Path) -> None:
    with grpc_stub(server) as stub:
        first = stub.ModelInfer.future(gated("first"), timeout=TIMEOUT)
        server.wait_for_line("running first")
        # The worker is sent these ahead of time.
        waiting = [stub.ModelInfer.future(gated(f"late{n}"), timeout=1.0) for n in range(3)]
        eventually(lambda: pending(server) == 3, "three wait")
        for call in waiting:
            assert call.exception(TIMEOUT).code().name == "DEADLINE_EXCEEDED"
        eventually(lambda: pending(server) == 0, "nobody waits")
        eventually(lambda: cancelled(server) >= 3, "they are counted as cancelled")
        gate.touch()
        assert first.exception(TIMEOUT) is None
    assert_serves(server, "gated", "IN")
    assert_nothing_leased(server)


def gated(request_id: str) -> Any:
    """A request to the gated model."""
    return infer_request("gated", [input_tensor("IN", "UINT8", [3])], [b"abc"], id=request_id)


@each_transport
def test_a_stream_that_is_cancelled_drops_its_requests_or_tells_the_model(
    server: RunningServer, gate: Path
) -> None:
    with grpc_stub(server) as stub:
        # One runs, and the worker is sent the others ahead of time.
        requests = [gated("running1"), *(gated(f"leaving{number}") for number in range(3))]
        call = stub.ModelStreamInfer(iter(requests), timeout=TIMEOUT)
        server.wait_for_line("running running1")
        eventually(lambda: pending(server) == 3, "three wait")
        call.cancel()
        server.wait_for_line("cancelled running1")
        eventually(lambda: cancelled(server) >= 3, "they are counted as cancelled")
    gate.touch()
    assert_serves(server, "gated", "IN")
    assert_nothing_leased(server)


@each_transport
def test_the_deadline_of_a_stream_ends_its_requests(server: RunningServer) -> None:
    with grpc_stub(server) as stub:
        call = stub.ModelStreamInfer(iter([gated("late")]), timeout=1.0)
        assert call.code().name == "DEADLINE_EXCEEDED"
        server.wait_for_line("cancelled late")


@each_transport
def test_a_client_that_vanishes_takes_its_streams_requests_with_it(server: RunningServer) -> None:
    with proxy(server.grpc) as between:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(between.address, options=options) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            call = stub.ModelStreamInfer(iter([gated("lost")]), timeout=TIMEOUT)
            server.wait_for_line("running lost")
            between.stop()
            server.wait_for_line("cancelled lost")
            assert call.code().name == "UNAVAILABLE"


@each_transport
def test_a_stream_whose_client_sends_no_more_is_answered_to_its_end(
    server: RunningServer, gate: Path
) -> None:
    with grpc_stub(server) as stub:
        call = stub.ModelStreamInfer(iter([gated("a"), gated("b"), gated("c")]), timeout=TIMEOUT)
        server.wait_for_line("running a")
        gate.touch()
        assert [answer.infer_response.id for answer in call] == ["a", "b", "c"]
    assert cancelled(server) == 0


def test_uploads_that_are_broken_off_give_their_memory_back(server: RunningServer) -> None:
    body, headers = body_of("INPUT0", bytes(3_000_000))
    request = encode_request("POST", "/v2/models/plain/infer", body, headers)
    for part in (0, 10, 200, 100_000, 1_500_000, len(request) - 1):
        for end in (vanish, socket.socket.close):
            connection = connect(server)
            connection.sendall(request[:part])
            end(connection)
    assert_serves(server, "plain", "INPUT0")
    assert_nothing_leased(server)


def test_answers_that_nobody_reads_give_their_memory_back(server: RunningServer) -> None:
    body, headers = body_of("INPUT0", bytes(8_000_000))
    request = encode_request("POST", "/v2/models/plain/infer", body, headers)

    def go_away(read: int) -> None:
        connection = connect(server)
        connection.sendall(request)
        missing = read
        while missing > 0:
            missing -= len(connection.recv(min(missing, 65536)))
        vanish(connection)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(go_away, [1, 1000, 100_000, 4_000_000] * 3))
    assert_serves(server, "plain", "INPUT0")
    assert_nothing_leased(server)


def test_idle_and_half_open_connections_do_not_hinder_the_end(server: RunningServer) -> None:
    idle = [connect(server) for _ in range(5)]
    for connection, data in zip(idle, (b"", b"G", b"GET /v2 HTTP/1.1\r\n", b"\r\n"), strict=False):
        connection.sendall(data)
    # A request that arrives while its connection is kept open is answered in between.
    idle[4].sendall(encode_request("GET", "/v2/health/live"))
    assert idle[4].recv(1000).startswith(b"HTTP/1.1 200")
    assert server.stop(timeout=20) == 0
    for connection in idle:
        connection.close()
