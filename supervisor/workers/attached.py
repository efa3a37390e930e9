"""A worker that is not started by the server: a process in somebody's terminal becomes it.

What passes between the two is the same as with any worker. Its output goes to the terminal, nobody
limits its memory or its time, and it lives on when it is no worker any more.
"""

from __future__ import annotations

import asyncio

from ...ipc.claims import Offers
from ...ipc.lifeline import MARK, WORKER_MARK, kill_marked
from .process import Foreground, WorkerProcess, own_command


class AttachedWorker(WorkerProcess):
    """A worker in the foreground."""

    #: Whether the process is this worker now.
    _attached = False

    def __repr__(self) -> str:
        return f"<AttachedWorker {self.name!r} in {self._foreground!r}>"

    @property
    def _foreground(self) -> Foreground:
        foreground = self._surroundings.foreground
        assert foreground is not None, "only a server with a foreground has such workers"
        return foreground

    @property
    def pid(self) -> int:
        """The process in the foreground, which was there before, and may be so after."""
        return self._foreground.pid

    @property
    def is_alive(self) -> bool:
        """Whether its end has not been noticed."""
        return self._attached

    def spawn(self) -> None:
        """Have the process become the worker. Raises OSError, and leaves nothing behind, when it
        cannot.
        """
        marks = {MARK: self._surroundings.runtime_directory, WORKER_MARK: self._mark}
        try:
            self._offers = Offers()
            with self._channel.open() as channel, self._open_lifeline() as lifeline:
                self._foreground.attach(
                    self.name,
                    self._command or own_command(),
                    self._environment,
                    marks,
                    (channel.fileno(), lifeline.fileno()),
                    self._detached,
                )
        except BaseException:
            self._clean_up()
            raise
        self._attached = True

    def kill(self) -> None:
        """Have the process stop being the worker. `on_exit` follows."""
        if self._attached:
            self._foreground.kill()

    def _detached(self, status: int) -> None:
        """The process is no worker any more."""
        self._attached = False
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, kill_marked, WORKER_MARK, self._mark)
        self._end(status)
