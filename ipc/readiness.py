"""The question whether a model is ready, which reaches a worker that is busy: a byte in a pipe.

A busy worker receives no messages. Where its model has something to say about its readiness, a
thread of its own waits at the pipe, asks the model, and answers by a message (Readiness).

    supervisor -- ask() --> [ ? ] --> questions(): a thread of the worker, which asks the model
        ^------------------------ Readiness -----------------------------'
"""

from __future__ import annotations

import os
from collections.abc import Iterator

#: The number under which the pipe's descriptor travels to the worker: no arena or region has it.
READINESS_NUMBER = (1 << 64) - 2


class Question:
    """The supervisor's end: makes the pipe and asks."""

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe2(os.O_CLOEXEC)

    def ask(self) -> None:
        """Ask once. The pipe holds more questions than anybody asks without an answer."""
        os.write(self._write, b"?")

    def close(self) -> None:
        """Give the pipe back; the worker's end closes with the worker."""
        os.close(self.descriptor)
        os.close(self._write)


def questions(descriptor: int) -> Iterator[None]:
    """The worker's end: waits for each question, until nobody can ask any more, and closes it."""
    try:
        while os.read(descriptor, 1):
            yield
    finally:
        os.close(descriptor)
