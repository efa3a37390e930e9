"""Tensors in shared memory that clients have registered, over both protocols."""

from __future__ import annotations

import base64
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models, onnx_models
from support.clients import TIMEOUT
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor
from tritonclient.utils import shared_memory as client_memory

from tritonpy.ipc.dtypes import ELEMENT_SIZE

SCRIBBLER = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                array *= 2
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)]))
            return responses
"""

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "identity", max_batch_size=8, more="dynamic_batching { }")
    models.identity(repository, "text", "TYPE_STRING", max_batch_size=8)
    models.identity_pair(repository, "pair")
    slow = 'parameters { key: "execute_delay_ms" value { string_value: "2000" } }'
    models.identity(repository, "slow", more=slow)
    models.python_model(repository, "scribbler", SCRIBBLER, models.identity_config())
    models.repeat(repository, "repeat")
    for name in ELEMENT_SIZE:
        models.identity(repository, f"of_{name}", f"TYPE_{name}")
    onnx = repository / "onnx"
    models.write(onnx / "config.pbtxt", 'backend: "onnxruntime" max_batch_size: 4')
    onnx_models.save(onnx_models.identity("FP32", [None, 4]), onnx / "1")
    with serving(repository) as running:
        yield running


@dataclass
class Client:
    """One of tritonclient's clients, and the module that its tensors come from."""

    module: Any
    calls: Any

    def input(self, name: str, datatype: str, shape: list[int], *place: Any) -> Any:
        """An input that lies at this region, size and offset."""
        tensor = self.module.InferInput(name, shape, datatype)
        tensor.set_shared_memory(*place)
        return tensor

    def output(self, name: str, *place: Any) -> Any:
        """An output that goes to this region, size and offset."""
        tensor = self.module.InferRequestedOutput(name)
        tensor.set_shared_memory(*place)
        return tensor

    def region_names(self) -> set[str]:
        """The names of all regions of system memory."""
        status = self.calls.get_system_shared_memory_status()
        if isinstance(status, list):
            return {region["name"] for region in status}
        return set(status.regions)


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Client]:
    module = {"http": httpclient, "grpc": grpcclient}[request.param]
    address = server.http if request.param == "http" else server.grpc
    options = {"concurrency": 4} if request.param == "http" else {}
    with module.InferenceServerClient(address, **options) as calls:
        yield Client(module, calls)
        calls.unregister_system_shared_memory()


@contextmanager
def segment(name: str, content: bytes) -> Iterator[Path]:
    """A segment of these bytes; its file may be read, written and truncated."""
    path = Path("/dev/shm", name)
    path.write_bytes(content)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def floats(path: Path, count: int, offset: int = 0) -> Array:
    return np.frombuffer(path.read_bytes(), np.float32, count, offset)


def counting(count: int) -> Array:
    return np.arange(count, dtype=np.float32)


def test_the_official_client_library_sends_and_receives_tensors_in_its_regions(
    client: Client,
) -> None:
    array = counting(100_000).reshape(2, -1)
    handle = client_memory.create_shared_memory_region("both", "/shm_both", 2 * array.nbytes)
    try:
        client_memory.set_shared_memory_region(handle, [array])
        client.calls.register_system_shared_memory("both", "/shm_both", 2 * array.nbytes)
        client.calls.infer(
            "identity",
            [client.input("INPUT0", "FP32", [2, 50_000], "both", array.nbytes)],
            outputs=[client.output("OUTPUT0", "both", array.nbytes, array.nbytes)],
        )
        received = client_memory.get_contents_as_numpy(
            handle, np.float32, [2, 50_000], array.nbytes
        )
        np.testing.assert_array_equal(received, array)
        client.calls.unregister_system_shared_memory("both")
    finally:
        client_memory.destroy_shared_memory_region(handle)


