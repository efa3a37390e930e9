"""Answers whether the model is ready, on a thread of its own: the main one may be busy with it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..ipc.channel import WorkerChannel
from ..ipc.messages import Readiness
from ..ipc.readiness import questions


def start(descriptor: int, is_ready: Callable[[], bool], channel: WorkerChannel) -> None:
    """Answer all questions that come from now on. `is_ready` raises nothing."""

    def answer() -> None:
        for _ in questions(descriptor):
            channel.send(Readiness(is_ready()))

    threading.Thread(target=answer, name="readiness", daemon=True).start()
