"""Whose is a batch that was sent ahead: a token in a pipe, which one of two processes takes.

A batch may be sent to a worker that is still busy with another, and be wanted back before the
worker begins it. A busy worker receives nothing, so it cannot be asked: the number of the batch
goes into a pipe that both sides read and neither waits for. The worker takes the number before it
begins the batch, the supervisor takes it to have the batch back; the kernel gives it to one only.

    supervisor -- offer(7) -->  [ 7 ]  -- claim(7)    --> worker: begins batch 7
                                       -- take_back() --> supervisor: the worker will skip it
"""

from __future__ import annotations

import os

#: The number under which the pipe's descriptor travels to the worker: no arena or region has it.
CLAIMS_NUMBER = (1 << 64) - 1

#: Reads and writes of so few bytes are never torn, whoever else reads or writes.
_TOKEN_BYTES = 8


class Offers:
    """The supervisor's end: makes the pipe, offers batches, and takes them back."""

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def offer(self, batch: int) -> None:
        """Let the worker begin this batch. To be done before the batch is sent."""
        os.write(self._write, batch.to_bytes(_TOKEN_BYTES, "little"))

    def take_back(self) -> int | None:
        """The oldest batch that is offered and not begun, which the worker will skip now."""
        return _take(self.descriptor)

    def close(self) -> None:
        """Give the pipe back; the worker's end closes with the worker."""
        os.close(self.descriptor)
        os.close(self._write)


class Claims:
    """The worker's end: asks of each batch that was sent ahead whether it is still to be run."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        #: A token that was found while an older one was looked for.
        self._held = 0

    def claim(self, batch: int) -> bool:
        """Whether this batch may begin; False when it was taken back. Batches come in order."""
        while self._held < batch:
            token = _take(self._descriptor)
            if token is None:
                return False
            self._held = token
        return self._held == batch


def _take(descriptor: int) -> int | None:
    try:
        return int.from_bytes(os.read(descriptor, _TOKEN_BYTES), "little")
    except BlockingIOError:
        return None