def test_a_response_says_of_an_output_in_a_region_what_it_is_and_no_more(client: Client) -> None:
    with segment("shm_meta", bytes(64)):
        client.calls.register_system_shared_memory("meta", "/shm_meta", 64)
        result = client.calls.infer(
            "identity",
            [client.input("INPUT0", "FP32", [1, 4], "meta", 16)],
            outputs=[client.output("OUTPUT0", "meta", 32, 32)],
        )
        if client.module is httpclient:
            (output,) = result.get_response()["outputs"]
            assert output == {"name": "OUTPUT0", "datatype": "FP32", "shape": [1, 4]}
        else:
            message = result.get_response()
            (output,) = message.outputs
            assert (output.datatype, list(output.shape)) == ("FP32", [1, 4])
            assert list(message.raw_output_contents) == [b""]


def test_an_input_in_a_region_may_be_answered_in_the_message(client: Client) -> None:
    with segment("shm_in", counting(8).tobytes()):
        client.calls.register_system_shared_memory("in", "/shm_in", 32)
        result = client.calls.infer(
            "identity", [client.input("INPUT0", "FP32", [1, 4], "in", 16, 16)]
        )
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), [[4, 5, 6, 7]])


def test_a_sent_input_may_be_answered_in_a_region(client: Client) -> None:
    with segment("shm_out", bytes(32)) as path:
        client.calls.register_system_shared_memory("out", "/shm_out", 32)
        tensor = client.module.InferInput("INPUT0", [1, 4], "FP32")
        tensor.set_data_from_numpy(counting(4).reshape(1, 4))
        client.calls.infer("identity", [tensor], outputs=[client.output("OUTPUT0", "out", 16, 8)])
        np.testing.assert_array_equal(floats(path, 8), [0, 0, 0, 1, 2, 3, 0, 0])


def test_one_request_may_mix_regions_and_sent_tensors(client: Client) -> None:
    with segment("shm_mix", counting(4).tobytes()) as path:
        client.calls.register_system_shared_memory("mix", "/shm_mix", 16)
        sent = client.module.InferInput("INPUT1", [1, 3], "INT32")
        sent.set_data_from_numpy(np.array([[7, 8, 9]], np.int32))
        result = client.calls.infer(
            "pair",
            [client.input("INPUT0", "FP32", [1, 2], "mix", 8), sent],
            outputs=[
                client.output("OUTPUT0", "mix", 8, 8),
                client.module.InferRequestedOutput("OUTPUT1"),
            ],
        )
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), [[7, 8, 9]])
        np.testing.assert_array_equal(floats(path, 4), [0, 1, 0, 1])


def test_a_region_may_begin_anywhere_in_its_segment(client: Client) -> None:
    content = b"xyz" + counting(6).tobytes()
    with segment("shm_odd", content) as path:
        client.calls.register_system_shared_memory("odd", "/shm_odd", 24, offset=3)
        client.calls.infer(
            "identity",
            [client.input("INPUT0", "FP32", [1, 2], "odd", 8, 4)],
            outputs=[client.output("OUTPUT0", "odd", 8, 16)],
        )
        np.testing.assert_array_equal(floats(path, 6, 3), [0, 1, 2, 3, 1, 2])


@pytest.mark.parametrize("datatype", ELEMENT_SIZE)
def test_every_data_type_may_lie_in_a_region(client: Client, datatype: str) -> None:
    content = bytes([1, 0] * 16)
    size = 4 * ELEMENT_SIZE[datatype]
    with segment("shm_type", content + bytes(32)) as path:
        client.calls.register_system_shared_memory("type", "/shm_type", 64)
        client.calls.infer(
            f"of_{datatype}",
            [client.input("INPUT0", datatype, [4], "type", size)],
            outputs=[client.output("OUTPUT0", "type", size, 32)],
        )
        assert path.read_bytes()[32:].rstrip(b"\0") == content[:size].rstrip(b"\0")


def test_onnxruntime_reads_a_region_in_place(client: Client, server: RunningServer) -> None:
    with segment("shm_onnx", counting(8).tobytes() + bytes(32)) as path:
        client.calls.register_system_shared_memory("onnx", "/shm_onnx", 64)
        client.calls.infer(
            "onnx",
            [client.input("INPUT0", "FP32", [2, 4], "onnx", 32)],
            outputs=[client.output("OUTPUT0", "onnx", 32, 32)],
        )
        np.testing.assert_array_equal(floats(path, 8, 32), counting(8))
        wait_for_mapping(server, "onnx", "shm_onnx", True)


