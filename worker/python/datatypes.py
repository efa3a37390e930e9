"""Triton's data types as models name them: by number, by numpy type, by configuration name."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ipc.dtypes import DATATYPES, DataType

#: Triton numbers its data types from 1, in the order of the protocol's names.
NUMBER: dict[DataType, int] = {name: number for number, name in enumerate(DATATYPES, start=1)}

_NUMPY_TYPE: dict[int, type[Any]] = {
    NUMBER["BOOL"]: np.bool_,
    NUMBER["UINT8"]: np.uint8,
    NUMBER["UINT16"]: np.uint16,
    NUMBER["UINT32"]: np.uint32,
    NUMBER["UINT64"]: np.uint64,
    NUMBER["INT8"]: np.int8,
    NUMBER["INT16"]: np.int16,
    NUMBER["INT32"]: np.int32,
    NUMBER["INT64"]: np.int64,
    NUMBER["FP16"]: np.float16,
    NUMBER["FP32"]: np.float32,
    NUMBER["FP64"]: np.float64,
    NUMBER["BYTES"]: np.object_,
}

#: The numpy type of each data type of a configuration. BF16 has none.
TRITON_STRING_TO_NUMPY: dict[str, type[Any]] = {
    "TYPE_STRING" if name == "BYTES" else f"TYPE_{name}": _NUMPY_TYPE[number]
    for name, number in NUMBER.items()
    if number in _NUMPY_TYPE
}
TRITON_STRING_TO_NUMPY["TYPE_BOOL"] = bool  # Triton says the built-in type here, and only here


def triton_to_numpy_type(data_type: int) -> type[Any] | None:
    """The numpy type of a data type's number; None for numbers without one (BF16)."""
    return _NUMPY_TYPE.get(data_type)


def numpy_to_triton_type(data_type: Any) -> int | None:
    """The number of a numpy type or dtype; None where Triton has none."""
    for number, numpy_type in _NUMPY_TYPE.items():
        if data_type == numpy_type:
            return number
    return NUMBER["BYTES"] if data_type == np.bytes_ else None


def triton_string_to_numpy(triton_type_string: str) -> type[Any]:
    """The numpy type of a configuration's data type. Raises KeyError for TYPE_BF16."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]
