"""BYTES tensors in the protocol's own framing, for models that handle it themselves."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ...ipc.tensor import count_bytes, decode_bytes, encode_bytes
from ..backend import Array


def serialize_byte_tensor(input_tensor: Array) -> bytes | tuple[()] | None:
    """Frame the elements of an object, bytes or text array, in row-major order.

    Returns an empty tuple for an empty array and None for an array of numbers, as Triton does.
    """
    if input_tensor.size == 0:
        return ()
    if input_tensor.dtype.kind not in "OSU":
        return None
    return encode_bytes(input_tensor.ravel().tolist())


def deserialize_bytes_tensor(encoded_tensor: bytes | memoryview) -> npt.NDArray[Any]:
    """Unframe elements into a flat object array of bytes.

    Raises ValueError when the last element is cut off.
    """
    view = memoryview(encoded_tensor).cast("B")
    return decode_bytes(view, count_bytes(view))
