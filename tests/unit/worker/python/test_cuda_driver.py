"""Tests for tritonpy.worker.python.cuda_driver, against a driver that only records its calls."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tritonpy.worker.python import cuda_driver, dlpack
from tritonpy.worker.python.errors import TritonModelException


class Driver:
    """Answers every call with success, or the status that was set for it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.status: dict[str, int] = {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "cuMemcpyDtoH_v2":
                ctypes.memmove(*(argument.value for argument in arguments))
            return self.status.get(name, 0)

        return call


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    driver = Driver()
    cuda_driver._driver.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    yield driver
    cuda_driver._driver.cache_clear()


def memory(*values: float) -> dlpack.Memory:
    return dlpack.Memory(np.array(values).__dlpack__())


def test_a_copy_runs_in_the_device_s_own_context_and_gives_it_back(driver: Driver) -> None:
    assert cuda_driver.copied_to_host(memory(1, 2)).tolist() == [1.0, 2.0]
    assert driver.calls == [
        "cuInit",
        "cuDeviceGet",
        "cuDevicePrimaryCtxRetain",
        "cuCtxPushCurrent_v2",
        "cuMemcpyDtoH_v2",
        "cuCtxPopCurrent_v2",
        "cuDevicePrimaryCtxRelease_v2",
    ]


def test_nothing_is_asked_for_an_empty_tensor(driver: Driver) -> None:
    assert cuda_driver.copied_to_host(memory()).tolist() == []
    assert driver.calls == []


def test_a_failing_copy_names_the_call_and_still_gives_the_context_back(driver: Driver) -> None:
    driver.status["cuMemcpyDtoH_v2"] = 700

    with pytest.raises(
        TritonModelException,
        match=r"^Failed to copy the output tensor to buffer: cuMemcpyDtoH returned CUDA error 700",
    ):
        cuda_driver.copied_to_host(memory(1))
    assert driver.calls[-2:] == ["cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_a_missing_driver_is_named(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: no such file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(TritonModelException, match=r"driver is missing \(libcuda.so.1: no such"):
        cuda_driver.copied_to_host(memory(1))
