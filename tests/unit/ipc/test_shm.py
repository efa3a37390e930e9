"""Clients' segments: opening them by name, and reading and writing them by descriptor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tritonpy.ipc import shm

NAME = "segment_of_a_test"


@pytest.fixture
def path() -> Iterator[Path]:
    found = Path("/dev/shm", NAME)
    found.write_bytes(b"0123456789")
    yield found
    found.unlink(missing_ok=True)


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    opened = shm.open_segment(f"/{NAME}")
    yield opened
    os.close(opened)


def test_a_name_may_begin_with_a_slash(path: Path) -> None:
    for key in (NAME, f"/{NAME}"):
        opened = shm.open_segment(key)
        assert shm.segment_size(opened) == 10
        assert not os.get_inheritable(opened)
        os.close(opened)


@pytest.mark.parametrize(
    "key", ["", "/", ".", "..", "/..", f"//{NAME}", f"a/{NAME}", f"../shm/{NAME}", "a\0b", "\udc80"]
)
def test_only_plain_names_are_opened(path: Path, key: str) -> None:
    with pytest.raises(OSError, match=r"is no name|No such file"):
        shm.open_segment(key)


def test_only_regular_files_are_segments(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        shm.open_segment(NAME)
    path.unlink()
    os.mkfifo(path)  # and it does not wait for a writer
    with pytest.raises(OSError, match="is not a shared memory segment"):
        shm.open_segment(NAME)


@pytest.mark.parametrize("prefix", ["", "/", "//"])
def test_names_of_the_server_itself_are_reserved(prefix: str) -> None:
    assert shm.is_reserved(f"{prefix}triton_python_backend_shm_region_7")
    assert not shm.is_reserved(f"{prefix}my_triton_python_backend_shm_region_7")


def test_what_is_written_is_read(descriptor: int) -> None:
    shm.write(descriptor, 2, memoryview(b"abc"))
    assert shm.read(descriptor, 0, 10) == b"01abc56789"
    assert shm.read(descriptor, 3, 0) == b""


def test_a_segment_that_ends_too_early_is_neither_read_nor_made_longer(descriptor: int) -> None:
    os.ftruncate(descriptor, 4)
    with pytest.raises(EOFError):
        shm.read(descriptor, 2, 3)
    with pytest.raises(EOFError):
        shm.write(descriptor, 2, memoryview(b"abc"))
    assert shm.segment_size(descriptor) == 4
