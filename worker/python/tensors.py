"""A tensor as models see it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ipc.dtypes import DataType, from_numpy
from ...ipc.errors import StatusError
from ..backend import Array
from ..cuda_regions import on_host
from ..deferred import Deferred
from ..device_tensor import DeviceTensor, as_array
from ..dlpack_layout import CPU, CUDA
from . import dlpack
from .cuda_driver import copied_to_host
from .datatypes import NUMBER
from .errors import TritonModelException
from .text import as_text

#: What is held of a tensor that lies on a GPU.
_ON_GPU = (dlpack.Memory, DeviceTensor)


class Tensor:
    """A named array of a request or a response, in host memory or on a GPU.

    The array of an input is the server's shared memory itself: it may be written to, and it is
    valid only until the request has been answered for the last time. A model that keeps an input
    for longer must copy it.
    """

    __slots__ = ("_held", "_name")

    #: An array where the tensor lies in host memory, or will when somebody looks; else the memory
    #: of a GPU: another library's, or a client's.
    _held: Array | Deferred | dlpack.Memory | DeviceTensor
    _name: str

    def __init__(self, name: str, array: Array) -> None:
        """Wrap an array without copying it, unless it is not row-major or not native-endian.

        Raises TritonModelException for an empty name and for an array that Triton has no data
        type for.
        """
        name = _checked_name(name)
        if not isinstance(array, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"Tensor '{name}' expects a numpy array, got {type(array).__name__}; "
                "see Tensor.from_dlpack for the tensors of other libraries"
            )
        try:
            from_numpy(array.dtype)
        except ValueError:
            raise TritonModelException(
                f"NumPy dtype is not supported. Tensor '{name}' has dtype {array.dtype}."
            ) from None
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        self._name = name
        self._held = array

    def __repr__(self) -> str:
        return f"Tensor({self._name!r}, {self._datatype}, {self.shape()})"

    def name(self) -> str:
        """The name of the tensor."""
        return self._name

    def as_numpy(self) -> Array:
        """The array itself; BYTES are an object array of bytes.

        Raises TritonModelException for a tensor on a GPU, and for BF16, which numpy lacks.
        """
        held = self._held
        if isinstance(held, _ON_GPU):
            raise TritonModelException("Tensor is stored in GPU and cannot be converted to NumPy.")
        if held.dtype.kind == "V":
            raise TritonModelException(
                "Tensor dtype is BF16 and cannot be converted to NumPy. Use to_dlpack() and "
                "from_dlpack() instead."
            )
        return _array(self)

    def triton_dtype(self) -> int:
        """The number of the data type."""
        return NUMBER[self._datatype]

    def shape(self) -> list[int]:
        """The shape, batch dimension included."""
        return list(self._held.shape)

    def is_cpu(self) -> bool:
        """Whether the tensor lies in host memory."""
        return not isinstance(self._held, _ON_GPU)

    def to_dlpack(self) -> Any:
        """A DLPack capsule that lends the tensor's memory.

        Raises TritonModelException for BYTES, and for memory that another library lent us on a GPU.
        """
        held = self._held
        if isinstance(held, dlpack.Memory):
            raise TritonModelException(
                f"Tensor '{self._name}' is stored in GPU and was lent by another library: "
                "convert that library's own tensor."
            )
        if isinstance(held, DeviceTensor):
            return held.__dlpack__()
        if self._datatype == "BYTES":
            raise TritonModelException("DLPack does not have support for string tensors.")
        return dlpack.exported(_array(self), self._datatype)

    def __dlpack__(self, stream: object = None) -> Any:
        return self.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        held = self._held
        if isinstance(held, DeviceTensor):
            return held.__dlpack_device__()
        return held.device if isinstance(held, dlpack.Memory) else (CPU, 0)

    @staticmethod
    def from_dlpack(name: str, tensor: object) -> Tensor:
        """Wrap another library's tensor, or its DLPack capsule, without copying it.

        Raises TritonModelException for a tensor that is not row-major, or lies neither in host
        memory nor on a CUDA device.
        """
        name = _checked_name(name)
        memory = dlpack.Memory(_capsule_of(tensor))
        return wrap(name, memory if memory.device[0] == CUDA else memory.as_array())

    @property
    def _datatype(self) -> DataType:
        held = self._held
        return held.datatype if isinstance(held, _ON_GPU) else from_numpy(held.dtype)


def wrap(name: str, held: Array | Deferred | dlpack.Memory | DeviceTensor) -> Tensor:
    """A tensor of something that is known to be right: an input, or another library's memory."""
    tensor = Tensor.__new__(Tensor)
    tensor._name = name  # pyright: ignore[reportPrivateUsage]
    tensor._held = held  # pyright: ignore[reportPrivateUsage]
    return tensor


def host_array(tensor: Tensor) -> Array:
    """The tensor as an array in host memory, BF16 as ml_dtypes.bfloat16: what a worker sends."""
    held = tensor._held  # pyright: ignore[reportPrivateUsage]
    if isinstance(held, DeviceTensor):
        return on_host({tensor.name(): as_array(held)})[tensor.name()]
    return copied_to_host(held) if isinstance(held, dlpack.Memory) else _array(tensor)


def device_array(tensor: Tensor) -> Array:
    """The tensor where it is: in place of an array, a DeviceTensor of what lies on a GPU."""
    held = tensor._held  # pyright: ignore[reportPrivateUsage]
    if isinstance(held, DeviceTensor):
        return as_array(held)
    if not isinstance(held, dlpack.Memory):
        return _array(tensor)
    return as_array(DeviceTensor(held.address, held.device[1], held.datatype, held.shape, held))


def _array(tensor: Tensor) -> Array:
    """The array of a tensor that is not on a GPU; it is read from its client's memory now, if it
    was not before. Raises TritonModelException when that is gone.
    """
    held = tensor._held  # pyright: ignore[reportPrivateUsage]
    if isinstance(held, Deferred):
        try:
            held = held.array()
        except StatusError as error:
            raise TritonModelException(error.message) from None
        tensor._held = held  # pyright: ignore[reportPrivateUsage]
    assert isinstance(held, np.ndarray)
    return held


def _checked_name(name: str) -> str:
    name = as_text(name, "Tensor expects its name")
    if not name:
        raise TritonModelException("Tensor name cannot be an empty string.")
    return name


def _capsule_of(tensor: Any) -> object:
    if dlpack.is_capsule(tensor):
        return tensor
    if not hasattr(tensor, "__dlpack__") or not hasattr(tensor, "__dlpack_device__"):
        raise TritonModelException(
            "Provided tensor is not supported. Tensor must be a DLPack capsule or have "
            "`__dlpack__` and `__dlpack_device__` attributes"
        )
    device_type = tensor.__dlpack_device__()[0]
    dlpack.require_known_device(device_type)
    # On a GPU the tensor is to be ready for the default stream (1), which the copy to the host is
    # ordered on; in host memory there is no stream.
    return tensor.__dlpack__(stream=1 if device_type == CUDA else None)
