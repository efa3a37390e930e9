"""Request parameters go into the fields that are theirs; wrong ones are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.proto import grpc_service_pb2 as pb
from tritonpy.supervisor.grpc.parameters import (
    set_request_parameters,
    wants_empty_final_response,
)
from tritonpy.supervisor.request import InferRequest


def parsed(**parameters: pb.InferParameter) -> InferRequest:
    request = InferRequest("m", None, [])
    set_request_parameters(request, pb.ModelInferRequest(parameters=parameters).parameters)
    return request


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pb.InferParameter(int64_param=5), 5),
        (pb.InferParameter(int64_param=-1), 2**64 - 1),
        (pb.InferParameter(string_param="s"), "s"),
    ],
)
def test_a_sequence_is_named_by_number_or_text(
    value: pb.InferParameter, expected: int | str
) -> None:
    assert parsed(sequence_id=value).correlation_id == expected


@pytest.mark.parametrize(
    ("start", "end", "flags"),
    [(False, False, 0), (True, False, 1), (False, True, 2), (True, True, 3)],
)
def test_start_and_end_become_flags(start: bool, end: bool, flags: int) -> None:
    request = parsed(
        sequence_start=pb.InferParameter(bool_param=start),
        sequence_end=pb.InferParameter(bool_param=end),
    )

    assert request.flags == flags
    assert request.parameters == {}


def test_priority_and_timeout_are_fields() -> None:
    assert parsed(priority=pb.InferParameter(int64_param=3)).priority == 3
    assert parsed(priority=pb.InferParameter(uint64_param=2**64 - 1)).priority == 2**64 - 1
    assert parsed(timeout=pb.InferParameter(int64_param=9)).timeout_us == 9


def test_a_timeout_below_zero_is_a_very_long_one() -> None:
    assert parsed(timeout=pb.InferParameter(int64_param=-1)).timeout_us == 2**64 - 1


def test_every_other_parameter_is_the_models() -> None:
    request = parsed(
        a=pb.InferParameter(bool_param=False),
        b=pb.InferParameter(int64_param=-1),
        c=pb.InferParameter(string_param=""),
        d=pb.InferParameter(double_param=1.5),
    )

    assert request.parameters == {"a": False, "b": -1, "c": "", "d": 1.5}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "sequence_id",
            {"bool_param": True},
            "'sequence_id' parameter, expected int64_param or st",
        ),
        ("sequence_start", {"int64_param": 1}, "'sequence_start' parameter, expected bool_param"),
        ("sequence_end", {"string_param": "y"}, "'sequence_end' parameter, expected bool_param"),
        ("priority", {"string_param": "1"}, "'priority' parameter, expected int64_param or uint64"),
        ("priority", {"int64_param": -1}, "invalid value for 'priority', expected value >= 0."),
        ("timeout", {"uint64_param": 1}, "'timeout' parameter, expected int64_param"),
        ("sequence_id", {"uint64_param": 5}, "'sequence_id' parameter, expected int64_param or st"),
        ("triton_x", {"bool_param": True}, "keys starting with 'triton_' are reserved for Triton"),
        (
            "triton_enable_empty_final_response",
            {"int64_param": 1},
            "'triton_enable_empty_final_response' parameter, expected bool_param",
        ),
        ("custom", {}, "value type for 'custom' parameter, expected int64_param, bool_param, or"),
        ("custom", {"uint64_param": 1}, "expected int64_param, bool_param, or string_param."),
    ],
)
def test_a_wrong_parameter_is_refused(name: str, value: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        parsed(**{name: pb.InferParameter(**value)})


@pytest.mark.parametrize("wanted", [True, False])
def test_the_empty_final_response_is_for_who_asks(wanted: bool) -> None:
    value = pb.InferParameter(bool_param=wanted)
    parameters = {"triton_enable_empty_final_response": value}

    assert (
        wants_empty_final_response(pb.ModelInferRequest(parameters=parameters).parameters) is wanted
    )
    assert not wants_empty_final_response(pb.ModelInferRequest().parameters)
    assert parsed(**parameters).parameters == {}
