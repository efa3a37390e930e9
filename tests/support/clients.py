"""Talk to a running server below the comfort of its client libraries, and watch over its health."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2, service_pb2_grpc

from .servers import RunningServer

#: Long enough for a loaded machine: only a server that hangs is slower.
TIMEOUT = 10.0

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; the names of its headers are in lower case."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of a body that is an error and nothing else."""
        document = self.json
        assert list(document) == ["error"], document
        message = document["error"]
        assert isinstance(message, str)
        assert "Traceback" not in message
        return message


# --- HTTP -----------------------------------------------------------------------------------------


def connect(server: RunningServer, service: str = "http") -> socket.socket:
    """A TCP connection to one of the server's ports."""
    return socket.create_connection(("127.0.0.1", server.ports[service]), timeout=TIMEOUT)


def encode_request(
    method: str, path: str, body: bytes = b"", headers: Mapping[str, str | None] | None = None
) -> bytes:
    """The bytes of an HTTP request; a header that is None is left out."""
    lines = {"Host": "localhost", "Content-Length": str(len(body)), **(headers or {})}
    if "Transfer-Encoding" in lines:
        del lines["Content-Length"]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def read_answer(connection: socket.socket) -> Answer:
    """Read one answer and not a byte more; the connection may be used again."""
    with connection.makefile("rb", buffering=0) as stream:
        status_line = stream.readline().decode("latin-1").rstrip("\r\n")
        assert status_line, "the server closed the connection"
        headers: dict[str, str] = {}
        while line := stream.readline().decode("latin-1").rstrip("\r\n"):
            name, value = line.split(": ", 1)
            headers[name.lower()] = value
        missing = int(headers["content-length"])
        pieces: list[bytes] = []
        while missing > 0:
            piece = stream.read(min(missing, 1 << 20))
            assert piece, f"the server closed the connection {missing} bytes before the end"
            pieces.append(piece)
            missing -= len(piece)
    _, status, reason = status_line.split(" ", 2)
    return Answer(int(status), reason, headers, b"".join(pieces))


def ask(
    server: RunningServer,
    method: str,
    path: str,
    body: bytes | str = b"",
    headers: Mapping[str, str | None] | None = None,
    *,
    service: str = "http",
) -> Answer:
    """Send one HTTP request on a connection of its own, and read the answer."""
    data = body.encode() if isinstance(body, str) else body
    with closing(connect(server, service)) as connection:
        connection.sendall(encode_request(method, path, data, headers))
        return read_answer(connection)


def get(server: RunningServer, path: str) -> Answer:
    """GET a path of the HTTP service."""
    return ask(server, "GET", path)


def post_json(server: RunningServer, path: str, document: object) -> Answer:
    """POST a document to the HTTP service."""
    return ask(server, "POST", path, json.dumps(document))


def with_binary(document: object, *blobs: bytes) -> tuple[bytes, dict[str, str | None]]:
    """The body and headers of an inference request with binary tensors behind its document."""
    head = json.dumps(document).encode()
    return b"".join((head, *blobs)), {"Inference-Header-Content-Length": str(len(head))}


def binary_outputs(answer: Answer) -> dict[str, bytes]:
    """The binary outputs of an inference answer by name."""
    length = int(answer.headers.get("inference-header-content-length", len(answer.body)))
    document = json.loads(answer.body[:length])
    outputs: dict[str, bytes] = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            outputs[output["name"]] = answer.body[length : length + size]
            length += size
    assert length == len(answer.body)
    return outputs


# --- gRPC -----------------------------------------------------------------------------------------

InferParameters = Mapping[str, "str | int | bool | float"]
_CHOICE = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}