def test_texts_are_read_from_and_written_to_regions(client: Client) -> None:
    framed = b"\3\0\0\0abc\0\0\0\0"
    with segment("shm_text", framed + bytes(32)) as path:
        client.calls.register_system_shared_memory("text", "/shm_text", 43)
        client.calls.infer(
            "text",
            [client.input("INPUT0", "BYTES", [1, 2], "text", len(framed))],
            outputs=[client.output("OUTPUT0", "text", 32, len(framed))],
        )
        written = path.read_bytes()[len(framed) :]
        assert list(deserialize_bytes_tensor(written[: len(framed)])) == [b"abc", b""]


@pytest.mark.parametrize(
    ("size", "words"),
    [(10, "incomplete string length"), (6, "incomplete string data")],
)
def test_texts_that_do_not_fill_their_region_are_refused(
    client: Client, size: int, words: str
) -> None:
    with segment("shm_cut", b"\3\0\0\0abc\0\0\0\0"):
        client.calls.register_system_shared_memory("cut", "/shm_cut", 11)
        with pytest.raises(InferenceServerException, match=words):
            client.calls.infer("text", [client.input("INPUT0", "BYTES", [1, 2], "cut", size)])


def test_requests_of_one_batch_read_and_write_their_own_regions(client: Client) -> None:
    with segment("shm_batch", counting(8).tobytes() + bytes(32)) as path:
        client.calls.register_system_shared_memory("batch", "/shm_batch", 64)
        waiting = []
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for number in range(4):
            request = (
                "identity",
                [client.input("INPUT0", "FP32", [1, 2], "batch", 8, number * 8)],
            )
            outputs = [client.output("OUTPUT0", "batch", 8, 32 + number * 8)]
            if client.module is httpclient:
                waiting.append(client.calls.async_infer(*request, outputs=outputs))
            else:
                client.calls.async_infer(
                    *request,
                    callback=lambda result, error: answers.put(error),
                    outputs=outputs,
                )
        if client.module is httpclient:
            for each in waiting:
                each.get_result(timeout=TIMEOUT)
        else:
            assert [answers.get(timeout=TIMEOUT) for _ in range(4)] == [None] * 4
        np.testing.assert_array_equal(floats(path, 8, 32), counting(8))


def test_a_python_model_that_writes_to_its_input_leaves_the_region_alone(client: Client) -> None:
    with segment("shm_own", counting(8).tobytes()) as path:
        client.calls.register_system_shared_memory("own", "/shm_own", 32)
        result = client.calls.infer("scribbler", [client.input("IN", "FP32", [8], "own", 32)])
        np.testing.assert_array_equal(result.as_numpy("OUT"), 2 * counting(8))
        np.testing.assert_array_equal(floats(path, 8), counting(8))


def test_an_output_that_does_not_fit_into_its_place_is_an_error_that_tells_the_sizes(
    client: Client,
) -> None:
    with segment("shm_small", counting(8).tobytes()) as path:
        client.calls.register_system_shared_memory("small", "/shm_small", 32)
        with pytest.raises(InferenceServerException) as caught:
            client.calls.infer(
                "identity",
                [client.input("INPUT0", "FP32", [1, 4], "small", 16)],
                outputs=[client.output("OUTPUT0", "small", 12, 16)],
            )
        assert caught.value.message() == (
            "shared memory size specified with the request for output 'OUTPUT0' (12 bytes) should "
            "be at least 16 bytes to hold the results"
        )
        np.testing.assert_array_equal(floats(path, 8), counting(8))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("none", 16), "Unable to find shared memory region: 'none'"),
        (("range", 16, 32), "Invalid offset for shared memory region: 'range'"),
        (("range", 16, 24), "Invalid offset + byte size for shared memory region: 'range'"),
        (("range", 33), "Invalid offset + byte size for shared memory region: 'range'"),
    ],
)
def test_places_outside_of_registered_regions_are_refused(
    client: Client, place: tuple[Any, ...], message: str
) -> None:
    with segment("shm_range", bytes(64)):
        client.calls.register_system_shared_memory("range", "/shm_range", 32)
        with pytest.raises(InferenceServerException) as caught:
            client.calls.infer("identity", [client.input("INPUT0", "FP32", [1, 4], *place)])
        assert caught.value.message() == message
        sound = client.input("INPUT0", "FP32", [1, 4], "range", 16)
        with pytest.raises(InferenceServerException) as caught:
            client.calls.infer("identity", [sound], outputs=[client.output("OUTPUT0", *place)])
        assert caught.value.message() == message


