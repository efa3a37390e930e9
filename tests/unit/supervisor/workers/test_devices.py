"""Which GPU and which cores an instance gets."""

from __future__ import annotations

from importlib import metadata

import pytest

from tritonpy.supervisor.workers import devices
from tritonpy.supervisor.workers.devices import CpuShares, visible_devices


@pytest.mark.parametrize(
    ("gpu", "ours", "seen"),
    [
        (None, "0,1", ""),
        (0, None, "0"),
        (3, None, "3"),
        (1, "4,7", "7"),
        (0, "MIG-a,MIG-b", "MIG-a"),
        (1, " GPU-x , GPU-y ", "GPU-y"),
        (2, "4,7", "2"),
        (0, "", "0"),
    ],
    ids=[
        "a CPU instance sees none",
        "our numbers are the machine's",
        "a high one",
        "our numbers count what we see",
        "names of MIG devices",
        "blanks",
        "more than we see",
        "an empty list",
    ],
)
def test_an_instance_sees_its_gpu_alone(gpu: int | None, ours: str | None, seen: str) -> None:
    environment = {} if ours is None else {"CUDA_VISIBLE_DEVICES": ours}

    assert visible_devices(gpu, environment) == seen


def test_instances_share_the_cores_and_never_get_none() -> None:
    shares = CpuShares(8)

    assert shares.join(1) == 8
    assert shares.join(1) == 4
    assert shares.join(6) == 1
    assert shares.join(20) == 1
    shares.leave(27)
    assert shares.join(1) == 4
    assert "8 cores for 2" in repr(shares)


def test_instances_that_use_no_core_take_no_share() -> None:
    shares = CpuShares(4)

    assert shares.join(0) == 4
    assert shares.join(2) == 2


def test_gpus_can_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_SERVER_CPU_ONLY", "1")
    devices.gpus.cache_clear()
    try:
        assert devices.gpus() == ()
    finally:
        devices.gpus.cache_clear()


def test_a_cpu_backend_uses_no_gpu_and_others_only_with_a_build_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions = {"torch": "2.9.0+cpu", "onnxruntime-gpu": "1.23.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError
        return versions[name]

    monkeypatch.setattr(devices, "gpus", lambda: (0, 1))
    monkeypatch.setattr(metadata, "version", version)
    devices.usable_gpus.cache_clear()
    try:
        assert devices.usable_gpus("identity") == ()
        assert devices.usable_gpus("pytorch") == ()
        assert devices.usable_gpus("onnxruntime") == (0, 1)
        assert devices.usable_gpus("python") == (0, 1)
    finally:
        devices.usable_gpus.cache_clear()


def test_there_is_a_core() -> None:
    assert devices.cores() >= 1
