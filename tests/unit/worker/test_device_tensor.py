"""Tensors on a GPU: their shapes, and the capsules by which frameworks take them."""

from __future__ import annotations

import gc
import weakref

import pytest

from tritonpy.ipc.dtypes import DataType
from tritonpy.worker import device_tensor
from tritonpy.worker.device_tensor import DeviceTensor
from tritonpy.worker.python.dlpack import Memory


class Owner:
    """Keeps the memory."""


def made(datatype: DataType = "FP32", shape: tuple[int, ...] = (2, 3)) -> DeviceTensor:
    return DeviceTensor(0x7000, 1, datatype, shape, Owner())


@pytest.mark.parametrize(
    "datatype",
    ["BOOL", "UINT8", "UINT64", "INT16", "INT32", "FP16", "FP32", "FP64", "BF16"],
)
def test_a_capsule_lends_the_memory_as_it_is(datatype: DataType) -> None:
    memory = Memory(made(datatype).__dlpack__(stream=2))
    assert memory.device == (2, 1) == made().__dlpack_device__()
    assert (memory.address, memory.datatype, memory.shape) == (0x7000, datatype, (2, 3))


def test_the_memory_is_kept_until_the_borrower_is_done() -> None:
    tensor = made()
    owner = weakref.ref(tensor.owner)
    memory = Memory(tensor.__dlpack__())
    del tensor
    gc.collect()
    assert owner() is not None
    del memory
    gc.collect()
    assert owner() is None
    assert device_tensor._lent == {}


def test_a_capsule_that_nobody_takes_gives_the_memory_back() -> None:
    capsule = made().__dlpack__()
    assert len(device_tensor._lent) == 1
    del capsule
    gc.collect()
    assert device_tensor._lent == {}


def test_a_scalar_and_a_tensor_without_elements_are_lent_too() -> None:
    assert Memory(made(shape=()).__dlpack__()).shape == ()
    assert Memory(made(shape=(0, 4)).__dlpack__()).byte_size == 0


def test_it_has_what_is_asked_of_arrays_on_the_way() -> None:
    tensor = made()
    assert (tensor.ndim, tensor.size, tensor.nbytes) == (2, 6, 24)
    reshaped = tensor.reshape((3, 2))
    assert (reshaped.shape, reshaped.address) == ((3, 2), 0x7000)
    assert reshaped.owner is tensor.owner
    with pytest.raises(ValueError, match="cannot reshape"):
        tensor.reshape((4,))
    assert repr(tensor) == "<DeviceTensor FP32 [2, 3] on GPU 1>"