@pytest.mark.parametrize(
    ("name", "key", "size", "offset", "message"),
    [
        ("taken", "/shm_reg", 16, 0, "shared memory region 'taken' already in manager"),
        ("r", "/shm_none", 16, 0, "Unable to open shared memory region: '/shm_none'"),
        ("r", "/../shm/shm_reg", 16, 0, "Unable to open shared memory region: '/../shm/shm_reg'"),
        ("r", "/..", 16, 0, "Unable to open shared memory region: '/..'"),
        ("r", "", 16, 0, "Unable to open shared memory region: ''"),
        ("r", "/shm_reg", 33, 0, "failed to register shared memory region 'r': invalid args"),
        ("r", "/shm_reg", 16, 17, "failed to register shared memory region 'r': invalid args"),
        ("r", "/shm_reg", 0, 0, "failed to register shared memory region 'r': invalid args"),
        (
            "r",
            "/triton_python_backend_shm_region_1",
            16,
            0,
            "cannot register shared memory region 'r' with key "
            "'/triton_python_backend_shm_region_1' as the key contains the reserved prefix "
            "'triton_python_backend_shm_region_'",
        ),
    ],
)
def test_what_cannot_be_registered_is_refused_with_the_reason(
    client: Client, name: str, key: str, size: int, offset: int, message: str
) -> None:
    with segment("shm_reg", bytes(32)):
        client.calls.register_system_shared_memory("taken", "/shm_reg", 32)
        with pytest.raises(InferenceServerException) as caught:
            client.calls.register_system_shared_memory(name, key, size, offset=offset)
        assert caught.value.message() == message
        assert client.region_names() == {"taken"}


def test_a_link_to_another_file_is_no_segment(client: Client, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(32))
    link = Path("/dev/shm/shm_link")
    link.symlink_to(secret)
    try:
        with pytest.raises(InferenceServerException, match="Unable to open shared memory region"):
            client.calls.register_system_shared_memory("link", "/shm_link", 16)
    finally:
        link.unlink()


def test_the_status_lists_regions_as_they_were_registered(client: Client) -> None:
    with segment("shm_status", bytes(64)):
        client.calls.register_system_shared_memory("b c", "/shm_status", 32, offset=16)
        client.calls.register_system_shared_memory("a", "shm_status", 64)
        assert client.region_names() == {"a", "b c"}
        status = client.calls.get_system_shared_memory_status("b c")
        if client.module is httpclient:
            expected = {"name": "b c", "key": "/shm_status", "offset": 16, "byte_size": 32}
            assert status == [expected]
        else:
            region = status.regions["b c"]
            assert (region.key, region.offset, region.byte_size) == ("/shm_status", 16, 32)
        client.calls.unregister_system_shared_memory("a")
        client.calls.unregister_system_shared_memory("never registered")
        assert client.region_names() == {"b c"}
        with pytest.raises(InferenceServerException) as caught:
            client.calls.get_system_shared_memory_status("a")
        assert caught.value.message() == "Unable to find system shared memory region: 'a'"
        client.calls.unregister_system_shared_memory()
        assert client.region_names() == set()


