"""What workers write to their standard output and error, line by line, into the server's log."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

#: A longer line is cut into pieces: a model that writes no newline must not fill our memory.
LINE_LIMIT_BYTES = 8192

#: So many of the last lines on standard error are kept to say why a worker died.
TAIL_LINES = 20


class OutputReader:
    """Reads one pipe of a worker on the event loop and hands each line on.

    Owns the pipe's descriptor from `open` to `close`.
    """

    def __init__(self, descriptor: int, on_line: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self._on_line = on_line
        self._pending = b""
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def tail(self) -> list[str]:
        """The last lines that came."""
        return list(self._tail)

    def open(self) -> None:
        """Start reading on the running loop."""
        os.set_blocking(self._descriptor, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> None:
        """Read what is left without waiting for more, then close the pipe."""
        if self._loop is None:
            return
        # A grandchild that inherited the pipe may keep it open; what it writes later is lost.
        for _ in range(64):
            if not self._read():
                break
        self._loop.remove_reader(self._descriptor)
        self._loop = None
        os.close(self._descriptor)
        if self._pending:
            self._deliver(self._pending)
            self._pending = b""

    def _read(self) -> bool:
        """Read once; False when nothing was there."""
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return False
        if not data:
            if self._loop is not None:
                self._loop.remove_reader(self._descriptor)
            return False
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            self._deliver(line)
        while len(self._pending) > LINE_LIMIT_BYTES:
            self._deliver(self._pending[:LINE_LIMIT_BYTES])
            self._pending = self._pending[LINE_LIMIT_BYTES:]
        return True

    def _deliver(self, line: bytes) -> None:
        text = line[:LINE_LIMIT_BYTES].decode(errors="replace").rstrip("\r")
        if text:
            self._tail.append(text)
            self._on_line(text)
