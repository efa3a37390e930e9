"""Loads are refused while a GPU is fuller than its limit."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import UnavailableError
from tritonpy.supervisor.workers import devices
from tritonpy.supervisor.workers.gpu_memory import GpuLimits, used_fraction

USED: dict[int, float | None] = {0: 0.5, 1: 0.9, 2: None}


@pytest.mark.parametrize("gpu", [None, 0, 2, 7])
def test_an_instance_is_taken_where_there_is_room_or_no_limit(gpu: int | None) -> None:
    GpuLimits(["0:0.5", "1:0.8", "2:0.1"], USED.__getitem__).check("m_0", gpu)


def test_an_instance_is_refused_where_too_much_is_in_use() -> None:
    with pytest.raises(UnavailableError) as caught:
        GpuLimits(["0:0.5", "1:0.8"], USED.__getitem__).check("m_0", 1)
    assert caught.value.message == (
        "can not create model 'm_0': memory limit set for GPU 1 has exceeded, model loading is "
        "rejected."
    )


def test_without_a_driver_nobody_knows_what_is_in_use() -> None:
    if devices.gpus():
        pytest.skip("there is a GPU")
    assert used_fraction(0) is None


@pytest.mark.gpu
def test_the_memory_in_use_is_a_part_of_the_whole() -> None:
    used = used_fraction(0)
    assert used is not None
    assert 0 < used < 1
