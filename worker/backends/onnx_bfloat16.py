"""BF16 tensors of ONNX Runtime, whose numpy interface does not know them.

They go in as values made from their bits, and come out as values whose memory is read. A graph that
takes strings as well cannot be run on values, because none can be made of strings; there, each BF16
output gets a companion in FP32, which holds the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import numpy as np

from ...ipc.dtypes import numpy_dtype
from ..backend import Array

_ort: Any = import_module("onnxruntime")

_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16
_FLOAT = 1  # onnx.TensorProto.FLOAT


def to_value(array: Array) -> Any:
    """The array as a value of ONNX Runtime; BF16 by its bits."""
    if array.dtype == numpy_dtype("BF16"):
        bits = np.asarray(array, order="C").view(np.uint16)
        return _ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _BFLOAT16)
    return _ort.OrtValue.ortvalue_from_numpy(array)


def from_value(value: Any) -> Array:
    """A value of ONNX Runtime as an array, which keeps a BF16 value alive."""
    if value.data_type() == "tensor(bfloat16)":
        return np.asarray(_Bits(value)).view(numpy_dtype("BF16"))
    array: Array = value.numpy()
    return array


class _Bits:
    """The memory of a BF16 value as numpy may see it; keeps the value alive as the array's base."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.__array_interface__ = {
            "version": 3,
            "typestr": "<u2",
            "shape": tuple(value.shape()),
            "data": (value.data_ptr(), False),
        }


# --- companions -----------------------------------------------------------------------------------


def companion(name: str) -> str:
    """What the FP32 companion of an output is called."""
    return f"{name}:as_fp32"


def with_companions(graph: bytes, names: Iterable[str]) -> bytes:
    """A serialized ONNX model in which these outputs have companions.

    What follows a protobuf message is merged into it: the graph gets more nodes and outputs.
    """
    return graph + b"".join(_cast(name.encode(), companion(name).encode()) for name in names)


def _cast(source: bytes, target: bytes) -> bytes:
    """ModelProto { graph { node { a Cast to FP32 } output { target } } }."""
    to = _field(1, b"to") + _number(3, _FLOAT) + _number(20, 2)  # name, i, type INT
    node = _field(1, source) + _field(2, target) + _field(4, b"Cast") + _field(5, to)
    output = _field(1, target) + _field(2, _field(1, _number(1, _FLOAT)))
    return _field(7, _field(1, node) + _field(12, output))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
