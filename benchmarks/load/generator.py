"""A small closed-loop load generator on raw sockets, for machines without perf_analyzer.

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

from measurement import Load, LoadError

_SIZES = {
    "BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2, "UINT32": 4,
    "INT32": 4, "FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8,
}  # fmt: skip
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_WARM_UP_S = 0.5


def drive(
    address: str,
    model: str,
    concurrency: int,
    window_s: float,
    shapes: Mapping[str, Sequence[int]],
) -> Load:
    """Send zeros to a model over HTTP for a while. Raises LoadError."""
    host, port = address.rsplit(":", 1)
    request = _request(address, model, shapes)
    latencies = asyncio.run(_drive(host, int(port), request, concurrency, window_s))
    if not latencies:
        raise LoadError(f"no request to '{model}' was answered within {window_s} s")
    latencies.sort()
    return Load(
        len(latencies) / window_s, _percentile(latencies, 0.50), _percentile(latencies, 0.99)
    )


def _percentile(ordered: Sequence[float], part: float) -> float:
    """The value that `part` of the ordered latencies (in seconds) do not exceed, in µs."""
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)] * 1e6


def _request(address: str, model: str, shapes: Mapping[str, Sequence[int]]) -> bytes:
    """One whole binary HTTP request of zeros; sizes that the model leaves open count as 1."""
    with urllib.request.urlopen(f"http://{address}/v2/models/{model}", timeout=10) as answer:
        metadata = json.load(answer)
    inputs: list[dict[str, object]] = []
    data = b""
    for tensor in metadata["inputs"]:
        name, datatype = tensor["name"], tensor["datatype"]
        if datatype not in _SIZES:
            raise LoadError(f"input '{name}' of '{model}' is {datatype}: this needs perf_analyzer")
        shape = [max(size, 1) for size in shapes.get(name, tensor["shape"])]
        size = math.prod(shape) * _SIZES[datatype]
        inputs.append(
            {
                "name": name,
                "datatype": datatype,
                "shape": shape,
                "parameters": {"binary_data_size": size},
            }
        )
        data += bytes(size)
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return (
        (
            f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {address}\r\n"
            f"Inference-Header-Content-Length: {len(header)}\r\n"
            f"Content-Type: application/octet-stream\r\n"
            f"Content-Length: {len(header) + len(data)}\r\n\r\n"
        ).encode()
        + header
        + data
    )


async def _drive(
    host: str, port: int, request: bytes, concurrency: int, window_s: float
) -> list[float]:
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
    return [latency for client in clients for latency in client.latencies]


class _Client(asyncio.Protocol):
    """One connection with one request in flight; keeps the latencies that end in the window."""

    def __init__(self, request: bytes, begin: float, end: float) -> None:
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._begin = begin
        self._end = end
        self._sent = 0.0
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
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
