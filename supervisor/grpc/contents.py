"""Tensors whose elements were sent as typed contents: checked, and packed into raw bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...ipc.dtypes import DATATYPES, numpy_dtype
from ...ipc.errors import InvalidArgumentError
from ...ipc.tensor import encode_bytes
from ...proto import grpc_service_pb2 as pb

#: Of each contents field: the data types that it serves, the last one giving the field its name in
#: messages, and the numpy dtype that holds what the field can hold.
_FIELDS: dict[str, tuple[tuple[str, ...], str]] = {
    "bool_contents": (("BOOL",), "?"),
    "int_contents": (("INT8", "INT16", "INT32"), "<i4"),
    "int64_contents": (("INT64",), "<i8"),
    "uint_contents": (("UINT8", "UINT16", "UINT32"), "<u4"),
    "uint64_contents": (("UINT64",), "<u8"),
    "fp32_contents": (("FP32",), "<f4"),
    "fp64_contents": (("FP64",), "<f8"),
    "bytes_contents": (("BYTES",), ""),
}


def pack_contents(model: str, tensor: pb.ModelInferRequest.InferInputTensor) -> memoryview:
    """The bytes of a tensor that was sent element by element.

    Raises InvalidArgumentError when the elements are not in the field of the tensor's datatype.
    """
    data: memoryview | None = None
    for field, values in tensor.contents.ListFields():
        datatypes, wide = _FIELDS[field.name]
        if data is not None:
            raise InvalidArgumentError(
                f"unexpected explicit tensor data for input tensor '{tensor.name}' "
                f"for model '{model}', binary data was already supplied."
            )
        if tensor.datatype not in datatypes:
            expected = tensor.datatype if tensor.datatype in DATATYPES else "<invalid>"
            raise InvalidArgumentError(
                f"unexpected explicit tensor data for input tensor '{tensor.name}' for model "
                f"'{model}' of type '{datatypes[-1]}', expected datatype '{expected}'"
            )
        data = _pack(values, tensor.datatype, wide)
    return memoryview(b"") if data is None else data


def _pack(values: Sequence[Any], datatype: str, wide: str) -> memoryview:
    if datatype == "BYTES":
        return memoryview(encode_bytes(values))
    array = np.fromiter(values, np.dtype(wide), len(values))
    # Narrower integers share a field; what does not fit is cut off as a C cast would.
    array = array.astype(numpy_dtype(datatype), copy=False)
    return array.view(np.uint8).data
