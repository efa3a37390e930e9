"""A small closed-loop load generator on raw sockets, for what perf_analyzer cannot send or is not
there to send.

HTTP only. Each connection sends one request, waits for the whole answer and sends the next. Its
own CPU time competes with the server's: its throughput compares servers, it is not their limit.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
import urllib.request
from collections.abc import Mapping, Sequence
from typing import cast

import blocking
import numpy as np
import uvloop
from measurement import Load, LoadError, Payload

_SIZES = {
    "BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2, "UINT32": 4,
    "INT32": 4, "FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8,
}  # fmt: skip
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_WARM_UP_S = 0.5
#: Larger requests are sent and received by threads that block.
_LARGE_BYTES = 64 * 1024


def drive(
    address: str,
    model: str,
    concurrency: int,
    window_s: float,
    shapes: Mapping[str, Sequence[int]],
    payload: Payload = "binary",
) -> Load:
    """Send tensors to a model over HTTP for a while. Raises LoadError."""
    request = _request(address, model, shapes, payload)
    return drive_with(address, request, concurrency, window_s)


def drive_with(address: str, request: bytes, concurrency: int, window_s: float) -> Load:
    """Send one request again and again. Raises LoadError."""
    if len(request) > _LARGE_BYTES:
        latencies, requests = blocking.drive(address, request, concurrency, window_s)
    else:
        host, port = address.rsplit(":", 1)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            latencies, requests = runner.run(
                _drive(host, int(port), request, concurrency, window_s)
            )
    if not latencies:
        raise LoadError(f"no request to {address} was answered within {window_s} s")
    latencies.sort()
    return Load(
        len(latencies) / window_s,
        _percentile(latencies, 0.50),
        _percentile(latencies, 0.99),
        requests,
    )


def _percentile(ordered: Sequence[float], part: float) -> float:
    """The value that `part` of the ordered latencies (in seconds) do not exceed, in µs."""
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)] * 1e6


def _request(
    address: str, model: str, shapes: Mapping[str, Sequence[int]], payload: Payload
) -> bytes:
    """One whole request; sizes that the model leaves open count as 1.

    Binary tensors are zeros, those in JSON random numbers between 0 and 1, as doubles.
    """
    with urllib.request.urlopen(f"http://{address}/v2/models/{model}", timeout=10) as answer:
        metadata = json.load(answer)
    inputs: list[dict[str, object]] = []
    data = b""
    for tensor in metadata["inputs"]:
        name, datatype = tensor["name"], tensor["datatype"]
        if datatype not in _SIZES:
            raise LoadError(f"input '{name}' of '{model}' is {datatype}: this needs perf_analyzer")
        shape = [max(size, 1) for size in shapes.get(name, tensor["shape"])]
        entry: dict[str, object] = {"name": name, "datatype": datatype, "shape": shape}
        if payload == "json":
            entry["data"] = _numbers(math.prod(shape))
        else:
            size = math.prod(shape) * _SIZES[datatype]
            entry["parameters"] = {"binary_data_size": size}
            data += bytes(size)
        inputs.append(entry)
    path = f"/v2/models/{model}/infer"
    if payload == "json":
        return post(address, path, json.dumps({"inputs": inputs}).encode())
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return post(
        address,
        path,
        header + data,
        f"Inference-Header-Content-Length: {len(header)}\r\n"
        "Content-Type: application/octet-stream\r\n",
    )


def mosec_request(address: str, path: str, count: int) -> bytes:
    """As many numbers for a server that has no protocol of tensors."""
    return post(address, path, json.dumps({"data": _numbers(count)}).encode())


def post(address: str, path: str, body: bytes, lines: str = "") -> bytes:
    """A whole POST request."""
    head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _numbers(count: int) -> list[float]:
    generator = np.random.default_rng(1)
    found: list[float] = generator.random(count, np.float32).astype(np.float64).tolist()
    return found


async def _drive(
    host: str, port: int, request: bytes, concurrency: int, window_s: float
) -> tuple[list[float], int]:
    loop = asyncio.get_running_loop()
    begin = time.perf_counter() + _WARM_UP_S
    clients: list[_Client] = []
    try:
        for _ in range(concurrency):
            _, client = await loop.create_connection(
                lambda: _Client(request, begin, begin + window_s), host, port
            )
            clients.append(client)
        await asyncio.wait_for(
            asyncio.gather(*(client.done for client in clients)), _WARM_UP_S + window_s + 30
        )
    except (OSError, TimeoutError) as error:
        raise LoadError(f"the server at {host}:{port} stopped answering: {error!r}") from error
    finally:
        for client in clients:
            client.close()
    latencies = [latency for client in clients for latency in client.latencies]
    return latencies, sum(client.answered for client in clients)


class _Client(asyncio.Protocol):
    """One connection with one request in flight; keeps the latencies that end in the window."""

    def __init__(self, request: bytes, begin: float, end: float) -> None:
        self.latencies: list[float] = []
        self.answered = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._begin = begin
        self._end = end
        self._sent = 0.0
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(_HEAD_END)
        if not separator or len(body) < _content_length(head):
            return
        now = time.perf_counter()
        if not head.startswith(b"HTTP/1.1 200"):
            self._finish(LoadError(f"a request was refused: {self._received[:500]!r}"))
            return
        self.answered += 1
        if self._begin <= now < self._end:
            self.latencies.append(now - self._sent)
        self._received = b""
        if now >= self._end:
            self._finish(None)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(LoadError(f"the server closed a connection: {exc!r}"))

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def _finish(self, error: LoadError | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


def _content_length(head: bytes) -> int:
    start = head.lower().find(_LENGTH)
    if start < 0:
        raise LoadError(f"an answer without Content-Length: {head[:200]!r}")
    return int(head[start + len(_LENGTH) :].split(b"\r\n", 1)[0])
