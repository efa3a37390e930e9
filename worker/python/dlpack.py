"""DLPack: tensors exchanged with other libraries by pointer, through capsules.

numpy's own exporter is used on the way out, because its capsules survive the interpreter's end; it
knows neither BF16 nor, in older releases, BOOL, so these leave as integers whose type code is then
set right inside the capsule. On the way in the structure is read here: numpy takes no BF16, and
nothing at all that lies on a GPU.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, cast

import numpy as np

from ...ipc.dtypes import ELEMENT_SIZE, DataType, numpy_dtype
from ..backend import Array
from ..dlpack_layout import (
    BFLOAT,
    BOOL,
    CPU,
    CUDA,
    CUDA_HOST,
    FLOAT,
    FRESH,
    INT,
    UINT,
    USED,
    DLManagedTensor,
    DLTensor,
)
from .errors import TritonModelException

_DATATYPE: dict[tuple[int, int], DataType] = {
    (BOOL, 8): "BOOL",
    (UINT, 8): "UINT8",
    (UINT, 16): "UINT16",
    (UINT, 32): "UINT32",
    (UINT, 64): "UINT64",
    (INT, 8): "INT8",
    (INT, 16): "INT16",
    (INT, 32): "INT32",
    (INT, 64): "INT64",
    (FLOAT, 16): "FP16",
    (FLOAT, 32): "FP32",
    (FLOAT, 64): "FP64",
    (BFLOAT, 16): "BF16",
}

#: What numpy exports in place of a data type, and the code that the capsule then gets.
_STAND_IN: dict[DataType, tuple[type[Any], int]] = {
    "BF16": (np.uint16, BFLOAT),
    "BOOL": (np.uint8, BOOL),
}


_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes = (ctypes.py_object, ctypes.c_char_p)
_is_valid.restype = ctypes.c_int
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.argtypes = (ctypes.py_object, ctypes.c_char_p)
_pointer_of.restype = ctypes.c_void_p
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.argtypes = (ctypes.py_object, ctypes.c_char_p)
_rename.restype = ctypes.c_int


class Memory:
    """A tensor's memory that another library lent us; given back when this object is collected."""

    __slots__ = ("_managed", "_pointer", "address", "datatype", "device", "shape")

    def __init__(self, capsule: object) -> None:
        """Take over the capsule's tensor. A capsule that is refused stays as it was."""
        if not _is_valid(capsule, FRESH):
            raise TritonModelException(
                "The DLPack capsule holds no tensor that could be taken: it was consumed before, "
                "or it is not an unversioned DLPack tensor."
            )
        pointer, managed = _managed_tensor(capsule)
        tensor = managed.dl_tensor
        self.shape: tuple[int, ...] = tuple(tensor.shape[: tensor.ndim])
        _require_contiguous(self.shape, tensor)
        self.device: tuple[int, int] = (tensor.device_type, tensor.device_id)
        require_known_device(tensor.device_type)
        self.datatype: DataType = _datatype_of(tensor)
        self.address: int = (tensor.data or 0) + tensor.byte_offset
        _rename(capsule, USED)
        self._pointer = pointer
        self._managed = managed

    @property
    def byte_size(self) -> int:
        """How many bytes the tensor occupies."""
        return ELEMENT_SIZE[self.datatype] * math.prod(self.shape)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Host memory as numpy reads it; the array keeps this object, and so the memory, alive."""
        dtype = np.dtype(np.uint16) if self.datatype == "BF16" else numpy_dtype(self.datatype)
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": dtype.str,
            "data": (self.address, False),
        }

    def as_array(self) -> Array:
        """Host memory as an array, without copying."""
        if self.byte_size == 0:  # such a tensor may have no address
            return np.empty(self.shape, numpy_dtype(self.datatype))
        array = np.asarray(self)
        return array.view(numpy_dtype("BF16")) if self.datatype == "BF16" else array

    def __del__(self) -> None:
        managed = getattr(self, "_managed", None)  # absent when the capsule was refused
        if managed is not None and managed.deleter:
            managed.deleter(self._pointer)


def is_capsule(tensor: object) -> bool:
    """Whether this is a DLPack capsule, rather than an object that can make one."""
    return type(tensor).__name__ == "PyCapsule"


def require_known_device(device_type: int) -> None:
    """Raise TritonModelException for memory of a device that Triton does not know."""
    if device_type not in (CPU, CUDA, CUDA_HOST):
        raise TritonModelException(f"DLDevice type {device_type} is not support by Python backend.")


def exported(array: Array, datatype: DataType) -> Any:
    """A capsule that lends the memory of a row-major array in host memory, without copying it.

    A read-only array is copied first: who receives a capsule may write to it.
    """
    if not array.flags.writeable:
        array = array.copy()
    stand_in = _STAND_IN.get(datatype)
    if stand_in is None:
        return array.__dlpack__()
    numpy_type, code = stand_in
    capsule: Any = array.view(numpy_type).__dlpack__()
    _managed_tensor(capsule)[1].dl_tensor.code = code
    return capsule


def _managed_tensor(capsule: object) -> tuple[int, DLManagedTensor]:
    pointer = cast(int, _pointer_of(capsule, FRESH))
    return pointer, DLManagedTensor.from_address(pointer)


def _require_contiguous(shape: tuple[int, ...], tensor: DLTensor) -> None:
    if not tensor.strides or 0 in shape:
        return  # row-major by definition; no elements, no order
    expected = 1
    for axis in reversed(range(len(shape))):
        if shape[axis] == 1:
            continue  # the stride of a single row is never used
        if tensor.strides[axis] != expected:
            raise TritonModelException(
                "DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored "
                "in C-Order are supported."
            )
        expected *= shape[axis]


def _datatype_of(tensor: DLTensor) -> DataType:
    if tensor.code == BFLOAT and tensor.bits != 16:
        raise TritonModelException(f"Expected BF16 tensor to have 16 bits, but had: {tensor.bits}")
    datatype = _DATATYPE.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if datatype is None:
        raise TritonModelException(
            f"DLPack data type code {tensor.code} with {tensor.bits} bits and {tensor.lanes} "
            "lane(s) has no Triton data type."
        )
    return datatype
