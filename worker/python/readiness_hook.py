"""A model's own word on whether it is ready: its `is_ready`, plain or a coroutine."""

from __future__ import annotations

import asyncio
from typing import Any

from . import failures
from .event_loop import EventLoop
from .log import logger


class ReadinessHook:
    """Asks a model. An exception, and an answer that is no bool, say that it is not ready.

    What is wrong is logged when it begins, and not again at every probe.
    """

    def __init__(self, instance: str, python_model: Any, event_loop: EventLoop) -> None:
        self._instance = instance
        self._python_model = python_model
        self._event_loop = event_loop
        self._wrong = ""

    def __call__(self) -> bool:
        """What the model says."""
        try:
            answer = self._python_model.is_ready()
            if asyncio.iscoroutine(answer):
                answer = self._event_loop.run(answer)
        except BaseException as error:  # whatever it is, the next question is answered too
            self._tell(failures.summary(error), failures.story(error))
            return False
        if not isinstance(answer, bool):
            text = f"is_ready() must return a boolean value, got {type(answer).__name__}"
            self._tell(text, text)
            return False
        self._wrong = ""
        return answer

    def _tell(self, what: str, story: str) -> None:
        if what != self._wrong:
            logger.error("Asking model '%s' whether it is ready failed:\n%s", self._instance, story)
        self._wrong = what
