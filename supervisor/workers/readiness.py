"""Asks the model of one worker whether it is ready."""

from __future__ import annotations

import asyncio
import logging

from ...ipc.readiness import Question

log = logging.getLogger(__name__)

#: How long a model may think about it (seconds): Triton's limit.
LIMIT = 5.0


class ReadinessCheck:
    """The hook of one loaded model. Whoever asks while an answer is awaited gets that one."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._question = Question()
        self._awaited: asyncio.Future[bool] | None = None

    def __repr__(self) -> str:
        return f"<ReadinessCheck of '{self._instance}', {'asked' if self._awaited else 'quiet'}>"

    @property
    def descriptor(self) -> int:
        """What the worker reads the questions from."""
        return self._question.descriptor

    async def ask(self) -> bool:
        """What the model says; False when it takes too long or its worker dies meanwhile."""
        if self._awaited is None:
            self._awaited = asyncio.get_running_loop().create_future()
            self._question.ask()
        try:
            async with asyncio.timeout(LIMIT):
                return await asyncio.shield(self._awaited)
        except TimeoutError:
            log.warning(
                "model instance '%s' has not said within %g seconds whether it is ready",
                self._instance,
                LIMIT,
            )
            return False

    def answered(self, ready: bool) -> None:
        """The model has answered."""
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.set_result(ready)

    def close(self) -> None:
        """The worker has ended: nobody is going to answer."""
        self.answered(False)
        self._question.close()
