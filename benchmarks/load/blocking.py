"""Closed-loop load with large bodies: blocking sockets in threads, which copy nothing of them; and
a bare echo of the same bytes, the most that a server on this machine could reach.

python benchmarks/load/blocking.py SIZE    # the echo: prints its port, and serves until killed
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from measurement import LoadError

_TIMEOUT_S = 60.0
_WARM_UP_S = 0.5
_MOST_HEAD = 8192


def drive(
    address: str, request: bytes, concurrency: int, window_s: float, *, bare: bool = False
) -> tuple[list[float], int]:
    """Send a request again and again; `bare` is whether the answer is as long as the request and
    has no head.

    Returns the latencies of the window in seconds, and the number of all requests. Raises LoadError
    """
    begin = time.perf_counter() + _WARM_UP_S
    end = begin + window_s
    latencies: list[float] = []
    failures: list[Exception] = []
    counts: list[int] = []

    def run() -> None:
        try:
            counts.append(_client(address, request, bare, begin, end, latencies))
        except (OSError, LoadError) as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise LoadError(f"the server at {address} failed: {failures[0]!r}") from failures[0]
    return latencies, sum(counts)


@contextmanager
def echo(size: int) -> Iterator[str]:
    """The address of a process that sends back every `size` bytes that it gets."""
    process = subprocess.Popen([sys.executable, __file__, str(size)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _client(
    address: str, request: bytes, bare: bool, begin: float, end: float, latencies: list[float]
) -> int:
    host, port = address.rsplit(":", 1)
    buffer = memoryview(bytearray(2 * len(request) + _MOST_HEAD + (1 << 22)))
    count = 0
    with socket.create_connection((host, int(port)), _TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (sent := time.perf_counter()) < end:
            connection.sendall(request)
            if bare:
                _receive(connection, buffer, 0, len(request))
            else:
                _read_answer(connection, buffer)
            now = time.perf_counter()
            count += 1
            if begin <= now < end:
                latencies.append(now - sent)
    return count


def _read_answer(connection: socket.socket, buffer: memoryview) -> None:
    received = head = 0
    while not head:
        received = _receive(connection, buffer, received, received + 1)
        head = bytes(buffer[: min(received, _MOST_HEAD)]).find(b"\r\n\r\n") + 4
        if head < 4:
            head = 0
    lines = bytes(buffer[:head]).split(b"\r\n")
    if not lines[0].startswith(b"HTTP/1.1 200"):
        raise LoadError(f"a request was refused: {bytes(buffer[: min(received, 500)])!r}")
    length = next(
        int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")
    )
    _receive(connection, buffer, received, head + length)


def _receive(connection: socket.socket, buffer: memoryview, received: int, wanted: int) -> int:
    """Receive until so many bytes are there, or more; returns how many there are."""
    while received < wanted:
        count = connection.recv_into(buffer[received:])
        if not count:
            raise LoadError("the server closed a connection")
        received += count
    return received


def _serve(size: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    accept: Callable[[], tuple[socket.socket, object]] = listener.accept
    while True:
        connection, _ = accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_echo, args=(connection, size), daemon=True).start()


def _echo(connection: socket.socket, size: int) -> None:
    buffer = memoryview(bytearray(size))
    try:
        while True:
            _receive(connection, buffer, 0, size)
            connection.sendall(buffer)
    except (OSError, LoadError):
        connection.close()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
