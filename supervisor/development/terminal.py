"""The process in the terminal as its server sees it: it becomes the worker of one model on demand.

Whatever ends the process, Ctrl-C twice or a crash of the model's code, ends the server too.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ...ipc import foreground
from ...ipc.foreground import Attach, Ended, Kill

log = logging.getLogger(__name__)


class Terminal:
    """The other end of the inherited socket. Lives on the event loop; `open` comes first."""

    def __init__(self, control: socket.socket, pid: int, model: str) -> None:
        self._control = control
        self._pid = pid
        self._model = model
        self._pidfd = -1
        #: Whom to tell that what was attached has ended.
        self._on_end: Callable[[int], None] | None = None

    def __repr__(self) -> str:
        state = "gone" if self._pidfd < 0 else "idle" if self._on_end is None else "a worker"
        return f"<Terminal {self._pid}: {state}>"

    @property
    def pid(self) -> int:
        """The process."""
        return self._pid

    def open(self) -> None:
        """Notice what it says, and its end. Raises OSError when it is gone already."""
        loop = asyncio.get_running_loop()
        self._control.setblocking(False)
        self._pidfd = os.pidfd_open(self._pid)
        loop.add_reader(self._pidfd, self._gone)
        loop.add_reader(self._control, self._hear)

    def close(self) -> None:
        """Listen no more. The process sees the end of the socket when the server ends."""
        if self._pidfd >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._control)
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def takes(self, model: str) -> bool:
        """Whether this is the model that it was started for."""
        return model == self._model

    def attach(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        marks: Mapping[str, str],
        inherited: Sequence[int],
        on_end: Callable[[int], None],
    ) -> None:
        """Have it become a worker. Raises OSError when it is one, or gone."""
        if self._pidfd < 0:
            raise OSError(errno.ESRCH, "the process in the foreground is gone")
        if self._on_end is not None:
            raise OSError(
                errno.EBUSY,
                "the model runs in the foreground already, and has one worker; save one of its "
                "files to load it anew",
            )
        message = Attach(name, tuple(command), dict(environment), dict(marks))
        foreground.send(self._control, message, inherited)
        self._on_end = on_end

    def kill(self) -> None:
        """Have it stop being a worker now."""
        try:
            foreground.send(self._control, Kill())
        except OSError:
            pass  # it is going, which is noticed by itself

    def _hear(self) -> None:
        try:
            received = foreground.receive(self._control)
        except BlockingIOError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.error("the process in the foreground makes no sense: %s", error)
            received = None
        if received is None:
            self._gone()
        elif isinstance(received[0], Ended):
            self._end(received[0].status)

    def _gone(self) -> None:
        """There is nobody any more to serve for."""
        self.close()
        self._end(-signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGTERM)

    def _end(self, status: int) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(status)
