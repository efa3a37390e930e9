"""Tests for tritonpy.worker.python.datatypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tritonpy.worker.python.datatypes import (
    numpy_to_triton_type,
    triton_string_to_numpy,
    triton_to_numpy_type,
)

NUMBERS: list[tuple[int, type[Any], str]] = [
    (1, np.bool_, "TYPE_BOOL"),
    (2, np.uint8, "TYPE_UINT8"),
    (3, np.uint16, "TYPE_UINT16"),
    (4, np.uint32, "TYPE_UINT32"),
    (5, np.uint64, "TYPE_UINT64"),
    (6, np.int8, "TYPE_INT8"),
    (7, np.int16, "TYPE_INT16"),
    (8, np.int32, "TYPE_INT32"),
    (9, np.int64, "TYPE_INT64"),
    (10, np.float16, "TYPE_FP16"),
    (11, np.float32, "TYPE_FP32"),
    (12, np.float64, "TYPE_FP64"),
    (13, np.object_, "TYPE_STRING"),
]


@pytest.mark.parametrize(("number", "numpy_type", "name"), NUMBERS)
def test_numbers_names_and_numpy_types_agree(number: int, numpy_type: type[Any], name: str) -> None:
    assert triton_to_numpy_type(number) is numpy_type
    assert numpy_to_triton_type(numpy_type) == number
    assert numpy_to_triton_type(np.dtype(numpy_type)) == number
    assert np.dtype(triton_string_to_numpy(name)) == np.dtype(numpy_type)


def test_bytes_are_strings_too() -> None:
    assert numpy_to_triton_type(np.bytes_) == 13


def test_what_triton_has_no_type_for_has_no_number() -> None:
    assert numpy_to_triton_type(np.complex64) is None
    assert triton_to_numpy_type(14) is None


def test_bf16_has_no_numpy_type() -> None:
    with pytest.raises(KeyError):
        triton_string_to_numpy("TYPE_BF16")
