"""Whether a client's handle leads to memory of a GPU: a small worker finds out.

The supervisor itself opens no device. A worker that runs a model could tell too, but not before its
batch is done; so there is a worker without a model for each GPU, as long as clients register.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence

from ...ipc import messages
from ...ipc.errors import InternalError, InvalidArgumentError, from_code
from ..request import CudaHandle
from .devices import attachment, visible_devices
from .environment import worker_environment
from .process import Exit, Surroundings, WorkerProcess

log = logging.getLogger(__name__)

#: So long a worker waits for the next client (seconds): it holds a few hundred MB of its GPU.
_LINGER = 10.0


class HandleOpener:
    """The workers that open handles, each from its first question on until nobody asks."""

    def __init__(
        self,
        surroundings: Surroundings,
        gpus: Sequence[int],
        timeout: float,
        linger: float = _LINGER,
    ) -> None:
        self._surroundings = surroundings
        self._gpus = gpus
        self._timeout = timeout
        self._linger = linger
        self._workers: dict[int, _Opener] = {}

    def __repr__(self) -> str:
        return f"<HandleOpener {list(self._workers.values())}>"

    async def check(self, number: int, name: str, handle: CudaHandle) -> None:
        """Open a handle and close it again.

        Raises InvalidArgumentError when it leads nowhere, InternalError when nobody can tell.
        """
        if handle.device not in self._gpus:
            raise InvalidArgumentError(
                f"failed to register CUDA shared memory region '{name}': failed to open CUDA IPC "
                f"handle: invalid device ordinal: {handle.device}, the server's GPUs are "
                f"{list(self._gpus)}"
            )
        worker = self._workers.get(handle.device)
        if worker is None or worker.has_ended:
            worker = _Opener(self._surroundings, handle.device, self._linger)
            self._workers[handle.device] = worker
            worker.start()
        try:
            async with asyncio.timeout(self._timeout):
                await worker.ask(number, name, handle)
        except TimeoutError:
            worker.kill()
            raise InternalError(
                f"failed to register CUDA shared memory region '{name}': GPU {handle.device} was "
                f"not heard of within {self._timeout:g} seconds"
            ) from None

    async def close(self) -> None:
        """End all workers: the server ends."""
        for worker in self._workers.values():
            worker.kill()
        await asyncio.gather(*(worker.ended.wait() for worker in self._workers.values()))


class _Opener:
    """A worker without a model, on one GPU."""

    def __init__(self, surroundings: Surroundings, device: int, linger: float) -> None:
        self.ended = asyncio.Event()
        self._device = device
        self._linger = linger
        self._name = f"GPU {device}"
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._process = WorkerProcess(
            surroundings,
            self._name,
            environment=worker_environment(
                visible_devices=visible_devices(device, os.environ), threads=1
            ),
            on_message=self._receive,
            on_line=self._line,
            on_exit=self._exited,
        )

    def __repr__(self) -> str:
        return f"<_Opener on {self._name}, asked {len(self._asked)}>"

    @property
    def has_ended(self) -> bool:
        """Whether it can be asked no more."""
        return self._stopping or self.ended.is_set()

    def start(self) -> None:
        """Start the process. Raises InternalError."""
        try:
            self._process.spawn()
        except OSError as error:
            self.ended.set()
            raise InternalError(
                f"no worker can be started that opens memory of {self._name}: {error}"
            ) from None

    async def ask(self, number: int, name: str, handle: CudaHandle) -> None:
        """Have it open a handle, and close it again. Raises StatusError."""
        if self._timer is not None:
            self._timer.cancel()
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            await asyncio.shield(self._started)  # others may wait for it too
            self._process.send(attachment(number, name, handle, os.environ))
            await answer
        finally:
            del self._asked[number]
            if not self._asked and not self.ended.is_set():
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(self._linger, self._stop)

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def _stop(self) -> None:
        self._stopping = True
        self._process.send(messages.Stop())

    def _receive(self, message: messages.FromWorker) -> None:
        if isinstance(message, messages.Started):
            self._started.set_result(None)
        elif isinstance(message, messages.CudaRegionAttached):
            self._process.detach_region(message.number)
            answer = self._asked.get(message.number)
            if answer is None or answer.done():
                return  # whoever asked has gone
            if message.error is None:
                answer.set_result(None)
            else:
                answer.set_exception(from_code(message.error.code, message.error.message))

    def _line(self, stream: str, text: str) -> None:
        log.info("worker on %s: %s", self._name, text)

    def _exited(self, exit: Exit) -> None:
        self.ended.set()
        if self._timer is not None:
            self._timer.cancel()
        failure = InternalError(f"the worker that opens memory of {self._name} {exit}")
        for waiting in (self._started, *self._asked.values()):
            if not waiting.done():
                waiting.set_exception(failure)
                waiting.exception()  # whoever waits may have gone
