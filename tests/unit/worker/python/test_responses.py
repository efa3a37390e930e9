"""Tests for tritonpy.worker.python.responses."""

from __future__ import annotations

import numpy as np
import pytest

from tritonpy.worker.python.errors import TritonError, TritonModelException
from tritonpy.worker.python.responses import InferenceResponse, get_output_tensor_by_name
from tritonpy.worker.python.tensors import Tensor

OUT = Tensor("OUT", np.zeros(1))


def test_a_response_holds_tensors_and_parameters() -> None:
    response = InferenceResponse([OUT], parameters={"k": 1})

    assert response.output_tensors() == [OUT]
    assert not response.has_error()
    assert response.error() is None
    assert response.parameters() == '{"k": 1}'


def test_an_empty_response_is_possible() -> None:
    assert InferenceResponse().output_tensors() == []
    assert InferenceResponse().parameters() == "{}"


def test_a_response_holds_an_error() -> None:
    error = TritonError("no")
    response = InferenceResponse(output_tensors=[], error=error)

    assert response.has_error()
    assert response.error() is error


def test_a_missing_tensor_is_refused() -> None:
    with pytest.raises(
        TritonModelException,
        match=r"^Output tensor for inference response should not be empty\.$",
    ):
        InferenceResponse([OUT, None])  # type: ignore[list-item]


def test_something_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match="expects a list of Tensor objects, got ndarray in it"):
        InferenceResponse([np.zeros(1)])  # type: ignore[list-item]


def test_an_error_that_is_no_triton_error_is_refused() -> None:
    with pytest.raises(TypeError, match="error to be a TritonError, got str"):
        InferenceResponse(error="no")  # type: ignore[arg-type]


def test_a_parameter_of_another_type_is_refused() -> None:
    with pytest.raises(TritonModelException, match="found type <class 'float'>"):
        InferenceResponse(parameters={"k": 1.5})  # type: ignore[dict-item]


def test_outputs_are_found_by_name() -> None:
    response = InferenceResponse([OUT])

    assert get_output_tensor_by_name(response, "OUT") is OUT
    assert get_output_tensor_by_name(response, "IN") is None
