"""One worker as an operating-system process: spawn, watch, talk to, kill.

What is watched is the process itself (a pidfd), not a heartbeat: there is no race and no timeout in
noticing a death. Everything that the worker said before it died is delivered first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...ipc.channel import SupervisorChannel
from ...ipc.claims import CLAIMS_NUMBER, Offers
from ...ipc.descriptors import send_descriptor
from ...ipc.lifeline import MARK, WORKER_MARK, kill_group, kill_marked
from ...ipc.messages import (
    AttachArena,
    AttachClaims,
    AttachReadiness,
    AttachRegion,
    DetachArena,
    DetachRegion,
    FromWorker,
    ToWorker,
)
from ...ipc.readiness import READINESS_NUMBER
from ..request import CudaHandle
from ..telemetry.model_metrics import ModelMetrics
from .calls import Door
from .devices import attachment
from .output import OutputReader
from .readiness import ReadinessCheck
from .sentinel import Sentinel

log = logging.getLogger(__name__)

#: A worker with a memory limit may reserve this and twice the limit (RLIMIT_DATA): what is reserved
#: need not be used, as the stacks of threads; an allocation beyond fails in the model.
DATA_HEADROOM_BYTES = 1 << 30

#: How long a worker may take to tell where its threads are before it is killed (seconds).
ABORT_SECS = 1.0


class Foreground(Protocol):
    """A process outside of the server, which is the worker of one model whenever it is asked to."""

    @property
    def pid(self) -> int:
        """The process."""
        ...

    def takes(self, model: str) -> bool:
        """Whether this model's worker is in the foreground."""
        ...

    def attach(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        marks: Mapping[str, str],
        inherited: Sequence[int],
        on_end: Callable[[int], None],
    ) -> None:
        """Have it become a worker with these sockets, which are the caller's; `on_end` is told the
        status. Raises OSError when it cannot, and while it is one.
        """
        ...

    def kill(self) -> None:
        """Have it stop being a worker now."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all workers of a server share: whose they are and who looks after them."""

    #: Its path is the mark of the server's processes (ipc/lifeline.py).
    runtime_directory: str
    sentinel: Sentinel
    #: Who answers what models ask of others; None where there are no others.
    door: Door | None = None
    #: The metrics that their models make.
    metrics: ModelMetrics = field(default_factory=ModelMetrics)
    #: The worker that is not started by the server, where there is one.
    foreground: Foreground | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker's process ended: its status (negative: the signal) and its last words.

    `unbegun` are the batches that were sent ahead and that it had not begun.
    """

    status: int
    last_words: list[str]
    unbegun: Sequence[int] = ()

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
        command: Sequence[str] = (),
        environment: Mapping[str, str],
        cores: Collection[int] = (),
        memory_limit: int = 0,
        on_message: Callable[[FromWorker], None],
        on_line: Callable[[str, str], None],
        on_exit: Callable[[Exit], None],
    ) -> None:
        self.name = name
        #: Its descendants carry this, and those of no other worker.
        self._mark = secrets.token_hex(8)
        self._surroundings = surroundings
        #: What runs a worker; the server's own Python when it is empty.
        self._command = command
        self._environment = environment
        #: Where it may run; nowhere in particular when there are none.
        self._cores = cores
        #: What it may have for itself; nothing keeps it from taking more when there is none.
        self._memory_limit = memory_limit
        self._on_line = on_line
        self._on_exit = on_exit
        self._channel = SupervisorChannel(on_message, self._distrust)
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: socket.socket | None = None
        self._offers: Offers | None = None
        self._readers: list[OutputReader] = []
        #: Descriptors that found the lifeline full, with their numbers; they are ours.
        self._unsent: deque[tuple[int, int]] = deque()
        self._pidfd = -1

    def __repr__(self) -> str:
        pid = self._process.pid if self._process else None
        return f"<WorkerProcess {self.name!r} pid {pid}>"

    @property
    def pid(self) -> int:
        """The process id. Only while the process lives may it be used for anything."""
        assert self._process is not None, "spawn() comes first"
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether its end has not been noticed."""
        return self._pidfd >= 0

    def spawn(self) -> None:
        """Start the process. Must run on the main thread: the worker dies with the thread that
        forked it. Raises OSError, and leaves nothing behind, when the system refuses.
        """
        try:
            self._offers = Offers()
            with self._channel.open() as channel, self._open_lifeline() as lifeline:
                process = self._fork(channel.fileno(), lifeline.fileno())
            self._watch(process)
        except BaseException:
            if self._process is not None:
                self._reap(self._process)
            self._clean_up()
            raise

    def _open_lifeline(self) -> socket.socket:
        """Make the pair, and return the worker's end."""
        self._lifeline, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lifeline.setblocking(False)
        return theirs

    def _fork(self, *inherited: int) -> subprocess.Popen[bytes]:
        """Start the process with its ends of the channel and the lifeline."""
        arguments = [*map(str, inherited), str(os.getpid()), self.name]
        self._process = subprocess.Popen(
            [*(self._command or own_command()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=inherited,
            env={
                **self._environment,
                MARK: self._surroundings.runtime_directory,
                WORKER_MARK: self._mark,
            },
            process_group=0,
        )
        if self._cores:  # it has no other threads yet, and those to come inherit this
            os.sched_setaffinity(self._process.pid, self._cores)
        if self._memory_limit:
            most = 2 * self._memory_limit + DATA_HEADROOM_BYTES
            resource.prlimit(self._process.pid, resource.RLIMIT_DATA, (most, most))
        return self._process

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """From now on everything that the process says, and its end, is noticed."""
        self._surroundings.sentinel.add_group(process.pid)
        for stream, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            assert pipe is not None
            reader = OutputReader(os.dup(pipe.fileno()), self._line_of(stream))
            pipe.close()
            self._readers.append(reader)
            reader.open()
        self._pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._exited)

    def send(self, message: ToWorker) -> None:
        """Queue a message for the worker."""
        self._channel.send(message)

    def attach_arena(self, number: int, descriptor: int, size: int) -> None:
        """Hand an arena over; the caller keeps its descriptor."""
        self._channel.send(AttachArena(number, size))
        self._hand_over(number, descriptor)

    def detach_arena(self, number: int) -> None:
        """Have the worker let go of an arena that no request reads any more."""
        if self.is_alive:
            self._channel.send(DetachArena(number))

    def attach_claims(self) -> None:
        """Hand over the pipe by which batches that are sent ahead are claimed."""
        assert self._offers is not None
        if self._send_descriptor(CLAIMS_NUMBER, self._offers.descriptor):
            self._channel.send(AttachClaims(CLAIMS_NUMBER))

    def attach_readiness(self, check: ReadinessCheck) -> None:
        """Hand over the pipe by which the model is asked whether it is ready."""
        self._channel.send(AttachReadiness(READINESS_NUMBER))
        self._hand_over(READINESS_NUMBER, check.descriptor)

    def offer(self, batch: int) -> None:
        """Let the worker claim a batch that is about to be sent ahead."""
        assert self._offers is not None
        self._offers.offer(batch)

    def take_back(self) -> int | None:
        """A batch that was sent ahead and is not begun: the worker will skip it now."""
        return self._offers.take_back() if self._offers is not None else None

    def attach_region(self, number: int, name: str, descriptor: int, end: int) -> None:
        """Hand a client's region over, which ends at byte `end`; the caller keeps its
        descriptor.
        """
        self._channel.send(AttachRegion(number, name, end))
        self._hand_over(number, descriptor)

    def _hand_over(self, number: int, descriptor: int) -> None:
        """Send a descriptor, or keep a copy of it until the lifeline takes it: a busy worker reads
        none.
        """
        assert self._lifeline is not None
        if not self._unsent and self._send_descriptor(number, descriptor):
            return
        if not self._unsent:
            loop = asyncio.get_running_loop()
            loop.add_writer(self._lifeline.fileno(), self._send_unsent)
        self._unsent.append((number, os.dup(descriptor)))

    def attach_cuda_region(self, number: int, name: str, handle: CudaHandle) -> None:
        """Have the worker open a client's memory on a GPU; it answers by CudaRegionAttached."""
        self._channel.send(attachment(number, name, handle, os.environ))

    def detach_region(self, number: int) -> None:
        """Have the worker let go of a region that no request names any more."""
        if self.is_alive:
            self._channel.send(DetachRegion(number))

    def _send_descriptor(self, number: int, descriptor: int) -> bool:
        """Whether the lifeline took it; a worker that will never read it is killed."""
        assert self._lifeline is not None
        try:
            send_descriptor(self._lifeline, number, descriptor)
        except BlockingIOError:
            return False
        except OSError:
            self.kill()  # it is dying already: its exit tells the rest
        return True

    def _send_unsent(self) -> None:
        assert self._lifeline is not None
        while self._unsent:
            number, descriptor = self._unsent[0]
            if not self._send_descriptor(number, descriptor):
                return
            os.close(descriptor)
            self._unsent.popleft()
        asyncio.get_running_loop().remove_writer(self._lifeline.fileno())

    def abort(self) -> None:
        """Have the process tell where all its threads are, and end; `on_exit` follows."""
        if self._process is not None and self._pidfd >= 0:
            os.kill(self._process.pid, signal.SIGABRT)
            asyncio.get_running_loop().call_later(ABORT_SECS, self.kill)

    def kill(self) -> None:
        """End the process and its group now. `on_exit` follows."""
        if self._process is not None and self._pidfd >= 0:
            kill_group(self._process.pid)

    def _line_of(self, stream: str) -> Callable[[str], None]:
        return lambda text: self._on_line(stream, text)

    def _distrust(self, error: Exception) -> None:
        """A message made no sense: what it was to answer would wait for ever."""
        log.error("worker '%s' is killed: its message makes no sense", self.name, exc_info=error)
        self.kill()

    def _exited(self) -> None:
        """The pidfd is readable: the process has ended."""
        assert self._process is not None
        self._end(self._reap(self._process))

    def _end(self, status: int) -> None:
        """Deliver what the process has said, give everything back, and tell of its end."""
        try:
            self._channel.drain()
        except Exception:  # the supervision loop: its last message may be cut off
            log.exception("worker '%s' has left a message that cannot be read", self.name)
        unbegun = list(iter(self.take_back, None))
        self._clean_up()
        last_words = self._readers[1].tail if self._readers else []
        self._on_exit(Exit(status, last_words, unbegun))

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        """End what is left of the process and its family; returns its status."""
        loop = asyncio.get_running_loop()
        if self._pidfd >= 0:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        # Children first: they may hold the pipes, and must not outlive their model. The group's
        # number stays ours until the process is reaped.
        kill_group(process.pid)
        status = process.wait()
        self._surroundings.sentinel.remove_group(process.pid)
        loop.run_in_executor(None, kill_marked, WORKER_MARK, self._mark)
        return status

    def _clean_up(self) -> None:
        """Give back everything that belonged to the process."""
        self._channel.close()
        for reader in self._readers:
            reader.close()
        if self._process is not None:
            for pipe in (self._process.stdout, self._process.stderr):
                assert pipe is not None
                pipe.close()
        if self._unsent:
            assert self._lifeline is not None
            asyncio.get_running_loop().remove_writer(self._lifeline.fileno())
        while self._unsent:
            os.close(self._unsent.popleft()[1])
        if self._lifeline is not None:
            self._lifeline.close()
        if self._offers is not None:
            self._offers.close()
            self._offers = None


def own_command() -> tuple[str, ...]:
    """The program that runs a worker in the server's own Python."""
    package = __name__.rsplit(".", 3)[0]  # under whatever name we were imported
    return sys.executable, "-P", "-m", f"{package}.worker"
