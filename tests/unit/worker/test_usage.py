"""How much a worker grows while it loads its model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonpy.ipc.messages import Instance, MemoryUsage
from tritonpy.ipc.nvml import names_of
from tritonpy.worker import usage

STATUS = (
    "Name:\tpython\nVmRSS:\t 600 kB\nRssAnon:\t 100 kB\nRssFile:\t 200 kB\nRssShmem:\t 300 kB\n"
)
ON_CPU = Instance("m_0", "CPU", 0, 1)
ON_GPU = Instance("m_0", "GPU", 0, 1)


def test_memory_that_is_shared_by_the_system_is_not_the_models(tmp_path: Path) -> None:
    (tmp_path / "status").write_text(STATUS)
    assert usage.taken(ON_CPU, tmp_path / "status") == {("CPU", 0): 300 * 1024}


def test_an_instance_on_a_gpu_is_asked_for_it_too(tmp_path: Path) -> None:
    (tmp_path / "status").write_text(STATUS)
    found = usage.taken(ON_GPU, tmp_path / "status", {0: 4096}.get)
    assert found == {("CPU", 0): 300 * 1024, ("GPU", 0): 4096}


def test_a_gpu_that_cannot_be_asked_is_left_out() -> None:
    assert set(usage.taken(ON_GPU, used=lambda device: None)) == {("CPU", 0)}


def test_without_a_driver_nobody_can_tell() -> None:
    if names_of(0):
        pytest.skip("there is a GPU")
    assert usage.used_on_gpu(0) is None


def test_growth_is_what_came_since_and_never_less_than_nothing() -> None:
    before = {("CPU", 0): 100, ("GPU", 0): 50}
    after = {("CPU", 0): 90, ("GPU", 0): 80, ("GPU", 1): 7}
    assert usage.growth(before, after) == [MemoryUsage("GPU", 0, 30)]
