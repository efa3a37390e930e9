"""Start the real server as a process, on free ports, and know what it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

_STARTED = {
    "http": re.compile(r"Started HTTPService at \S+:(\d+)"),
    "grpc": re.compile(r"Started GRPCInferenceService at \S+:(\d+)"),
    "metrics": re.compile(r"Started Metrics Service at \S+:(\d+)"),
}

#: By hand all tests can be run on the other transport: TRITONPY_TESTS_GRPC_TRANSPORT=lean.
_TRANSPORT = [
    f"--grpc-transport={transport}"
    for transport in [os.environ.get("TRITONPY_TESTS_GRPC_TRANSPORT")]
    if transport
]

#: Long enough for a loaded machine; a server that is not up by then is broken.
START_TIMEOUT = 90.0


class RunningServer:
    """A `tritonpy-supervisor serve` process and what it has logged so far."""

    def __init__(self, process: subprocess.Popen[str], runtime_directory: Path) -> None:
        self.process = process
        self.runtime_directory = runtime_directory
        self.ports: dict[str, int] = {}
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def http(self) -> str:
        """Host and port of the HTTP service."""
        return f"127.0.0.1:{self.ports['http']}"

    @property
    def grpc(self) -> str:
        """Host and port of the gRPC service."""
        return f"127.0.0.1:{self.ports['grpc']}"

    @property
    def metrics(self) -> str:
        """Host and port of the metrics service."""
        return f"127.0.0.1:{self.ports['metrics']}"

    @property
    def log(self) -> str:
        """Everything that the server has written."""
        with self._changed:
            return "".join(self._lines)

    def wait_for_line(self, pattern: str, timeout: float = START_TIMEOUT) -> re.Match[str]:
        """Wait until the log holds a match, and return it."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout
        with self._changed:
            while (found := wanted.search("".join(self._lines))) is None:
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise AssertionError(
                        f"the server never logged {pattern!r}; it logged:\n{''.join(self._lines)}"
                    )
                self._changed.wait(left)
        return found

    def wait_until_up(self, services: Collection[str] = tuple(_STARTED)) -> None:
        """Wait until the ports are open and the models of the start are loaded or have failed."""
        for service in services:
            self.ports[service] = int(self.wait_for_line(_STARTED[service].pattern)[1])
        self.wait_for_line(r"\| exit_timeout")

    def workers(self, model: str | None = None) -> list[psutil.Process]:
        """The worker processes, of one model or of all."""
        found: list[psutil.Process] = []
        for child in psutil.Process(self.process.pid).children():
            try:
                command = child.cmdline()
                # In an environment of its own it is started from a folder of that name.
                is_worker = any(part.endswith("tritonpy.worker") for part in command)
                instance = command[-1] if is_worker else ""
                if instance and (model is None or instance.startswith(f"{model}_")):
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def stop(self, timeout: float = 60.0) -> int:
        """Ask the server to stop, wait until it has, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop; it logged:\n{self.log}") from None
        finally:
            self._thread.join(10)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        self.process.stdout.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def launch(
    *repositories: Path, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> RunningServer:
    """Start a server on free ports and return at once; the caller stops it."""
    runtime = Path(tempfile.mkdtemp(prefix="tp-"))
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "tritonpy.supervisor",
            "serve",
            *(f"--model-repository={repository}" for repository in repositories),
            "--http-address=127.0.0.1",
            "--grpc-address=127.0.0.1",
            "--http-port=0",
            "--grpc-port=0",
            "--metrics-port=0",
            *_TRANSPORT,
            *arguments,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {}), "RUNTIME_DIRECTORY": str(runtime)},
    )
    return RunningServer(process, runtime)


@contextmanager
def serving(
    *repositories: Path,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    services: Collection[str] = tuple(_STARTED),
) -> Iterator[RunningServer]:
    """A server that is up with these services, and is gone afterwards without a trace."""
    server = launch(*repositories, arguments=arguments, environment=environment)
    try:
        server.wait_until_up(services)
        yield server
    finally:
        server.stop()
        left = list(server.runtime_directory.iterdir())
        assert not left, f"the server left {left} behind"
        server.runtime_directory.rmdir()
