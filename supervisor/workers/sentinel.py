"""The supervisor's side of the sentinel of ipc/sentinel.py: start it, tell it of groups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ...ipc import sentinel as program


class Sentinel:
    """The process that cleans up when we are gone, however we go."""

    def __init__(self, runtime_directory: str) -> None:
        self._runtime_directory = runtime_directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, in a session of its own: no signal to our group reaches it."""
        program_file = Path(program.__file__)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(program_file), self._runtime_directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def add_group(self, group: int) -> None:
        """A worker has been started that leads this process group."""
        self._tell(f"+{group}\n")

    def remove_group(self, group: int) -> None:
        """The group is gone; its number may be used again by anybody."""
        self._tell(f"-{group}\n")

    def stop(self) -> None:
        """Let it clean up and wait for it: the runtime directory is gone afterwards."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _tell(self, line: str) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), line.encode())
        except BrokenPipeError:
            pass  # somebody killed it; workers still die with us, only their children may not
