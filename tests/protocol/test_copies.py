"""What the supervisor copies of tensors on their way, path by path, by its own metric."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
import tritonclient.utils.shared_memory as shm
from support import models
from support.clients import metrics
from support.servers import RunningServer, serving

from tritonpy.supervisor.http.lean import MOST_BODY_BYTES

LARGE = 4 << 20
#: Rides in messages, and in one send with the head of its answer.
SMALL = 1024
#: In shared memory, and still in the first read of a body.
MEDIUM = 100_000


#: Looks at its input when its gate is open.
GATED = """
    import os
    import time

    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            (request,) = requests
            print("running", flush=True)
            while not os.path.exists({gate!r}):
                time.sleep(0.005)
            seen = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", seen[:1])])]
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate") / "open"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, gate: Path) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "plain", "TYPE_UINT8")
    config = models.identity_config("TYPE_UINT8")
    models.python_model(repository, "gated", GATED.format(gate=str(gate)), config)
    with serving(repository) as running:
        yield running


def copied(server: RunningServer) -> tuple[int, int]:
    text = metrics(server)
    name = "tritonpy_tensor_copied_bytes"
    return int(text[f'{name}{{direction="in"}}']), int(text[f'{name}{{direction="out"}}'])


def copies(server: RunningServer, client_of: Any, size: int, region: str = "") -> tuple[int, int]:
    """The bytes that one inference there and back costs, both ways."""
    data = np.arange(size, dtype=np.uint8)
    tensor = client_of.InferInput("INPUT0", [size], "UINT8")
    output = client_of.InferRequestedOutput("OUTPUT0")
    if region:
        tensor.set_shared_memory(region, size)
        output.set_shared_memory(region, size, size)
    else:
        tensor.set_data_from_numpy(data)
    address = server.http if client_of is httpclient else server.grpc
    before = copied(server)
    with client_of.InferenceServerClient(address) as client:
        result = client.infer("plain", [tensor], outputs=[output])
    after = copied(server)
    if not region:
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), data)
    return after[0] - before[0], after[1] - before[1]


def test_of_a_large_tensor_over_http_only_the_beginning_is_copied(server: RunningServer) -> None:
    inward, outward = copies(server, httpclient, LARGE)
    assert inward <= MOST_BODY_BYTES
    assert outward == 0


def test_a_medium_tensor_over_http_is_copied_into_shared_memory(server: RunningServer) -> None:
    assert copies(server, httpclient, MEDIUM) == (MEDIUM, 0)


def test_a_small_tensor_over_http_goes_with_the_message_and_the_answer(
    server: RunningServer,
) -> None:
    assert copies(server, httpclient, SMALL) == (0, SMALL)


def test_a_large_tensor_over_grpc_is_copied_in_and_out(server: RunningServer) -> None:
    assert copies(server, grpcclient, LARGE) == (LARGE, LARGE)


@pytest.mark.parametrize("client_of", [httpclient, grpcclient], ids=["http", "grpc"])
def test_what_is_in_a_clients_memory_the_supervisor_does_not_touch(
    server: RunningServer, client_of: Any
) -> None:
    handle = shm.create_shared_memory_region("copies", "/copies_of_a_test", 2 * LARGE)
    data = np.arange(LARGE, dtype=np.uint8)
    address = server.http if client_of is httpclient else server.grpc
    try:
        shm.set_shared_memory_region(handle, [data])
        with client_of.InferenceServerClient(address) as client:
            client.register_system_shared_memory("copies", "/copies_of_a_test", 2 * LARGE)
            assert copies(server, client_of, LARGE, "copies") == (0, 0)
            client.unregister_system_shared_memory("copies")
        found = shm.get_contents_as_numpy(handle, np.uint8, [LARGE], LARGE)
        np.testing.assert_array_equal(found, data)
    finally:
        shm.destroy_shared_memory_region(handle)


def test_a_python_model_reads_a_clients_memory_when_it_looks(
    server: RunningServer, gate: Path
) -> None:
    handle = shm.create_shared_memory_region("looked at", "/looked_at_of_a_test", LARGE)
    try:
        shm.set_shared_memory_region(handle, [np.full(LARGE, 1, np.uint8)])
        with httpclient.InferenceServerClient(server.http) as client:
            client.register_system_shared_memory("looked", "/looked_at_of_a_test", LARGE)
            tensor = httpclient.InferInput("IN", [LARGE], "UINT8")
            tensor.set_shared_memory("looked", LARGE)
            asked = client.async_infer("gated", [tensor])
            server.wait_for_line("running")
            shm.set_shared_memory_region(handle, [np.full(LARGE, 2, np.uint8)])
            gate.touch()
            assert asked.get_result().as_numpy("OUT").tolist() == [2]
            client.unregister_system_shared_memory("looked")
    finally:
        shm.destroy_shared_memory_region(handle)
