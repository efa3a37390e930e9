"""Requests are sorted by the sizes that they are padded to."""

from __future__ import annotations

import json

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.tensor import Tensor
from tritonpy.supervisor.config.schema import ModelConfig, ModelInput, ModelOutput, ModelParameter
from tritonpy.supervisor.models.admission import Admission
from tritonpy.supervisor.request import InferRequest

RULES = {
    "axes": {"n": {"buckets": [4, 8]}},
    "inputs": {"A": {"axes": ["n", None]}, "B": {"axes": ["n"]}},
}
CONFIG = ModelConfig(
    name="m",
    max_batch_size=4,
    input=[
        ModelInput(name="A", data_type="TYPE_UINT8", dims=[-1, -1]),
        ModelInput(name="B", data_type="TYPE_UINT8", dims=[-1]),
    ],
    output=[ModelOutput(name="X", data_type="TYPE_UINT8", dims=[-1])],
    parameters={"padding": ModelParameter(string_value=json.dumps(RULES))},
)


def signature(first: tuple[int, ...], second: tuple[int, ...]) -> object:
    tensors: list[Tensor] = []
    for name, shape in (("A", first), ("B", second)):
        size = 1
        for extent in shape:
            size *= extent
        tensors.append(Tensor(name, "UINT8", shape, memoryview(bytes(size))))
    request = InferRequest("m", None, tensors, id="7")
    Admission(CONFIG).check(request)
    return request.signature


def test_lengths_of_one_bucket_are_alike_and_others_are_not() -> None:
    assert signature((1, 1, 2), (1, 1)) == signature((3, 4, 2), (3, 4))
    assert signature((1, 4, 2), (1, 4)) != signature((1, 5, 2), (1, 5))
    assert signature((1, 5, 2), (1, 5)) == signature((1, 8, 2), (1, 8))


def test_dimensions_without_an_axis_must_be_equal() -> None:
    assert signature((1, 4, 2), (1, 4)) != signature((1, 4, 3), (1, 4))


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        signature((1, 9, 2), (1, 9))
    assert raised.value.message == (
        "[request id: 7] input 'A' for model 'm' has length 9 along its axis 'n', expected at most "
        "8, the largest bucket of its padding"
    )


def test_inputs_that_share_an_axis_are_of_one_length() -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        signature((1, 3, 2), (1, 2))
    assert raised.value.message == (
        "[request id: 7] input 'B' for model 'm' has length 2 along its axis 'n', but another "
        "input of the request has 3"
    )
