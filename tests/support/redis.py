"""A real Redis for tests: started on a socket of its own, ended with the test."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

#: Long enough for a loaded machine.
_START_TIMEOUT = 30.0


@dataclass
class RunningRedis:
    """A redis-server, and the socket that it listens at."""

    process: subprocess.Popen[bytes]
    path: str

    def hang(self) -> None:
        """From now on it takes connections and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it, with everything that it holds."""
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """A port of this machine that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def redis_server(*options: str) -> Iterator[RunningRedis]:
    """A Redis that keeps nothing on the disk; skips where there is none.

    It listens at a socket in a folder of its own, and wherever the options say.
    """
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (on Debian: apt-get install redis-server)")
    with tempfile.TemporaryDirectory(prefix="tp-redis-") as folder:
        redis = _start(program, folder, options)
        try:
            yield redis
        finally:
            redis.go_on()
            redis.end()


def _start(program: str, folder: str, options: Sequence[str]) -> RunningRedis:
    path = Path(folder, "redis.sock")
    command = [program, "--port", "0", "--unixsocket", str(path), "--dir", folder, "--save", ""]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + _START_TIMEOUT
    while not _listens(str(path)):  # the socket is there a moment before anybody listens
        assert process.poll() is None, "redis-server ended by itself"
        assert time.monotonic() < deadline, "redis-server did not start"
        threading.Event().wait(0.01)
    return RunningRedis(process, str(path))


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
    return True
