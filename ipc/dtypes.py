"""Triton's data types: protocol names, element sizes and numpy kinds."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

DataType = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
    "BF16",
]
"""A data type as the protocol writes it."""

DATATYPES: tuple[DataType, ...] = get_args(DataType)

_BY_NAME: dict[str, DataType] = {name: name for name in DATATYPES}

#: Bytes of one element. BYTES is absent: its elements carry their own length.
ELEMENT_SIZE: dict[str, int] = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
    "BF16": 2,
}

#: numpy's dtype of each data type but BF16, which numpy itself does not know.
_NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}

_FROM_NUMPY: dict[np.dtype[Any], DataType] = {
    dtype: _BY_NAME[name] for name, dtype in _NUMPY.items()
}


def numpy_dtype(datatype: str) -> np.dtype[Any]:
    """The numpy dtype that holds this data type; BYTES is object, BF16 comes from ml_dtypes."""
    found = _NUMPY.get(datatype)
    if found is None:
        if datatype != "BF16":
            raise ValueError(f"unknown datatype '{datatype}'")
        import ml_dtypes  # not needed by most models, and not free to import

        found = _NUMPY["BF16"] = np.dtype(ml_dtypes.bfloat16)
        _FROM_NUMPY[found] = "BF16"
    return found


def from_numpy(dtype: np.dtype[Any]) -> DataType:
    """The data type of a numpy array; text and bytes arrays of any width are BYTES.

    Raises ValueError for a dtype that the protocol cannot carry (complex, datetime, ...).
    """
    found = _FROM_NUMPY.get(dtype)
    if found is not None:
        return found
    if dtype.kind in "SU":
        return "BYTES"
    if dtype.name == "bfloat16":
        return "BF16"
    native = dtype.newbyteorder("=")
    if native in _FROM_NUMPY:
        return _FROM_NUMPY[native]
    raise ValueError(f"a numpy array of dtype {dtype} has no Triton datatype")


def from_config(data_type: str) -> DataType:
    """The protocol's name of a configuration's data type: TYPE_STRING is BYTES, TYPE_FP32 is FP32.

    Raises ValueError when the configuration left the type out or invented one.
    """
    name = "BYTES" if data_type == "TYPE_STRING" else data_type.removeprefix("TYPE_")
    found = _BY_NAME.get(name)
    if found is None:
        raise ValueError(f"'{data_type}' is not a data type of a model configuration")
    return found


def to_config(datatype: str) -> str:
    """The configuration's name of a protocol data type: BYTES is TYPE_STRING."""
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
