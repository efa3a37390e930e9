"""CUDA's driver through cuda-python, against a stand-in for that package."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from support import cuda_stand_in
from support.gpu import Gpus

from tritonpy.worker.cuda import CudaError, CudaPython


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gpus:
    gpus = Gpus(tmp_path)
    monkeypatch.setenv(cuda_stand_in.MEMORY_VARIABLE, str(gpus.memory))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cuda_stand_in.calls.clear()
    return gpus


@pytest.fixture
def driver(gpus: Gpus) -> CudaPython:
    return CudaPython(cuda_stand_in)


def test_an_allocation_of_another_process_is_read_and_written(
    gpus: Gpus, driver: CudaPython
) -> None:
    memory = gpus.allocate(b"abcdefgh", device=1)
    address = driver.open(memory.handle, 1)
    assert driver.size(address, 1) == 8
    host = np.zeros(4, np.uint8)
    driver.to_host(host.ctypes.data, address + 2, 4, 1)
    assert host.tobytes() == b"cdef"
    host[:] = list(b"1234")
    driver.to_device(address, host.ctypes.data, 4, 1)
    driver.on_device(address + 4, address, 2, 1)
    assert memory.content == b"123412gh"
    driver.close(address, 1)
    assert address not in cuda_stand_in.opened


def test_a_copy_on_the_device_is_waited_for(gpus: Gpus, driver: CudaPython) -> None:
    address = driver.open(gpus.allocate(b"ab").handle, 0)
    driver.on_device(address, address + 1, 1, 0)
    driver.close(address, 0)
    assert cuda_stand_in.calls == ["cuMemcpyDtoD", "cuCtxSynchronize"]


def test_each_call_is_made_in_the_context_of_its_device_and_leaves_none(
    gpus: Gpus, driver: CudaPython
) -> None:
    memory = gpus.allocate(b"a", device=1)
    with pytest.raises(CudaError, match="invalid context"):
        driver.open(memory.handle, 0)
    driver.close(driver.open(memory.handle, 1), 1)
    assert cuda_stand_in._current == []


@pytest.mark.parametrize(("device", "words"), [(0, "^invalid value$"), (7, "^invalid device$")])
def test_what_cuda_refuses_is_told_in_its_words(
    driver: CudaPython, device: int, words: str
) -> None:
    with pytest.raises(CudaError, match=words):
        driver.open(b"nothing".ljust(64, b"\0"), device)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(CudaError, match=r"cuda-python is missing.*tritonpy-supervisor\[gpu\]"):
        CudaPython.load()


def test_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(flags: int) -> None:
        raise RuntimeError("libcuda.so.1 cannot be found")

    monkeypatch.setattr(cuda_stand_in, "cuInit", missing)
    with pytest.raises(CudaError, match=r"libcuda\.so\.1 cannot be found"):
        CudaPython(cuda_stand_in)
