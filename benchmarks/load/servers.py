"""Start a server for the benchmark, watch the CPU time of its processes, and leave none behind."""

from __future__ import annotations

import contextlib
import ctypes
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from rival import Triton

_HOST = "127.0.0.1"
_STARTED = re.compile(r"Started (\w+) at [\w.]+:(\d+)")
_SERVICES = {"http": "HTTPService", "grpc": "GRPCInferenceService"}
#: Triton's python backend names its shared memory in the arguments of its stubs.
_STUB_REGION = "triton_python_backend_shm_region_"
_PR_SET_PDEATHSIG = 1
_START_S = 120.0
_STOP_S = 20.0


class ServerError(Exception):
    """Raised when a server does not start, does not answer, or ends by itself."""


@dataclass(frozen=True)
class Launch:
    """How to start a server: its name in the results, its command and its environment."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None


def own_launch(repositories: Sequence[Path], *arguments: str) -> Launch:
    """The command of this project's server, on ports that it picks itself."""
    script = Path(sys.executable).with_name("tritonpy-supervisor")
    found = str(script) if script.exists() else shutil.which("tritonpy-supervisor")
    if found is None:
        raise ServerError(
            "tritonpy-supervisor is not installed for this Python: run the benchmark with the "
            "python of the environment that `make dev` makes"
        )
    ports = [f"--{service}-port=0" for service in ("http", "grpc", "metrics")]
    command = [found, "serve", *_repositories(repositories), *ports, *_addresses(), *arguments]
    return Launch("tritonpy", command)


def triton_launch(triton: Triton, repositories: Sequence[Path], *arguments: str) -> Launch:
    """The command of the real Triton, on ports that were free a moment ago."""
    command = [
        str(triton.server.path),
        *_repositories(repositories),
        f"--backend-directory={triton.backends}",
        "--exit-on-error=false",  # a model that cannot be loaded here leaves the others measured
        *(f"--{service}-port={_free_port()}" for service in ("http", "grpc", "metrics")),
        *_addresses(),
        *arguments,
    ]
    return Launch("triton", command, triton.server.environment)


def mosec_launch(python: Path, port: int = 0) -> Launch:
    """The command of mosec with the models of mosec_models.py."""
    script = Path(__file__).with_name("mosec_models.py")
    arguments = ["--address", _HOST, "--port", str(port or _free_port())]
    return Launch("mosec", [str(python), str(script), *arguments])


def _repositories(folders: Sequence[Path]) -> list[str]:
    return [f"--model-repository={folder}" for folder in folders]


