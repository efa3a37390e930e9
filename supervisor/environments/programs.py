"""Runs the programs that make environments: pip, and Pythons that are asked who they are."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence

from ...ipc.lifeline import MARK, kill_group
from ..workers.output import OutputReader
from ..workers.process import Surroundings

#: So many of a program's last lines say why it failed.
_LAST_LINES = 8


class ProgramError(Exception):
    """Raised when a program cannot be started or fails; holds its last lines."""


class Programs:
    """Starts programs that end with the server, however it ends."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    async def run(
        self,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        directory: str,
        on_line: Callable[[str], None],
    ) -> None:
        """Run a program to its end, and hand on each line that it writes.

        Must be awaited on the main thread. A caller that is cancelled ends the program. Raises
        ProgramError.
        """
        loop = asyncio.get_running_loop()
        try:
            process = subprocess.Popen(  # noqa: ASYNC220  # as workers: some milliseconds
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**variables, MARK: self._surroundings.runtime_directory},
                cwd=directory,
                process_group=0,
            )
        except OSError as error:
            raise ProgramError(str(error)) from None
        self._surroundings.sentinel.add_group(process.pid)
        assert process.stdout is not None
        reader = OutputReader(os.dup(process.stdout.fileno()), on_line)
        process.stdout.close()
        reader.open()
        descriptor = os.pidfd_open(process.pid)
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            # What it has started must not go on without it; the number is ours until it is reaped.
            kill_group(process.pid)
            status = process.wait()
            self._surroundings.sentinel.remove_group(process.pid)
            reader.close()
        if status:
            said = " | ".join(reader.tail[-_LAST_LINES:]) or "it said nothing"
            how = f"status {status}" if status > 0 else f"signal {-status}"
            raise ProgramError(f"it ended with {how}: {said}")
