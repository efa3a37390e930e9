"""A client's POSIX shared memory: opened by name once, read and written by descriptor afterwards.

The client owns the segment and may do with it what it likes at any time, shrink it among others.
Reading a mapping beyond the end of its file is SIGBUS, which ends the process. So whoever must not
end (the supervisor) only ever uses `read`, and whoever maps looks at the size right before.

Python's `multiprocessing.shared_memory` is of no use here: its resource tracker would unlink the
client's segment when the first process of ours ends.
"""

from __future__ import annotations

import os
import stat

#: Where the C library's shm_open keeps its segments on Linux.
FOLDER = "/dev/shm"

#: Names of this kind belong to the server's own workers, says Triton.
RESERVED_PREFIX = "triton_python_backend_shm_region_"


def is_reserved(key: str) -> bool:
    """Whether clients may not have a segment of this name."""
    return key.lstrip("/").startswith(RESERVED_PREFIX)


def open_segment(key: str) -> int:
    """Open a segment for reading and writing; the caller owns the descriptor.

    `key` is what the client gave to shm_open: a plain name, or one after a slash. Raises OSError
    when it is no plain name, or names no regular file that this process may read and write.
    """
    name = key.removeprefix("/")
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise OSError(f"'{key}' is no name of a shared memory segment")
    # A pipe of this name must not hold us up, nor a link lead us elsewhere.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(os.path.join(FOLDER, name), flags)
    except ValueError as error:  # surrogates: the name is no text
        raise OSError(str(error)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"'{key}' is not a shared memory segment")
    return descriptor


def segment_size(descriptor: int) -> int:
    """How many bytes the segment has now."""
    return os.fstat(descriptor).st_size


def read(descriptor: int, offset: int, size: int) -> bytearray:
    """Copy bytes out of a segment. Raises EOFError when it has become too short for them."""
    data = bytearray(size)
    read_into(descriptor, offset, memoryview(data))
    return data


def read_into(descriptor: int, offset: int, view: memoryview) -> None:
    """Copy bytes out of a segment until the view is full.

    Raises EOFError when the segment has become too short for them.
    """
    at, size = 0, len(view)
    while at < size:
        count = os.preadv(descriptor, [view[at:]], offset + at)
        if not count:
            raise EOFError(f"{size - at} of {size} bytes are missing")
        at += count


def write(descriptor: int, offset: int, data: memoryview) -> None:
    """Copy bytes into a segment. Raises EOFError when it is too short for them, OSError when the
    machine has no memory for them.
    """
    end = offset + len(data)
    if segment_size(descriptor) < end:
        raise EOFError(f"the segment ends before byte {end}")
    at = 0
    while at < len(data):
        at += os.pwrite(descriptor, data[at:], offset + at)