@contextmanager
def grpc_stub(server: RunningServer) -> Iterator[Any]:
    """The service's stub on a channel of its own."""
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with grpc.insecure_channel(server.grpc, options=options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def input_tensor(
    name: str = "INPUT0",
    datatype: str = "FP32",
    shape: Sequence[int] = (4,),
    contents: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """An input of a ModelInferRequest; its data are `contents`, or raw contents to be added."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape
    )
    for field, values in (contents or {}).items():
        getattr(tensor.contents, field).extend(values)
    return tensor


def infer_request(
    model: str,
    inputs: Sequence[Any],
    raw: Sequence[bytes] = (),
    outputs: Mapping[str, InferParameters] | Sequence[str] = (),
    parameters: InferParameters | None = None,
    **fields: str,
) -> Any:
    """A ModelInferRequest."""
    request = service_pb2.ModelInferRequest(
        model_name=model, inputs=inputs, raw_input_contents=raw, **fields
    )
    for name in outputs:
        output = request.outputs.add(name=name)
        if isinstance(outputs, Mapping):
            _set_parameters(output.parameters, outputs[name])
    _set_parameters(request.parameters, parameters or {})
    return request


def _set_parameters(target: Any, parameters: InferParameters) -> None:
    for name, value in parameters.items():
        setattr(target[name], _CHOICE[type(value)], value)


def grpc_error(call: Callable[[], object]) -> tuple[str, str]:
    """The name of the status and the message that a call is refused with."""
    try:
        result = call()
    except grpc.RpcError as error:
        details = error.details() or ""
        assert "Traceback" not in details
        return error.code().name, details
    raise AssertionError(f"the call was answered: {result}")


# --- the server's own words -----------------------------------------------------------------------


def index(server: RunningServer, *, ready: bool = False) -> dict[tuple[str, str], tuple[str, str]]:
    """The repository index: of each (model, version) its state and its reason."""
    entries = post_json(server, "/v2/repository/index", {"ready": ready}).json
    return {
        (entry["name"], entry.get("version", "")): (entry.get("state", ""), entry.get("reason", ""))
        for entry in entries
    }


def statistics(server: RunningServer, model: str) -> dict[str, Any]:
    """The statistics of a model that has one version."""
    (found,) = get(server, f"/v2/models/{model}/stats").json["model_stats"]
    assert isinstance(found, dict)
    return found


def metrics(server: RunningServer) -> dict[str, float]:
    """Every sample of the metrics service by its name and labels, as they are written."""
    samples: dict[str, float] = {}
    for line in ask(server, "GET", "/metrics", service="metrics").body.decode().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    return samples


def copied(server: RunningServer) -> tuple[int, int]:
    """How many bytes of tensors the server itself has copied, in and out."""
    text = metrics(server)
    name = "tritonpy_tensor_copied_bytes"
    return int(text[f'{name}{{direction="in"}}']), int(text[f'{name}{{direction="out"}}'])


def pending(server: RunningServer, model: str) -> int:
    """How many requests to version 1 of a model wait in its scheduler."""
    name = f'nv_inference_pending_request_count{{model="{model}",version="1"}}'
    return int(metrics(server).get(name, 0))


# --- watching -------------------------------------------------------------------------------------


def eventually(condition: Callable[..., bool], what: str, timeout: float = 30.0) -> None:
    """Wait for something that happens in another process, and that nothing announces."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        threading.Event().wait(0.02)


@contextmanager
def unharmed(server: RunningServer, *, tracebacks: bool = False) -> Iterator[RunningServer]:
    """Whatever is done to the server: in the end its workers are the same, and it is ready.

    `tracebacks` says that models are expected to fail and to tell the log about it.
    """
    workers = sorted(worker.pid for worker in server.workers())
    yield server
    assert sorted(worker.pid for worker in server.workers()) == workers, server.log
    assert get(server, "/v2/health/ready").status == 200
    assert tracebacks or "Traceback" not in server.log, server.log


def same(left: Array, right: Array) -> None:
    """Assert that two tensors have the same type, shape and elements."""
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    np.testing.assert_array_equal(left, right)
