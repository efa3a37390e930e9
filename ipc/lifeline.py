"""How each side notices that the other is gone, and how a worker's whole family is ended.

A worker asks the kernel to be killed when its parent dies (PR_SET_PDEATHSIG). That covers the
worker and nothing that it started, so every worker leads a process group of its own and carries the
name of its server's runtime directory in its environment, which its children inherit. Whoever
cleans up (the supervisor after a crash, the sentinel after the supervisor) kills the group and then
everybody who still carries the mark.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time

#: The environment variable by which a server's processes know each other; its value is the path of
#: the server's runtime directory.
MARK = "TRITONPY_RUNTIME"

#: The one by which a worker's own descendants are told from those of others.
WORKER_MARK = "TRITONPY_WORKER"

#: How often `kill_marked` looks at most, and how long the dying get between two looks (seconds).
_ROUNDS = 100
_ROUND_PAUSE = 0.01

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> bool:
    """Have the kernel kill this process when its parent dies; False when it has died already.

    To be called late: a change of user clears the request. The parent's *thread* counts, so
    workers are spawned on the supervisor's main thread.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return os.getppid() == parent


def kill_group(group: int) -> None:
    """Kill every process of a group; one that is gone already is no error."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def kill_marked(variable: str, value: str) -> int:
    """Kill every process that was started with `variable=value`, and return how many there were.

    Looks again until none is left, because a process may fork while we look. Blocks for some
    milliseconds a round on a busy machine, and for a second at most when the dying take long.
    """
    killed: set[int] = set()
    for _round in range(_ROUNDS):
        found = _marked(os.fsencode(f"{variable}={value}"))
        fresh = found - killed
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
                killed.add(process)
            except (ProcessLookupError, PermissionError):
                pass
        if not found & killed:
            break
        if not fresh:
            time.sleep(_ROUND_PAUSE)
    return len(killed)


def _marked(mark: bytes) -> set[int]:
    """The living processes whose initial environment holds the mark, this one left out."""
    found: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                marked = mark in file.read().split(b"\0")
            if marked and not _is_zombie(name):
                found.add(int(name))
        except OSError:
            continue  # gone meanwhile, or another user's
    return found


def _is_zombie(process: str) -> bool:
    with open(f"/proc/{process}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
