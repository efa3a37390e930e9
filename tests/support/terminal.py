"""A program in a terminal of its own, as a person sees and drives it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psutil

#: Makes the terminal on standard input its own, then becomes the program.
_BECOME = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)

CTRL_C = "\x03"

#: Long enough for a loaded machine.
_PATIENCE = 60.0


class Terminal:
    """A running program and what its terminal shows."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._shown = ""
        self._read_until = 0
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def shown(self) -> str:
        """All that it has shown."""
        with self._changed:
            return self._shown

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a match behind the last one, and return it."""
        wanted, deadline = re.compile(pattern), time.monotonic() + _PATIENCE
        with self._changed:
            while (found := wanted.search(self._shown, self._read_until)) is None:
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise AssertionError(f"never shown: {pattern!r}; shown was:\n{self._shown}")
                self._changed.wait(left)
            self._read_until = found.end()
        return found

    def modes(self) -> list[object]:
        """How the terminal is set."""
        return list(termios.tcgetattr(self._master))

    def wait(self) -> int:
        """Wait for the program's end, and return its exit status."""
        status = self.process.wait(_PATIENCE)
        return status

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # nobody has the terminal open any more
                data = b""
            with self._changed:
                self._shown += data.decode(errors="replace").replace("\r\n", "\n")
                self._ended = not data
                self._changed.notify_all()
            if not data:
                return

    def close(self) -> None:
        """End what is left, and close the terminal."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self._thread.join(_PATIENCE)
        os.close(self._master)


@contextmanager
def terminal(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a program in a new terminal; all that it started must be gone when it is."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _BECOME, *command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, **environment, "TERM": "dumb"},
    )
    os.close(slave)
    opened = Terminal(process, master)
    try:
        yield opened
    finally:
        family = _family(process.pid)
        opened.close()
        _gone, alive = psutil.wait_procs(family, timeout=_PATIENCE)
        for left in alive:
            left.kill()
        assert not alive, f"left behind: {alive}"


def _family(pid: int) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children
