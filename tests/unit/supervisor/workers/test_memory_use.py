"""The memory of worker processes, and what is left, from folders that look like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tritonpy.supervisor.workers.memory_use import family_bytes, free_bytes, used_bytes

MIB = 1 << 20


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_what_processes_share_is_divided_among_them(tmp_path: Path) -> None:
    for pid, pss in ((10, 2048), (11, 1024)):
        text = f"00400000-7fff rollup\nRss: 9999 kB\nPss:   {pss} kB\nPss_Dirty: 1 kB\n"
        write(tmp_path / str(pid) / "smaps_rollup", text)
    assert used_bytes([10, 11, 12], tmp_path) == 3 * MIB
    assert used_bytes([], tmp_path) == 0


def test_a_process_that_may_not_be_looked_at_counts_with_all_that_it_maps(tmp_path: Path) -> None:
    write(tmp_path / "10" / "statm", "900 7 3 1 0 100 0\n")
    assert used_bytes([10], tmp_path) == 7 * os.sysconf("SC_PAGE_SIZE")


def test_the_memory_of_this_process_is_more_than_none() -> None:
    assert used_bytes([os.getpid()]) > MIB
    assert free_bytes() > 0


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max", 500 * MIB), (f"{300 * MIB}", 120 * MIB), (f"{100 * MIB}", 0), (None, 500 * MIB)],
    ids=["no limit", "a limit", "above the limit", "no cgroup"],
)
def test_free_is_what_machine_and_cgroup_have_left(
    tmp_path: Path, limit: str | None, expected: int
) -> None:
    write(tmp_path / "proc" / "meminfo", f"MemTotal: 9 kB\nMemAvailable: {500 * 1024} kB\n")
    write(tmp_path / "proc" / "self" / "cgroup", "0::/a/b\n")
    if limit is not None:
        group = tmp_path / "cgroup" / "a" / "b"
        write(group / "memory.max", f"{limit}\n")
        write(group / "memory.current", f"{200 * MIB}\n")
        write(group / "memory.stat", f"anon 1\ninactive_file {20 * MIB}\nactive_file 5\n")
    assert free_bytes(tmp_path / "proc", tmp_path / "cgroup") == expected


def test_a_family_counts_with_what_each_of_it_has_for_itself(tmp_path: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    write(tmp_path / "10" / "statm", "900 70 20 1 0 100 0\n")
    write(tmp_path / "10" / "task" / "10" / "children", "11 ")
    write(tmp_path / "10" / "task" / "17" / "children", "12 13 ")
    write(tmp_path / "11" / "statm", "900 7 3 1 0 100 0\n")
    write(tmp_path / "11" / "task" / "11" / "children", "")
    write(tmp_path / "12" / "statm", "900 2 3 1 0 100 0\n")
    write(tmp_path / "12" / "task" / "12" / "children", "14")
    write(tmp_path / "14" / "statm", "900 1 0 1 0 100 0\n")
    write(tmp_path / "14" / "task" / "14" / "children", "")

    assert family_bytes(10, tmp_path) == (50 + 4 + 0 + 1) * page
    assert family_bytes(13, tmp_path) == 0


def test_the_kernel_tells_the_memory_of_a_real_process() -> None:
    assert family_bytes(os.getpid()) > MIB
