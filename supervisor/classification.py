"""The classification extension: the k best of an output, with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..ipc.dtypes import numpy_dtype
from ..ipc.errors import InternalError, InvalidArgumentError
from ..ipc.tensor import Tensor, element_count, encode_bytes, expected_byte_size

_MAX_ELEMENTS = 1_000_000

_SUPPORTED = frozenset(
    ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64")
)


def classify(tensor: Tensor, classes: int, batching: bool, labels: Sequence[str]) -> Tensor:
    """Replace scores by the best `classes` of them, as BYTES `score:index` or `score:index:label`.

    The tensor's data must be a memoryview. With `batching` the first dimension is the batch, each
    of whose rows is ranked by itself. Equal scores rank by index; a NaN ranks last. An index
    without a label, or with an empty one, stands alone. Raises InvalidArgumentError for data types
    that Triton does not rank and for rows of more than a million scores.
    """
    datatype = tensor.datatype
    if datatype not in _SUPPORTED:
        raise InvalidArgumentError(
            f"class result not available for output due to unsupported type '{datatype}'"
        )
    data = cast("memoryview", tensor.data)
    if len(data) != expected_byte_size(datatype, tensor.shape):
        raise InternalError(
            f"output '{tensor.name}' has {len(data)} bytes, which do not match its shape "
            f"[{','.join(map(str, tensor.shape))}] of {datatype}"
        )
    batch = tensor.shape[0] if batching and tensor.shape else 0
    length = element_count(tensor.shape[1:] if batch else tensor.shape)
    if length > _MAX_ELEMENTS:
        raise InvalidArgumentError("classification output tensor too large")
    count = min(classes, length)
    scores: npt.NDArray[Any] = np.frombuffer(data, numpy_dtype(datatype))
    entries: list[str] = []
    for row in scores.reshape(max(batch, 1), length):
        entries += _entries(row, count, labels)
    shape = (batch, count) if batch else (count,)
    return Tensor(tensor.name, "BYTES", shape, memoryview(encode_bytes(entries)))


def _entries(row: npt.NDArray[Any], count: int, labels: Sequence[str]) -> list[str]:
    entries: list[str] = []
    for index in _best(row, count):
        score = row[index]
        text = f"{score:.6f}" if row.dtype.kind == "f" else str(int(score))
        label = labels[index] if index < len(labels) else ""
        entries.append(f"{text}:{index}:{label}" if label else f"{text}:{index}")
    return entries


def _best(row: npt.NDArray[Any], count: int) -> list[int]:
    """The indices of the `count` highest scores, the highest first; NaN is above all of them."""
    if count == 0:
        return []
    candidates: npt.NDArray[np.intp] = np.arange(row.size)
    if count < row.size:  # most scores need not be sorted: find the lowest that counts
        lowest = np.partition(row, row.size - count)[row.size - count]
        candidates = np.flatnonzero(~(row < lowest))  # NaN is not below anything
    # A stable sort of the reversed scores, read backwards, keeps equal scores in order. It puts
    # NaN above everything, as Triton does.
    backwards = np.argsort(row[candidates][::-1], kind="stable")[::-1]
    ranked = candidates[candidates.size - 1 - backwards]
    return cast("list[int]", ranked[:count].tolist())