def test_a_region_in_use_is_forgotten_at_once_and_kept_for_its_request(
    client: Client, server: RunningServer
) -> None:
    with segment("shm_used", counting(8).tobytes()) as path:
        client.calls.register_system_shared_memory("used", "/shm_used", 32)
        place = [client.input("INPUT0", "FP32", [4], "used", 16)]
        outputs = [client.output("OUTPUT0", "used", 16, 16)]
        wait = start(client, "slow", place, outputs)
        wait_for_mapping(server, "slow", "shm_used", True)
        client.calls.unregister_system_shared_memory("used")
        with pytest.raises(InferenceServerException, match="Unable to find"):
            client.calls.infer("identity", [client.input("INPUT0", "FP32", [1, 4], "used", 16)])
        wait()
        np.testing.assert_array_equal(floats(path, 8), [0, 1, 2, 3, 0, 1, 2, 3])
        wait_for_mapping(server, "slow", "shm_used", False)


def test_a_name_can_be_registered_again_for_another_segment(client: Client) -> None:
    with segment("shm_old", counting(4).tobytes()), segment("shm_new", bytes(16)):
        for key, first in (("/shm_old", 1.0), ("/shm_new", 0.0)):
            client.calls.register_system_shared_memory("again", key, 16)
            result = client.calls.infer(
                "identity", [client.input("INPUT0", "FP32", [1, 4], "again", 16)]
            )
            assert result.as_numpy("OUTPUT0")[0, 1] == first
            client.calls.unregister_system_shared_memory("again")


def test_the_name_of_a_segment_is_not_needed_once_it_is_registered(client: Client) -> None:
    with segment("shm_gone", counting(4).tobytes()) as path:
        client.calls.register_system_shared_memory("gone", "/shm_gone", 16)
        path.unlink()
        result = client.calls.infer(
            "identity", [client.input("INPUT0", "FP32", [1, 4], "gone", 16)]
        )
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), [counting(4)])


def test_a_segment_that_was_shortened_since_is_refused_and_harms_nobody(
    client: Client, server: RunningServer
) -> None:
    with segment("shm_short", counting(4).tobytes()) as path:
        client.calls.register_system_shared_memory("short", "/shm_short", 16)
        tensor = client.input("INPUT0", "FP32", [1, 4], "short", 16)
        client.calls.infer("identity", [tensor])
        workers = {process.pid for process in server.workers("identity")}
        path.write_bytes(bytes(8))
        words = "shared memory region 'short' has become shorter than it was"
        with pytest.raises(InferenceServerException, match=words):
            client.calls.infer("identity", [tensor])
        sent = client.module.InferInput("INPUT0", [1, 4], "FP32")
        sent.set_data_from_numpy(counting(4).reshape(1, 4))
        with pytest.raises(InferenceServerException, match=words):
            client.calls.infer("identity", [sent], outputs=[client.output("OUTPUT0", "short", 16)])
        client.calls.infer("identity", [sent])
        assert {process.pid for process in server.workers("identity")} == workers


def test_a_segment_that_is_shortened_while_a_model_reads_it_costs_its_own_request_only(
    client: Client, server: RunningServer
) -> None:
    with segment("shm_bus", bytes(1 << 20)) as path:
        client.calls.register_system_shared_memory("bus", "/shm_bus", 1 << 20)
        (before,) = server.workers("slow")
        wait = start(client, "slow", [client.input("INPUT0", "FP32", [1 << 18], "bus", 1 << 20)])
        wait_for_mapping(server, "slow", "shm_bus", True)
        with path.open("r+b") as file:
            file.truncate(4096)
        with pytest.raises(InferenceServerException, match="has become shorter"):
            wait()
        sent = client.module.InferInput("INPUT0", [1], "FP32")
        sent.set_data_from_numpy(counting(1))
        client.calls.infer("slow", [sent])
        (after,) = server.workers("slow")
        assert after.pid != before.pid


