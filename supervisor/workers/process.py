"""One worker as an operating-system process: spawn, watch, talk to, kill.

What is watched is the process itself (a pidfd), not a heartbeat: there is no race and no timeout in
noticing a death. Everything that the worker said before it died is delivered first.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...ipc.channel import Context, SupervisorChannel
from ...ipc.descriptors import send_descriptor
from ...ipc.lifeline import MARK, WORKER_MARK, kill_group, kill_marked
from ...ipc.messages import AttachArena, FromWorker, ToWorker
from .output import OutputReader
from .sentinel import Sentinel

_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all workers of a server share: where they live and who looks after them."""

    context: Context
    runtime_directory: str
    sentinel: Sentinel


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker's process ended: its status (negative: the signal) and its last words."""

    status: int
    last_words: list[str]

    def __str__(self) -> str:
        if self.status < 0:
            try:
                name = signal.Signals(-self.status).name
            except ValueError:
                name = str(-self.status)
            return f"was killed by signal {name}"
        return f"exited with status {self.status}"


class WorkerProcess:
    """A spawned worker. Its callbacks run on the event loop; `on_exit` comes last and once."""

    def __init__(
        self,
        surroundings: Surroundings,
        name: str,
        *,
        environment: Mapping[str, str],
        on_message: Callable[[FromWorker], None],
        on_line: Callable[[str, str], None],
        on_exit: Callable[[Exit], None],
    ) -> None:
        self.name = name
        self.generation = secrets.token_hex(8)
        self._surroundings = surroundings
        self._environment = environment
        self._on_line = on_line
        self._on_exit = on_exit
        self._directory = os.path.join(surroundings.runtime_directory, f"w{next(_serial)}")
        self._channel = SupervisorChannel(surroundings.context, self._directory, on_message)
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        self._readers: list[OutputReader] = []
        self._pidfd = -1

    def __repr__(self) -> str:
        pid = self._process.pid if self._process else None
        return f"<WorkerProcess {self.name!r} pid {pid}>"

    @property
    def pid(self) -> int:
        """The process id. Only while the process lives may it be used for anything."""
        assert self._process is not None, "spawn() comes first"
        return self._process.pid

    def spawn(self) -> None:
        """Start the process. Must run on the main thread: the worker dies with the thread that
        forked it. Raises OSError when the system refuses.
        """
        os.mkdir(self._directory, 0o750)
        self._channel.open()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            arguments = [
                self._directory,
                self.generation,
                str(theirs.fileno()),
                str(os.getpid()),
                self.name,
            ]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"{_package()}.worker", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env={
                    **self._environment,
                    MARK: self._surroundings.runtime_directory,
                    WORKER_MARK: self.generation,
                },
                process_group=0,
            )
        self._lifeline = ours
        self._lifeline.setblocking(False)
        self._surroundings.sentinel.add_group(self._process.pid)
        for stream, pipe in (("stdout", self._process.stdout), ("stderr", self._process.stderr)):
            assert pipe is not None
            reader = OutputReader(os.dup(pipe.fileno()), self._line_of(stream))
            pipe.close()
            reader.open()
            self._readers.append(reader)
        self._pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._exited)

    def connect(self) -> None:
        """The worker has said that it listens: from now on messages may be sent."""
        self._channel.connect()

    def send(self, message: ToWorker) -> None:
        """Queue a message for the worker."""
        self._channel.send(message)

    def attach_arena(self, number: int, descriptor: int, size: int) -> None:
        """Hand an arena over; the caller keeps its descriptor."""
        assert self._lifeline is not None
        send_descriptor(self._lifeline, number, descriptor)
        self._channel.send(AttachArena(number, size))

    def kill(self) -> None:
        """End the process and its group now. `on_exit` follows."""
        if self._process is not None and self._pidfd >= 0:
            kill_group(self._process.pid)

    def _line_of(self, stream: str) -> Callable[[str], None]:
        return lambda text: self._on_line(stream, text)

    def _exited(self) -> None:
        """The pidfd is readable: the process has ended."""
        assert self._process is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        # Children first: they may hold the pipes, and must not outlive their model. The group's
        # number stays ours until the process is reaped.
        kill_group(self._process.pid)
        status = self._process.wait()
        self._surroundings.sentinel.remove_group(self._process.pid)
        loop.run_in_executor(None, kill_marked, WORKER_MARK, self.generation)
        self._channel.drain()
        self._channel.close()
        for reader in self._readers:
            reader.close()
        assert self._lifeline is not None
        self._lifeline.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._on_exit(Exit(status, self._readers[1].tail))


def _package() -> str:
    """The name under which this package was imported, without its last two parts."""
    return __name__.rsplit(".", 3)[0]
