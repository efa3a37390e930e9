"""What workers write to their standard output and error, line by line, into the server's log."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

#: A longer line is cut into pieces: a model that writes no newline must not fill our memory.
LINE_LIMIT_BYTES = 8192

#: So many of the last lines are kept to say why a worker died.
TAIL_LINES = 20

#: What Python says when a signal kills it. The stacks of all threads follow: they are for the log,
#: and would push out of the tail what was said before.
_FATAL = "Fatal Python error"

#: So many lines are handed on, then the loop gets a turn and the pipe a pause: writing a line to
#: the log costs some 20 µs, and a model that prints all the time must slow down only itself.
LINES_PER_TURN = 32
PAUSE_SECONDS = 0.002

#: Of what is left in the pipe when it is closed, no more lines than this are handed on.
LINES_AT_CLOSE = 1000

_READ_BYTES = 65536
_READS_AT_CLOSE = 16  # a pipe holds one read; the rest is for a grandchild that still writes


class OutputReader:
    """Reads one pipe of a worker on the event loop and hands each line on.

    Owns the pipe's descriptor from its construction to `close`.
    """

    def __init__(self, descriptor: int, on_line: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self._on_line = on_line
        #: Whole lines that are not handed on yet, and what follows the last newline.
        self._lines: deque[bytes] = deque()
        self._partial = b""
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._is_dying = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pause: asyncio.TimerHandle | None = None

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
        """Hand on what is left without waiting for more, then close the pipe."""
        if self._descriptor < 0:
            return
        if self._loop is not None:
            if self._pause is not None:
                self._pause.cancel()
            # A grandchild that inherited the pipe may keep it open; what it writes later is lost.
            for _ in range(_READS_AT_CLOSE):
                if not self._fill():
                    break
            self._loop.remove_reader(self._descriptor)
            self._loop = None
        os.close(self._descriptor)
        self._descriptor = -1
        self._finish()

    def _read(self) -> None:
        self._fill()
        self._hand_on()

    def _resume(self) -> None:
        """The pause is over."""
        self._pause = None
        self._hand_on()
        if self._pause is None and self._loop is not None:
            self._loop.add_reader(self._descriptor, self._read)

    def _fill(self) -> bool:
        """Read once; False when nothing was there."""
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            if self._loop is not None:
                self._loop.remove_reader(self._descriptor)
            return False
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            while len(line) > LINE_LIMIT_BYTES:
                self._lines.append(line[:LINE_LIMIT_BYTES])
                line = line[LINE_LIMIT_BYTES:]
            self._lines.append(line)
        while len(self._partial) > LINE_LIMIT_BYTES:
            self._lines.append(self._partial[:LINE_LIMIT_BYTES])
            self._partial = self._partial[LINE_LIMIT_BYTES:]
        return True

    def _hand_on(self) -> None:
        """Hand on the next lines; when that leaves some, let the pipe wait for a moment."""
        for _ in range(min(len(self._lines), LINES_PER_TURN)):
            self._deliver(self._lines.popleft())
        if self._lines and self._loop is not None:
            self._loop.remove_reader(self._descriptor)
            self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _finish(self) -> None:
        """Hand on all that was read, or the end of it where it is too much."""
        if self._partial:
            self._lines.append(self._partial)
            self._partial = b""
        left_out = len(self._lines) - LINES_AT_CLOSE
        if left_out > 0:
            self._on_line(f"[{left_out} lines are left out]")
        for line in list(self._lines)[-LINES_AT_CLOSE:]:
            self._deliver(line)
        self._lines.clear()

    def _deliver(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        if text:
            if not self._is_dying:
                self._tail.append(text)
                self._is_dying = text.startswith(_FATAL)
            self._on_line(text)
