"""A tensor in a GPU's memory, on its way from a client's region to a backend or back.

It stands where other tensors are numpy arrays, and has what is asked of those on the way: shape,
dimensions, reshape. Frameworks take it by DLPack, without a copy.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, cast

from ..ipc.dtypes import DataType, numpy_dtype
from .backend import Array
from .dlpack_layout import BFLOAT, BOOL, CUDA, FLOAT, FRESH, INT, UINT, Deleter, DLManagedTensor

#: DLPack's codes of elements by numpy's kinds; BF16 is of kind V.
_CODES = {"i": INT, "u": UINT, "f": FLOAT, "V": BFLOAT, "b": BOOL}


class DeviceTensor:
    """`address` is the device's, `device` as this worker counts; `owner` keeps the memory open."""

    def __init__(
        self,
        address: int,
        device: int,
        datatype: DataType,
        shape: tuple[int, ...],
        owner: object,
    ) -> None:
        self.address = address
        self.device = device
        self.datatype: DataType = datatype
        self.shape = shape
        self.dtype = numpy_dtype(datatype)
        self.owner = owner

    def __repr__(self) -> str:
        return f"<DeviceTensor {self.datatype} {list(self.shape)} on GPU {self.device}>"

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size * self.dtype.itemsize

    def reshape(self, shape: tuple[int, ...]) -> DeviceTensor:
        """The same elements in another shape. Raises ValueError when it has not as many."""
        if math.prod(shape) != self.size:
            raise ValueError(f"cannot reshape {list(self.shape)} into {list(shape)}")
        return DeviceTensor(self.address, self.device, self.datatype, shape, self.owner)

    def __dlpack__(self, stream: object = None, **_newer: object) -> Any:
        """A capsule that lends the memory; what the client wrote is complete on every stream."""
        return _capsule(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device


def as_array(tensor: DeviceTensor) -> Array:
    """The tensor where arrays are expected, by those who know the difference."""
    return cast("Array", tensor)


# --- capsules -------------------------------------------------------------------------------------

#: What capsules point to, by its address, until its deleter is called.
_lent: dict[int, tuple[DLManagedTensor, Any, DeviceTensor]] = {}

_new = ctypes.pythonapi.PyCapsule_New
_new.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_new.restype = ctypes.py_object
_raw_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_raw_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _delete(managed: int) -> None:
    _lent.pop(managed, None)


def _capsule_dropped(capsule: int) -> None:
    """Of a capsule that nobody took over; it is half gone, and may be touched by address only."""
    if _raw_is_valid(capsule, FRESH):
        _lent.pop(_raw_pointer_of(capsule, FRESH), None)


_deleter = Deleter(_delete)
_destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_capsule_dropped)


def _capsule(tensor: DeviceTensor) -> Any:
    shape = (ctypes.c_int64 * tensor.ndim)(*tensor.shape)
    managed = DLManagedTensor()
    lent = managed.dl_tensor
    lent.data = tensor.address
    lent.device_type, lent.device_id = CUDA, tensor.device
    lent.ndim = tensor.ndim
    lent.code = _CODES[tensor.dtype.kind]
    lent.bits = tensor.dtype.itemsize * 8
    lent.lanes = 1
    lent.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = _deleter
    address = ctypes.addressof(managed)
    _lent[address] = managed, shape, tensor
    return _new(address, FRESH, ctypes.cast(_destructor, ctypes.c_void_p))
