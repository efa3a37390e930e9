"""From which NUMA node a worker takes its memory."""

from __future__ import annotations

import ctypes
import os
import platform

#: The number of the system call set_mempolicy, which the C library does not offer.
_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}

_MPOL_BIND = 2

_libc = ctypes.CDLL(None, use_errno=True)


def bind_memory(node: int) -> None:
    """Have this thread, and those that it starts, take memory from one NUMA node only.

    Raises OSError where the system does not know the node, or does not allow that.
    """
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None:
        raise OSError(f"no NUMA policy on {platform.machine()}")
    bits = 8 * ctypes.sizeof(ctypes.c_ulong)
    mask = (ctypes.c_ulong * (node // bits + 1))()
    mask[node // bits] = 1 << node % bits
    # The kernel takes one bit less than it is told.
    size = ctypes.c_ulong(bits * len(mask) + 1)
    if _libc.syscall(ctypes.c_long(number), ctypes.c_long(_MPOL_BIND), mask, size) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
