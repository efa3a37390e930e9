"""The arithmetic of the binary tensor extension and of raw requests."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.tensor import Tensor
from tritonpy.supervisor.config.schema import ModelConfig, ModelInput
from tritonpy.supervisor.http.binary_codec import check_sizes, header_length, raw_input
from tritonpy.supervisor.http.json_codec import OutputForms, ParsedRequest
from tritonpy.supervisor.request import InferRequest

EMPTY = memoryview(b"")


@pytest.mark.parametrize(("text", "length"), [("0", 0), ("100", 100), (" +7", 7), ("12abc", 12)])
def test_the_header_length_is_read_as_c_does(text: str, length: int) -> None:
    assert header_length(text, 100) == length


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "Unable to parse Inference-Header-Content-Length, got: abc"),
        ("", "Unable to parse Inference-Header-Content-Length, got: "),
        ("-1", "inference header size should be in range (0, 100), got: -1"),
        ("101", "inference header size should be in range (0, 100), got: 101"),
        (
            "2147483648",
            "Unable to parse Inference-Header-Content-Length, value is out of range "
            "[ -2147483648, 2147483647 ], got: 2147483648",
        ),
    ],
)
def test_a_wrong_header_length_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        header_length(text, 100)
    assert error.value.message == message


def parsed(*sizes: int | None) -> ParsedRequest:
    inputs = [Tensor(f"IN{index}", "INT8", (1,), EMPTY) for index in range(len(sizes))]
    return ParsedRequest(InferRequest("m", None, inputs), list(sizes), OutputForms())


def test_sizes_that_take_the_whole_rest_are_right() -> None:
    check_sizes(parsed(3, None, 0, 4), 7)
    check_sizes(parsed(None), 0)


def test_a_short_rest_names_the_input_and_what_is_missing() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        check_sizes(parsed(3, 4), 5)
    assert error.value.message == (
        "unexpected size for input 'IN1', expecting 2 additional bytes for model 'm'"
    )


def test_bytes_left_over_are_refused() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        check_sizes(parsed(3), 5)
    assert error.value.message == "unexpected additional input data for model 'm'"


def deduce(data_type: str, dims: list[int], size: int, batch: int = 0) -> tuple[Tensor, bytes]:
    declared = ModelInput(name="IN", data_type=data_type, dims=dims)
    config = ModelConfig(name="m", max_batch_size=batch, input=[declared])
    return raw_input(InferRequest("m", None, []), config, size)


@pytest.mark.parametrize(
    ("dims", "size", "batch", "shape"),
    [
        ([16], 64, 0, (16,)),
        ([-1], 64, 0, (16,)),
        ([2, -1, 4], 64, 8, (1, 2, 2, 4)),
        ([-1], 0, 0, (0,)),
        ([0, -1], 0, 0, (0, 0)),
    ],
)
def test_a_raw_requests_shape_comes_from_the_configuration_and_its_size(
    dims: list[int], size: int, batch: int, shape: tuple[int, ...]
) -> None:
    tensor, prefix = deduce("TYPE_FP32", dims, size, batch)
    assert (tensor.name, tensor.datatype, tensor.shape, prefix) == ("IN", "FP32", shape, b"")


@pytest.mark.parametrize(
    ("dims", "size", "expected"), [([16], 12, 64), ([-1], 7, 4), ([0, -1], 8, 0)]
)
def test_raw_bytes_that_are_no_tensor_are_refused_by_tritons_name_for_them(
    dims: list[int], size: int, expected: int
) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        deduce("TYPE_FP32", dims, size, 0)
    assert refusal.value.message == (
        "[request id: <id_unknown>] input byte size mismatch for input 'raw_input' for model 'm'. "
        f"Expected {expected}, got {size}"
    )


def test_a_raw_string_gets_its_length() -> None:
    tensor, prefix = deduce("TYPE_STRING", [1], 5, batch=4)
    assert (tensor.datatype, tensor.shape, prefix) == ("BYTES", (1, 1), b"\x05\0\0\0")


@pytest.mark.parametrize("dims", [[2], [-1]])
def test_a_raw_string_fits_one_element_only(dims: list[int]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"model must have input shape \[1\]"):
        deduce("TYPE_STRING", dims, 5)


def test_two_open_dimensions_cannot_be_deduced() -> None:
    with pytest.raises(InvalidArgumentError, match="more than one variable-sized dimension"):
        deduce("TYPE_FP32", [-1, -1], 8)


def test_a_model_with_several_inputs_takes_no_raw_request() -> None:
    inputs = [ModelInput(name=name, data_type="TYPE_FP32", dims=[1]) for name in "AB"]
    with pytest.raises(InvalidArgumentError) as error:
        raw_input(InferRequest("m", None, []), ModelConfig(input=inputs), 4)
    assert error.value.message == (
        "[request id: <id_unknown>] Raw request must only have 1 input (found 1) to be deduced "
        "but got 2 inputs in 'm' model configuration"
    )
