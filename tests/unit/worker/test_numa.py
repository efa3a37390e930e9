"""Memory of one NUMA node: the kernel is asked for it, and its refusal is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tritonpy.worker.numa import bind_memory

#: Binds its memory in a process of its own, and says what the kernel has noted.
PROGRAM = """
import ctypes, platform
from tritonpy.worker.numa import bind_memory

try:
    bind_memory(0)
except OSError as error:
    print("refused", error.errno)
else:
    mode = ctypes.c_int(-1)
    mask = (ctypes.c_ulong * 16)()
    number = {"x86_64": 239, "aarch64": 236}[platform.machine()]
    size = ctypes.c_ulong(8 * ctypes.sizeof(mask))
    ctypes.CDLL(None).syscall(number, ctypes.byref(mode), mask, size, None, 0)
    print("bound", mode.value, mask[0])
"""


def test_memory_is_bound_to_the_node_where_the_system_allows_it() -> None:
    said = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() in (["bound", "2", "1"], ["refused", "1"], ["refused", "38"])


def test_a_node_that_is_not_there_is_refused() -> None:
    with pytest.raises(OSError, match=r"^\[Errno"):
        bind_memory(1000)
