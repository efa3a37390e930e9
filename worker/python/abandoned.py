"""Requests that a model let go of without ending them: ended here, so that no client hangs."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from ...ipc.errors import InternalError
from ..backend import Request, Response
from .log import logger

#: How long the last requests may take to leave.
_STOP_SECONDS = 5.0

_Item = tuple[Request, bool, "Response | None"]


class Abandoned:
    """Ends abandoned requests on a thread of its own.

    `put` is called by a finalizer, hence at any point of any thread, possibly inside a lock that
    sending needs: it only enqueues, which SimpleQueue allows there.
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it runs. To be called before a request can be abandoned."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="abandoned", daemon=True)
            self._thread.start()

    def put(self, request: Request, responded: bool, held: Response | None) -> None:
        """A request that nobody can end any more; `held` is its response, if it has one."""
        self._queue.put((request, responded, held))

    def stop(self) -> None:
        """End the requests that were put until now, and the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            request, responded, held = item
            try:
                self._end(request, responded, held)
            except Exception:  # the next one still wants its end
                logger.exception("Ending request '%s' failed.", request.id)

    def _end(self, request: Request, responded: bool, held: Response | None) -> None:
        logger.warning(
            "Model '%s' let go of request '%s' without sending the final response.",
            self._instance,
            request.id,
        )
        if responded:
            request.respond(held, True)
            return
        error = InternalError(
            f"Failed to process the request(s) for model '{self._instance}', message: the model "
            "let go of the request without sending a response."
        )
        request.respond(Response(error=error), True)
