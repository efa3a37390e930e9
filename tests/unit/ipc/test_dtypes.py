"""Protocol names, configuration names and numpy dtypes say the same."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tritonpy.ipc.dtypes import (
    DATATYPES,
    ELEMENT_SIZE,
    from_config,
    from_numpy,
    numpy_dtype,
    to_config,
)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_has_a_dtype_and_the_way_back(datatype: str) -> None:
    assert from_numpy(numpy_dtype(datatype)) == datatype


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_has_a_name_in_configurations(datatype: str) -> None:
    assert from_config(to_config(datatype)) == datatype


@pytest.mark.parametrize("datatype", sorted(ELEMENT_SIZE))
def test_element_sizes_are_those_of_the_dtypes(datatype: str) -> None:
    assert numpy_dtype(datatype).itemsize == ELEMENT_SIZE[datatype]


def test_only_text_has_no_element_size() -> None:
    assert set(DATATYPES) - set(ELEMENT_SIZE) == {"BYTES"}


@pytest.mark.parametrize("dtype", ["S", "S5", "U", "U7", "O"])
def test_text_of_any_width_is_bytes(dtype: str) -> None:
    assert from_numpy(np.dtype(dtype)) == "BYTES"


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">u2"])
def test_the_byte_order_does_not_change_the_datatype(dtype: str) -> None:
    assert from_numpy(np.dtype(dtype)) == from_numpy(np.dtype(dtype).newbyteorder("="))


def test_bf16_is_the_dtype_of_ml_dtypes() -> None:
    assert numpy_dtype("BF16") == ml_dtypes.bfloat16
    assert from_numpy(np.dtype(ml_dtypes.bfloat16)) == "BF16"


@pytest.mark.parametrize("dtype", [np.complex64, "M8[s]", ml_dtypes.float8_e4m3])
def test_a_dtype_that_the_protocol_cannot_carry_is_refused(dtype: Any) -> None:
    with pytest.raises(ValueError, match="has no Triton datatype"):
        from_numpy(np.dtype(dtype))


@pytest.mark.parametrize("name", ["FP8", "fp32", "STRING", "TYPE_FP32", ""])
def test_an_unknown_datatype_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown datatype '{name}'"):
        numpy_dtype(name)


@pytest.mark.parametrize("name", ["TYPE_INVALID", "TYPE_FP8", ""])
def test_an_unknown_configuration_type_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a data type of a model configuration"):
        from_config(name)
