"""Tests for tritonpy.worker.python.tensors and the DLPack capsules beneath it."""

from __future__ import annotations

import ctypes
import gc
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tritonpy.worker.device_tensor import DeviceTensor
from tritonpy.worker.python import cuda_driver, dlpack
from tritonpy.worker.python.errors import TritonModelException
from tritonpy.worker.python.tensors import Tensor, device_array, host_array, wrap

NUMBERS = [
    np.bool_,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.float16,
    np.float32,
    np.float64,
]


class Foreign:
    """A tensor of another library, somewhere."""

    def __init__(self, capsule: Any, device: tuple[int, int]) -> None:
        self.capsule = capsule
        self.device = device
        self.stream: Any = "unasked"

    def __dlpack__(self, stream: Any = None) -> Any:
        self.stream = stream
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


def edited(capsule: Any, **fields: int) -> Any:
    """The capsule, with fields of its tensor overwritten."""
    tensor = dlpack._managed_tensor(capsule)[1].dl_tensor
    for name, value in fields.items():
        setattr(tensor, name, value)
    return capsule


def test_a_tensor_wraps_its_array_without_copying() -> None:
    array = np.zeros((2, 3), np.float32)
    tensor = Tensor("IN", array)

    assert tensor.name() == "IN"
    assert tensor.as_numpy() is array
    assert tensor.shape() == [2, 3]
    assert tensor.triton_dtype() == 11
    assert tensor.is_cpu()


def test_a_scalar_has_no_dimensions() -> None:
    assert Tensor("IN", np.array(1.0)).shape() == []


def test_an_array_that_is_not_row_major_is_copied() -> None:
    array = np.arange(6).reshape(2, 3).T
    tensor = Tensor("IN", array)

    assert tensor.as_numpy().flags.c_contiguous
    np.testing.assert_array_equal(tensor.as_numpy(), array)


def test_an_array_of_the_other_byte_order_is_converted() -> None:
    tensor = Tensor("IN", np.array([1.0, 2.0], ">f4"))

    assert tensor.as_numpy().dtype == np.float32
    assert tensor.as_numpy().tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "array", [np.array([b"a", "b"], object), np.array([b"ab"]), np.array(["ab"])]
)
def test_bytes_and_text_arrays_are_bytes_tensors(array: Any) -> None:
    assert Tensor("IN", array).triton_dtype() == 13
    assert host_array(Tensor("IN", array)) is array


def test_a_bf16_array_is_sent_and_not_shown_as_numpy() -> None:
    array = np.ones(2, ml_dtypes.bfloat16)
    tensor = Tensor("IN", array)

    assert tensor.triton_dtype() == 14
    assert host_array(tensor) is array
    with pytest.raises(
        TritonModelException,
        match=(
            r"^Tensor dtype is BF16 and cannot be converted to NumPy. Use to_dlpack\(\) and "
            r"from_dlpack\(\) instead\.$"
        ),
    ):
        tensor.as_numpy()


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(TritonModelException, match=r"^Tensor name cannot be an empty string\.$"):
        Tensor("", np.zeros(1))
    with pytest.raises(TritonModelException, match=r"^Tensor name cannot be an empty string\.$"):
        Tensor.from_dlpack("", np.zeros(1))


def test_a_name_that_is_not_text_is_refused() -> None:
    with pytest.raises(TypeError, match="name to be str, got int"):
        Tensor(1, np.zeros(1))  # type: ignore[arg-type]


def test_a_dtype_without_a_triton_datatype_is_refused() -> None:
    with pytest.raises(TritonModelException, match=r"^NumPy dtype is not supported\..*complex128"):
        Tensor("IN", np.zeros(1, complex))


def test_something_that_is_no_array_is_refused() -> None:
    with pytest.raises(TypeError, match="Tensor 'IN' expects a numpy array, got list"):
        Tensor("IN", [1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize("numpy_type", NUMBERS)
def test_numbers_travel_through_dlpack_without_copying(numpy_type: type[Any]) -> None:
    array = np.array([[0, 1], [1, 0]], numpy_type)
    taken = Tensor.from_dlpack("OUT", Tensor("IN", array))

    assert taken.as_numpy().dtype == array.dtype
    np.testing.assert_array_equal(taken.as_numpy(), array)
    assert np.shares_memory(taken.as_numpy(), array)


def test_bf16_travels_through_dlpack_without_copying() -> None:
    array = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    taken = Tensor.from_dlpack("OUT", Tensor("IN", array).to_dlpack())

    assert taken.triton_dtype() == 14
    assert host_array(taken).tolist() == [1.5, -2.0]
    assert host_array(taken).dtype == ml_dtypes.bfloat16
    assert np.shares_memory(host_array(taken).view(np.uint16), array.view(np.uint16))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 4, 1)])