def test_one_worker_serves_hundreds_of_regions_and_lets_go_of_them(
    client: Client, server: RunningServer
) -> None:
    count = 700
    with segment("shm_many", counting(count).tobytes()):
        for number in range(count):
            client.calls.register_system_shared_memory(f"r{number}", "/shm_many", 4, number * 4)
        assert len(client.region_names()) == count
        results = [
            client.calls.infer(
                "identity", [client.input("INPUT0", "FP32", [1, 1], f"r{number}", 4)]
            )
            for number in range(count)
        ]
        assert [result.as_numpy("OUTPUT0").item() for result in results] == list(range(count))
        client.calls.unregister_system_shared_memory()
        wait_for_mapping(server, "identity", "shm_many", False)


def test_a_decoupled_model_reads_its_inputs_from_a_region(server: RunningServer) -> None:
    content = np.array([5, 6, 7, 0, 0, 0, 0], np.int32).tobytes()
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with (
        segment("shm_flow", content),
        grpcclient.InferenceServerClient(server.grpc) as calls,
    ):
        client = Client(grpcclient, calls)
        calls.register_system_shared_memory("flow", "/shm_flow", len(content))
        calls.start_stream(lambda result, error: answers.put(error or result))
        calls.async_stream_infer(
            "repeat",
            [
                client.input("IN", "INT32", [3], "flow", 12),
                client.input("DELAY", "UINT32", [3], "flow", 12, 12),
                client.input("WAIT", "UINT32", [1], "flow", 4, 24),
            ],
        )
        got = [answers.get(timeout=TIMEOUT).as_numpy("OUT").item() for _ in range(3)]
        assert got == [5, 6, 7]
        calls.stop_stream()
        calls.unregister_system_shared_memory()


def test_a_decoupled_model_writes_each_response_to_the_region(server: RunningServer) -> None:
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with (
        segment("shm_drop", bytes(4)) as path,
        grpcclient.InferenceServerClient(server.grpc) as calls,
    ):
        client = Client(grpcclient, calls)
        calls.register_system_shared_memory("drop", "/shm_drop", 4)
        calls.start_stream(lambda result, error: answers.put(error or result))
        inputs = []
        for name, dtype, values in (
            ("IN", np.int32, [5, 9]),
            ("DELAY", np.uint32, [0, 0]),
            ("WAIT", np.uint32, [0]),
        ):
            array = np.array(values, dtype)
            tensor = grpcclient.InferInput(name, [len(values)], array.dtype.name.upper())
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        calls.async_stream_infer(
            "repeat",
            inputs,
            outputs=[client.output("OUT", "drop", 4), grpcclient.InferRequestedOutput("IDX")],
        )
        got = [answers.get(timeout=TIMEOUT).as_numpy("IDX").item() for _ in range(2)]
        assert got == [0, 1]
        assert np.frombuffer(path.read_bytes(), np.int32).item() == 9
        calls.stop_stream()
        calls.unregister_system_shared_memory()


def test_memory_of_a_gpu_is_refused_where_there_is_none(client: Client) -> None:
    handle = bytes(64)
    if client.module is httpclient:
        handle = base64.b64encode(handle)
    with pytest.raises(InferenceServerException) as caught:
        client.calls.register_cuda_shared_memory("gpu", handle, 0, 16)
    assert caught.value.message() == (
        "failed to register CUDA shared memory region: 'gpu', GPUs not supported"
    )


def start(client: Client, model: str, inputs: list[Any], outputs: Any = None) -> Any:
    """Begin a request; what is returned waits for its end and raises its error."""
    if client.module is httpclient:
        running = client.calls.async_infer(model, inputs, outputs=outputs)
        return lambda: running.get_result(timeout=TIMEOUT * 3)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def wait() -> None:
        error = answers.get(timeout=TIMEOUT * 3)
        if error is not None:
            raise error

    client.calls.async_infer(
        model, inputs, callback=lambda result, error: answers.put(error), outputs=outputs
    )
    return wait


def wait_for_mapping(server: RunningServer, model: str, name: str, is_mapped: bool) -> None:
    """Wait until a worker has mapped a segment, or has let go of it."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        (worker,) = server.workers(model)
        if (name in Path(f"/proc/{worker.pid}/maps").read_text()) is is_mapped:
            return
    raise AssertionError(f"'{name}' is {'not' if is_mapped else 'still'} mapped by '{model}'")