def _addresses() -> list[str]:
    return [f"--http-address={_HOST}", f"--grpc-address={_HOST}"]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Server:
    """A running server; a context manager that starts it and ends all its processes."""

    launch: Launch
    log: Path
    ports: dict[str, int] = field(default_factory=dict[str, int])
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.launch.command,
                env=None if self.launch.environment is None else dict(self.launch.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the benchmark alone, which then ends us
                preexec_fn=end_with_parent,
            )
        try:
            self._await_ports()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def address(self, protocol: str) -> str:
        """Host and port of a protocol, "http" or "grpc"."""
        return f"{_HOST}:{self.ports[protocol]}"

    def cpu_seconds(self) -> tuple[float, frozenset[int]]:
        """CPU time, user and system, of all processes so far, and which processes these are."""
        total = 0.0
        counted: set[int] = set()
        for process in self._tree():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
            counted.add(process.pid)
        return total, frozenset(counted)

    def requests(self, model: str) -> int:
        """How many requests a model has answered well so far, by the server's own statistics."""
        statistics = self.get(f"/v2/models/{model}/stats")["model_stats"]
        return sum(entry["inference_stats"]["success"]["count"] for entry in statistics)

    def executions(self, model: str) -> int:
        """How many batches a model has executed so far."""
        statistics = self.get(f"/v2/models/{model}/stats")["model_stats"]
        return sum(entry["execution_count"] for entry in statistics)

    def settle(self) -> None:
        """Wait until nothing is being loaded, which would be measured together with the load."""
        for entry in self._ask("/v2/repository/index", b"{}"):
            with contextlib.suppress(ServerError):  # a broken model keeps nobody
                self.await_model(entry["name"])

    def await_model(self, model: str) -> None:
        """Wait until a model is ready. Raises ServerError with the reason when it fails."""
        deadline = time.monotonic() + _START_S
        while not self._is_well(f"/v2/models/{model}/ready"):
            for entry in self._ask("/v2/repository/index", b"{}"):
                if entry["name"] == model and entry.get("state") == "UNAVAILABLE":
                    reason = entry.get("reason", "no reason given")
                    raise ServerError(f"{self.launch.name} cannot load '{model}': {reason}")
            self._check(deadline, f"model '{model}' is not ready")
            time.sleep(0.1)

    def get(self, path: str) -> Any:
        """GET a path of the HTTP API: the decoded JSON. Raises ServerError."""
        return self._ask(path, None)

    def post(self, path: str) -> None:
        """POST to a path of the HTTP API, which may take a while. Raises ServerError."""
        self._ask(path, b"", _START_S)

    def processes(self) -> list[psutil.Process]:
        """The server's process and all below it."""
        return self._tree()

    def _ask(self, path: str, body: bytes | None, timeout_s: float = 10.0) -> Any:
        request = urllib.request.Request(f"http://{self.address('http')}{path}", data=body)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except OSError as error:  # URLError, timeouts and broken connections are all OSErrors
            raise ServerError(f"{self.launch.name} does not answer {path}: {error}") from error

    def _is_well(self, path: str) -> bool:
        """Whether a health path answers 200."""
        try:
            with urllib.request.urlopen(f"http://{self.address('http')}{path}", timeout=10):
                return True
        except OSError:  # no connection yet, or a status from 400 on
            return False

    def _await_ports(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            started = dict(_STARTED.findall(self.log.read_text(errors="replace")))
            if all(service in started for service in _SERVICES.values()):
                break
            self._check(deadline, "it has not opened its ports")
            time.sleep(0.05)
        self.ports = {name: int(started[service]) for name, service in _SERVICES.items()}
        while not self._is_well("/v2/health/live"):  # Triton says so a moment before it listens
            self._check(deadline, "it is not live")
            time.sleep(0.05)

    def _check(self, deadline: float, complaint: str) -> None:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            complaint = f"it ended with status {code}"
        elif time.monotonic() < deadline:
            return
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        raise ServerError(f"{self.launch.name}: {complaint}; the end of its log:\n{tail}")

    def _tree(self) -> list[psutil.Process]:
        assert self._process is not None
        try:
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _end(self) -> None:
        """Ask the server to stop, then kill what is left; idempotent."""
        if self._process is None:
            return
        tree = self._tree()
        regions = {part for process in tree for part in _regions(process)}
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            pass
        psutil.wait_procs(tree, timeout=2)
        for process in tree:
            try:
                process.kill()  # checks the creation time: never another process of the same id
            except psutil.NoSuchProcess:
                pass
        self._process.wait()
        self._process = None
        for region in regions:  # a stub that was killed leaves it
            Path("/dev/shm", region).unlink(missing_ok=True)


class MosecServer(Server):
    """mosec: it knows no models and tells no statistics."""

    def requests(self, model: str) -> int:
        """Whoever makes the load counts."""
        return 0

    def executions(self, model: str) -> int:
        """Nobody counts."""
        return 0

    def settle(self) -> None:
        """There is nothing to load."""

    def await_model(self, model: str) -> None:
        """All are there from the start."""

    def _await_ports(self) -> None:
        deadline = time.monotonic() + _START_S
        self.ports = {"http": int(self.launch.command[-1])}
        while not self._is_well("/"):
            self._check(deadline, "it does not answer")
            time.sleep(0.05)


def server_of(launch: Launch, log: Path) -> Server:
    """The server that a launch starts."""
    return (MosecServer if launch.name == "mosec" else Server)(launch, log)


def _regions(process: psutil.Process) -> list[str]:
    try:
        return [part for part in process.cmdline() if part.startswith(_STUB_REGION)]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


_LIBC = ctypes.CDLL(None)


def end_with_parent() -> None:
    """To run in a child before its program: the kernel stops it when the benchmark is killed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