def test_unusual_shapes_travel_through_dlpack(shape: tuple[int, ...]) -> None:
    taken = Tensor.from_dlpack("OUT", np.ones(shape, np.int32))

    assert taken.shape() == list(shape)
    np.testing.assert_array_equal(taken.as_numpy(), np.ones(shape, np.int32))


def test_a_read_only_array_is_copied_into_its_capsule() -> None:
    array = np.frombuffer(b"abc", np.uint8)
    taken = Tensor.from_dlpack("OUT", Tensor("IN", array).to_dlpack())

    assert taken.as_numpy().tobytes() == b"abc"
    assert not np.shares_memory(taken.as_numpy(), array)


def test_numpy_reads_a_tensor_through_dlpack() -> None:
    array = np.arange(3.0)

    assert np.shares_memory(np.from_dlpack(Tensor("IN", array)), array)
    assert Tensor("IN", array).__dlpack_device__() == (1, 0)


def test_lent_memory_is_given_back_with_the_last_array_on_it() -> None:
    class Lender(np.ndarray[Any, Any]):
        pass

    array = np.zeros(4).view(Lender)
    gone = weakref.ref(array)
    seen = Tensor.from_dlpack("OUT", array).as_numpy()[1:]
    del array
    gc.collect()
    assert gone() is not None

    del seen
    gc.collect()
    assert gone() is None


def test_a_capsule_can_be_taken_once() -> None:
    capsule = Tensor("IN", np.zeros(2)).to_dlpack()
    Tensor.from_dlpack("OUT", capsule)

    with pytest.raises(TritonModelException, match="holds no tensor that could be taken"):
        Tensor.from_dlpack("OUT", capsule)


def test_bytes_have_no_dlpack() -> None:
    with pytest.raises(
        TritonModelException, match=r"^DLPack does not have support for string tensors\.$"
    ):
        Tensor("IN", np.array([b"a"], object)).to_dlpack()


def test_a_dlpack_tensor_that_is_not_row_major_is_refused_and_left_alone() -> None:
    capsule = np.arange(6).reshape(2, 3).T.__dlpack__()

    with pytest.raises(
        TritonModelException,
        match=(
            "^DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored in "
            r"C-Order are supported\.$"
        ),
    ):
        Tensor.from_dlpack("OUT", capsule)
    assert np.from_dlpack(read_by_numpy(capsule)).shape == (3, 2)


def read_by_numpy(capsule: Any) -> Any:
    class AsNumpyAsks(Foreign):
        def __dlpack__(self, stream: Any = None, **_: Any) -> Any:
            return self.capsule

    return AsNumpyAsks(capsule, (1, 0))


def test_memory_of_an_unknown_device_is_refused() -> None:
    message = r"^DLDevice type 7 is not support by Python backend\.$"
    with pytest.raises(TritonModelException, match=message):
        Tensor.from_dlpack("OUT", Foreign(None, (7, 0)))
    with pytest.raises(TritonModelException, match=message):
        Tensor.from_dlpack("OUT", edited(np.zeros(1).__dlpack__(), device_type=7))


def test_an_object_without_dlpack_is_refused() -> None:
    with pytest.raises(
        TritonModelException, match=r"^Provided tensor is not supported. Tensor must be a DLPack"
    ):
        Tensor.from_dlpack("OUT", [1, 2])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"code": 4, "bits": 32}, "^Expected BF16 tensor to have 16 bits, but had: 32$"),
        ({"code": 5}, "code 5 with 64 bits and 1 lane"),
        ({"lanes": 4}, "and 4 lane"),
    ],
)
def test_an_unknown_data_type_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(TritonModelException, match=message):
        Tensor.from_dlpack("OUT", edited(np.zeros(1).__dlpack__(), **fields))


