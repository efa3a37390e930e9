"""NVML through a library that answers what a test says."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from tritonpy.ipc import nvml
from tritonpy.ipc.nvml import GpuState, Nvml, names_of

NOT_SUPPORTED = 3


class Library:
    """Fills in the fields of the structures that the calls are given."""

    def __init__(self) -> None:
        self.fills: dict[str, dict[str, int]] = {
            "nvmlDeviceGetMemoryInfo": {"total": 800, "used": 300},
            "nvmlDeviceGetUtilizationRates": {"gpu": 40},
            "nvmlDeviceGetPowerUsage": {"value": 61_500},
            "nvmlDeviceGetEnforcedPowerLimit": {"value": 700_000},
            "nvmlDeviceGetTotalEnergyConsumption": {"value": 2_500},
        }
        self.status: dict[str, int] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "nvmlDeviceGetHandleByUUID":
                return 0 if arguments[0] == b"GPU-known" else 6
            for field, value in self.fills.get(name, {}).items():
                setattr(arguments[1]._obj, field, value)
            return self.status.get(name, 0)

        return call


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    return library


def opened() -> Nvml:
    found = Nvml.open()
    assert found is not None
    return found


def test_a_gpu_is_found_by_the_name_that_the_library_knows(library: Library) -> None:
    assert opened().find(["MIG-known", "GPU-known"]) == "GPU-known"
    assert opened().find(["GPU-other"]) is None
    assert opened().state("GPU-other") is None


def test_a_state_is_in_the_units_that_it_says(library: Library) -> None:
    assert opened().state("GPU-known") == GpuState(
        utilization=0.4,
        memory_total_bytes=800,
        memory_used_bytes=300,
        power_usage_watts=61.5,
        power_limit_watts=700.0,
        energy_joules=2.5,
    )


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("nvmlDeviceGetMemoryInfo", ["memory_total_bytes", "memory_used_bytes"]),
        ("nvmlDeviceGetUtilizationRates", ["utilization"]),
        ("nvmlDeviceGetPowerUsage", ["power_usage_watts"]),
        ("nvmlDeviceGetEnforcedPowerLimit", ["power_limit_watts"]),
        ("nvmlDeviceGetTotalEnergyConsumption", ["energy_joules"]),
    ],
)
def test_what_a_gpu_does_not_support_is_none(
    library: Library, call: str, fields: list[str]
) -> None:
    library.status[call] = NOT_SUPPORTED
    state = opened().state("GPU-known")
    assert state is not None
    assert [name for name in state.__struct_fields__ if getattr(state, name) is None] == fields


def test_without_a_driver_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: no such file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert Nvml.open() is None
    assert names_of(0) == []


def test_a_library_that_does_not_start_is_none(library: Library) -> None:
    library.status["nvmlInit_v2"] = 9
    assert Nvml.open() is None


def test_a_gpu_has_the_names_of_its_unique_number(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def uuid(raw: Any, device: Any) -> int:
        raw[:] = bytes(range(16))
        return 0

    monkeypatch.setattr(library, "cuDeviceGetUuid_v2", uuid, raising=False)
    monkeypatch.setitem(library.fills, "cuDeviceGet", {})
    assert nvml.names_of(0) == [
        "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f",
        "MIG-00010203-0405-0607-0809-0a0b0c0d0e0f",
    ]
