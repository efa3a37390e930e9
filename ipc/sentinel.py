"""The sentinel: a tiny process that cleans up when the supervisor is gone, however it went.

The supervisor holds the other end of the sentinel's standard input and tells it, one line each,
which process groups exist (`+<group>`) and which are gone (`-<group>`). End of file means that the
supervisor is gone: the sentinel kills all groups and everybody who carries the server's mark,
removes the runtime directory, and exits.

It is started by file name with `-I -S` and imports next to nothing, so that it stays small. It must
never write: its standard output and error belong to a supervisor that may be dead.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from types import ModuleType


def watch(runtime_directory: str, read: int) -> None:
    """Follow the supervisor until it is gone, then clean up behind it."""
    # Now: when it is needed, an upgrade may have taken the file away.
    lifeline = _lifeline()
    groups: set[int] = set()
    pending = b""
    while data := os.read(read, 4096):
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            if line.startswith(b"+"):
                groups.add(int(line[1:]))
            elif line.startswith(b"-"):
                groups.discard(int(line[1:]))
    import shutil  # a megabyte that would lie about until this moment

    for group in groups:
        lifeline.kill_group(group)
    lifeline.kill_marked(lifeline.MARK, runtime_directory)
    shutil.rmtree(runtime_directory, ignore_errors=True)


def _lifeline() -> ModuleType:
    """The module beside this file, by its name: without site-packages there is no package."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lifeline.py")
    spec = importlib.util.spec_from_file_location("lifeline", path)
    assert spec is not None
    assert spec.loader is not None
    lifeline = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lifeline)
    return lifeline


def main() -> None:
    """Entry: `sentinel.py <runtime directory>`, with the supervisor on standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.argv[1], 0)


if __name__ == "__main__":
    main()
