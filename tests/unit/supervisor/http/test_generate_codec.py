"""Flat JSON of the generate extension."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tritonpy.ipc.errors import InternalError, InvalidArgumentError, StatusError
from tritonpy.ipc.messages import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START
from tritonpy.ipc.tensor import Tensor
from tritonpy.supervisor.config.schema import ModelConfig, ModelInput
from tritonpy.supervisor.http.generate_codec import decode_request, encode_response
from tritonpy.supervisor.request import InferRequest, InferResponse


def decode(
    document: Any, *dims: int, batch: int = 0, kind: str = "TYPE_INT32", limit: int = 1 << 20
) -> InferRequest:
    declared = ModelInput(name="IN", data_type=kind, dims=list(dims or (-1,)))
    config = ModelConfig(name="m", input=[declared], max_batch_size=batch)
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode_request(data, config, "m", 3, limit)


def failure(kind: type[StatusError], document: Any, *dims: int, **more: Any) -> str:
    with pytest.raises(kind) as error:
        decode(document, *dims, **more)
    return error.value.message


def test_members_are_inputs_or_parameters() -> None:
    request = decode(
        {
            "id": "7",
            "IN": [1, 2],
            "a": 1,
            "sequence_id": 5,
            "parameters": {"b": "ü", "sequence_start": True, "sequence_end": True},
        }
    )
    assert (request.model, request.version, request.id) == ("m", 3, "7")
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype, tensor.shape) == ("IN", "INT32", (2,))
    assert bytes(tensor.data) == np.array([1, 2], np.int32).tobytes()  # type: ignore[arg-type]
    assert request.parameters == {"id": "7", "a": 1, "b": "ü"}
    assert request.correlation_id == 5
    assert request.flags == FLAG_SEQUENCE_START | FLAG_SEQUENCE_END


@pytest.mark.parametrize(
    ("count", "dims", "batch", "shape"),
    [
        (1, (1,), 0, (1,)),
        (3, (-1,), 0, (3,)),
        (3, (-1,), 4, (1, 3)),
        (4, (4,), 4, (1, 4)),
        (8, (4,), 4, (2, 4)),
        (4, (2, 2), 0, (2, 2)),
        (4, (-1, 2), 0, (2, 2)),
        (4, (-1, -1), 0, (1, 4)),
        (0, (-1,), 0, (0,)),
    ],
)
def test_elements_take_the_shape_that_the_model_declares(
    count: int, dims: tuple[int, ...], batch: int, shape: tuple[int, ...]
) -> None:
    request = decode({"IN": [0] * count}, *dims, batch=batch)
    assert request.inputs[0].shape == shape


@pytest.mark.parametrize(
    ("value", "dims"),
    [([1], (2,)), ([1, 2, 3], (-1, 2)), ([1] * 8, (4,)), ([], (4,)), ([[1, 2]], (2,)), (1, (0,))],
)
def test_elements_that_fit_no_shape_are_refused(value: Any, dims: tuple[int, ...]) -> None:
    assert failure(InvalidArgumentError, {"IN": value}, *dims) == (
        "The schema can not convert input 'IN' to tensor with proper shape"
    )


def test_errors_within_parameters_say_so() -> None:
    assert failure(InvalidArgumentError, {"parameters": {"a": None}}).startswith(
        "Converting keyword: 'parameters': parameter 'a' has invalid type."
    )
    assert failure(InternalError, {"parameters": 1}) == (
        "Expected JSON object for keyword: 'parameters': "
        "attempt to access JSON non-object as object"
    )


def test_an_input_that_comes_twice_is_refused() -> None:
    document = {"id": "a", "IN": 1, "parameters": {"IN": 1}}
    assert failure(InvalidArgumentError, document) == (
        "Converting keyword: 'parameters': [request id: a] input 'IN' already exists in request"
    )


@pytest.mark.parametrize("document", [b"[1]", b"null", b'"IN"'])
def test_what_is_no_object_is_refused(document: bytes) -> None:
    assert failure(InternalError, document) == "attempt to get members for non-object"


@pytest.mark.parametrize("document", [b'{"id":"\xff"}', b'{"a":"\xff"}', b'{"\xff":1}'])
def test_text_that_is_none_is_refused(document: bytes) -> None:
    assert failure(InternalError, document).endswith("the string is not valid UTF-8")


def test_tensors_beyond_the_limit_are_refused() -> None:
    assert "maximum allowed value of 8 bytes" in failure(
        InvalidArgumentError, {"IN": [1, 2, 3]}, limit=8
    )


def test_a_response_is_flat_and_sorted_and_single_elements_stand_alone() -> None:
    def tensor(name: str, values: Any, kind: Any = np.float32) -> Tensor:
        array = np.array(values, kind)
        datatype = {"f": "FP32", "i": "INT32"}[array.dtype.kind]
        return Tensor(name, datatype, array.shape, memoryview(array.tobytes()))  # type: ignore[arg-type]

    outputs = [tensor("nan", [[float("nan")]]), tensor("OUT", [1, 2], np.int32)]
    response = InferResponse("m", 3, "a", [*outputs, tensor("none", [])], {"p": 0.5})
    assert encode_response(response) == (
        b'{"OUT":[1,2],"id":"a","model_name":"m","model_version":"3","nan":NaN,"none":[],"p":0.5}'
    )