def test_pinned_host_memory_is_host_memory() -> None:
    foreign = Foreign(edited(np.ones(2).__dlpack__(), device_type=3), (3, 0))
    taken = Tensor.from_dlpack("OUT", foreign)

    assert taken.is_cpu()
    assert taken.as_numpy().tolist() == [1.0, 1.0]
    assert foreign.stream is None


def test_a_tensor_on_a_gpu_is_copied_to_the_host_when_it_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copies: list[tuple[int, int]] = []

    def copy(target: int, source: int, size: int, device: int) -> None:
        copies.append((size, device))
        ctypes.memmove(target, source, size)

    monkeypatch.setattr(cuda_driver, "_copy", copy)
    capsule = edited(np.arange(3, dtype=np.int64).__dlpack__(), device_type=2, device_id=1)
    foreign = Foreign(capsule, (2, 1))
    taken = Tensor.from_dlpack("OUT", foreign)

    assert foreign.stream == 1
    assert not taken.is_cpu()
    assert taken.shape() == [3]
    assert taken.triton_dtype() == 9
    assert taken.__dlpack_device__() == (2, 1)
    assert host_array(taken).tolist() == [0, 1, 2]
    assert copies == [(24, 1)]


def test_a_tensor_on_a_gpu_is_neither_numpy_nor_lent_again() -> None:
    taken = Tensor.from_dlpack("OUT", edited(np.zeros(1).__dlpack__(), device_type=2, device_id=0))

    with pytest.raises(
        TritonModelException,
        match=r"^Tensor is stored in GPU and cannot be converted to NumPy\.$",
    ):
        taken.as_numpy()
    with pytest.raises(TritonModelException, match="convert that library's own tensor"):
        taken.to_dlpack()


def test_torch_tensors_travel_both_ways_without_copying() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16, torch.bool, torch.float16, torch.int64):
        original = torch.ones(2, 3, dtype=dtype)
        taken = Tensor.from_dlpack("OUT", original)
        back = torch.from_dlpack(taken)

        assert back.dtype == dtype
        assert torch.equal(back, original)
        assert back.data_ptr() == original.data_ptr()
        capsule = torch.utils.dlpack.to_dlpack(original)
        assert Tensor.from_dlpack("OUT", capsule).shape() == [2, 3]
        assert torch.equal(torch.utils.dlpack.from_dlpack(taken.to_dlpack()), original)


def test_a_wrapped_input_is_a_tensor_like_any_other() -> None:
    array = np.zeros(2, np.int8)
    tensor = wrap("IN", array)

    assert tensor.as_numpy() is array
    assert repr(tensor) == "Tensor('IN', INT8, [2])"


# --- clients' memory on a GPU ---------------------------------------------------------------------


def clients_tensor() -> Tensor:
    return wrap("IN", DeviceTensor(0x7000, 1, "BF16", (2, 3), object()))


def test_a_clients_tensor_on_a_gpu_says_so_and_is_lent_by_dlpack() -> None:
    tensor = clients_tensor()
    assert not tensor.is_cpu()
    assert tensor.__dlpack_device__() == (2, 1)
    assert (tensor.shape(), tensor.triton_dtype()) == ([2, 3], 14)
    with pytest.raises(TritonModelException, match="stored in GPU and cannot be converted"):
        tensor.as_numpy()
    taken = dlpack.Memory(tensor.to_dlpack())
    assert (taken.address, taken.device, taken.datatype) == (0x7000, (2, 1), "BF16")


def test_an_output_that_is_wanted_on_the_gpu_is_left_there() -> None:
    returned = Tensor.from_dlpack("OUT", clients_tensor())
    for tensor in (returned, clients_tensor()):
        left: object = device_array(tensor)
        assert isinstance(left, DeviceTensor)
        assert (left.address, left.device, left.shape) == (0x7000, 1, (2, 3))
    array = np.zeros(2, np.float32)
    assert device_array(Tensor("OUT", array)) is array


def test_a_name_may_be_given_as_utf_8() -> None:
    name: Any = "é".encode()

    assert Tensor(name, np.zeros(1)).name() == "é"
    assert Tensor.from_dlpack(name, np.zeros(1)).name() == "é"
