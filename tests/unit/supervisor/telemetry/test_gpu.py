"""The gauges of GPUs, as a library tells them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

import pytest

from tritonpy.ipc.nvml import GpuState
from tritonpy.supervisor.telemetry.gpu import Gpus
from tritonpy.supervisor.telemetry.metrics import Metrics


def state(**more: float | None) -> GpuState:
    fields: dict[str, float | None] = {
        "utilization": 0.25,
        "memory_total_bytes": 1000,
        "memory_used_bytes": 400,
        "power_usage_watts": 61.5,
        "power_limit_watts": 700.0,
        "energy_joules": 5000.0,
    }
    return GpuState(**{**fields, **more})  # type: ignore[arg-type]


class Library:
    """Knows the GPUs that a test gives it."""

    def __init__(self, **states: GpuState) -> None:
        self.states = {name.replace("_", "-"): each for name, each in states.items()}
        self.asked = threading.Event()
        self.broken = False

    def find(self, names: Iterable[str]) -> str | None:
        if self.broken:
            raise OSError("the driver is gone")
        return next((name for name in names if name in self.states), None)

    def state(self, name: str) -> GpuState | None:
        self.asked.set()
        return self.states.get(name)


def test_every_gpu_has_its_gauges() -> None:
    gpus = Gpus(Library(GPU_a=state()), [["MIG-a", "GPU-a"], ["GPU-unknown"]], 1000)
    gpus.poll()
    shown = [line for line in Metrics(gpus=gpus).render([]).splitlines() if "gpu_uuid" in line]
    assert shown == [
        'nv_gpu_utilization{gpu_uuid="GPU-a"} 0.25',
        'nv_gpu_memory_total_bytes{gpu_uuid="GPU-a"} 1000',
        'nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} 400',
        'nv_gpu_power_usage{gpu_uuid="GPU-a"} 61.5',
        'nv_gpu_power_limit{gpu_uuid="GPU-a"} 700.0',
        'nv_energy_consumption{gpu_uuid="GPU-a"} 0.0',
    ]


def test_energy_is_counted_from_the_start_of_the_server() -> None:
    library = Library(GPU_a=state())
    gpus = Gpus(library, [["GPU-a"]], 1000)
    gpus.poll()
    library.states["GPU-a"] = state(energy_joules=5012.5)
    gpus.poll()
    lines = list(gpus.families())
    assert 'nv_energy_consumption{gpu_uuid="GPU-a"} 12.5' in lines
    assert "# TYPE nv_energy_consumption counter" in lines


def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    gpus = Gpus(Library(GPU_a=state(power_limit_watts=None)), [["GPU-a"]], 1000)
    gpus.poll()
    assert not any("power_limit" in line for line in gpus.families())


def test_before_the_first_answer_and_without_a_gpu_there_are_no_families() -> None:
    gpus = Gpus(Library(), [["GPU-a"]], 1000)
    assert list(gpus.families()) == []
    gpus.poll()
    assert list(gpus.families()) == []


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gpu metrics"]


def test_a_thread_asks_until_it_is_stopped() -> None:
    library = Library(GPU_a=state())
    gpus = Gpus(library, [["GPU-a"]], 0)
    gpus.start()
    try:
        for _ in range(2):
            assert library.asked.wait(20)
            library.asked.clear()
    finally:
        gpus.stop()
    for thread in _threads():
        thread.join(20)
    assert not _threads()


def test_a_library_that_fails_is_told_once_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    library = Library(GPU_a=state())
    gpus = Gpus(library, [["GPU-a"]], 0)
    gpus.poll()
    library.broken = True
    with caplog.at_level(logging.ERROR):
        gpus.start()
        for thread in _threads():
            thread.join(20)
    assert caplog.text.count("the GPUs cannot be read") == 1
    assert list(gpus.families())
