"""Tests for tritonpy.worker.python.requests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tritonpy.worker.backend import Request
from tritonpy.worker.python.abandoned import Abandoned
from tritonpy.worker.python.answer import Answer
from tritonpy.worker.python.errors import TritonModelException
from tritonpy.worker.python.requests import (
    TRITONSERVER_REQUEST_RELEASE_ALL,
    TRITONSERVER_REQUEST_RELEASE_RESCHEDULE,
    InferenceRequest,
    PreferredMemory,
    ReceivedRequest,
    get_input_tensor_by_name,
)
from tritonpy.worker.python.tensors import Tensor

IN = Tensor("IN", np.zeros(1))


def received(**fields: Any) -> ReceivedRequest:
    defaults: dict[str, Any] = {
        "key": 1,
        "id": "r",
        "inputs": {"IN": np.zeros(2, np.float32), "SHIFT": np.ones(1)},
        "outputs": ["OUT", "MORE"],
        "parameters": {"p": 1.5, "header": "x", "on": True},
        "correlation_id": "seven",
        "flags": 3,
        "priority": 1,
        "timeout_us": 250,
        "respond": lambda response, final: None,
        "is_cancelled": lambda: False,
    }
    request = Request(**{**defaults, **fields})
    return ReceivedRequest(request, Answer(request, False, Abandoned("m_0_0")))


def made(**fields: Any) -> InferenceRequest:
    defaults: dict[str, Any] = {
        "inputs": [IN],
        "requested_output_names": ["OUT"],
        "model_name": "other",
    }
    return InferenceRequest(**{**defaults, **fields})


def test_a_received_request_tells_what_the_client_sent() -> None:
    request = received()

    assert request.request_id() == "r"
    assert request.correlation_id() == "seven"
    assert request.flags() == 3
    assert request.timeout() == 250
    assert request.requested_output_names() == {"OUT", "MORE"}
    assert request.parameters() == '{"p": 1.5, "header": "x", "on": true}'
    assert request.trace().get_context() is None
    assert isinstance(request, InferenceRequest)


def test_a_received_request_s_inputs_keep_their_order_and_their_memory() -> None:
    array = np.zeros(2, np.float32)
    request = received(inputs={"B": array, "A": np.ones(1)})

    assert [tensor.name() for tensor in request.inputs()] == ["B", "A"]
    assert request.inputs()[0].as_numpy() is array


def test_inputs_are_found_by_name() -> None:
    request = received()
    found = get_input_tensor_by_name(request, "SHIFT")

    assert found is not None
    assert found.name() == "SHIFT"
    assert get_input_tensor_by_name(request, "OPTIONAL") is None


def test_flags_can_be_set() -> None:
    request = received()
    request.set_flags(1)

    assert request.flags() == 1


def test_a_request_and_its_sender_know_of_the_cancellation() -> None:
    request = received(is_cancelled=lambda: True)

    assert request.is_cancelled()
    assert request.get_response_sender().is_cancelled()


def test_a_made_request_has_what_it_was_made_of() -> None:
    request = made(request_id="r", correlation_id=5, flags=2, timeout=9, parameters={"k": True})

    assert request.inputs() == [IN]
    assert request.request_id() == "r"
    assert request.correlation_id() == 5
    assert request.flags() == 2
    assert request.timeout() == 9
    assert request.requested_output_names() == {"OUT"}
    assert request.parameters() == '{"k": true}'
    assert not request.is_cancelled()


def test_a_made_request_needs_its_three_parts() -> None:
    with pytest.raises(TypeError, match="requires inputs, requested_output_names and model_name"):
        InferenceRequest(inputs=[IN])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"correlation_id": 1.5}, "^Correlation ID must be integer or string$"),
        (
            {"inputs": [None], "request_id": "r"},
            "^Input tensor for request with id 'r' and model name 'other' should not be empty",
        ),
        (
            {"requested_output_names": [""]},
            "^Requested output name for request with id '' and model name 'other' should not be",
        ),
        ({"parameters": {"k": None}}, "^Expect parameters values to have type bool/int/str"),
    ],
)
def test_a_made_request_of_wrong_parts_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TritonModelException, match=message):
        made(**fields)


def test_a_made_request_has_no_sender() -> None:
    with pytest.raises(TritonModelException, match="has no reference to the decoupled state"):
        made().get_response_sender()


def test_a_received_request_cannot_be_sent_on() -> None:
    with pytest.raises(TritonModelException, match="make an InferenceRequest of its inputs"):
        received().exec()


def test_a_received_request_can_be_rescheduled_until_it_is_answered() -> None:
    request = received()
    request.set_release_flags(TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
    assert request.wants_rescheduling

    request.set_release_flags(TRITONSERVER_REQUEST_RELEASE_ALL)
    assert not request.wants_rescheduling


def test_a_made_request_is_released_by_nobody() -> None:
    made().set_release_flags(TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)


@pytest.mark.parametrize("flags", ["1", None, 1.0, -1, 1 << 32])
def test_flags_of_other_types_are_refused(flags: Any) -> None:
    for request in (received(), made()):
        with pytest.raises(TypeError, match="flags are expected as an unsigned number"):
            request.set_flags(flags)
    with pytest.raises(TypeError, match="flags are expected as an unsigned number"):
        received().set_release_flags(flags)


def test_only_the_flag_itself_reschedules() -> None:
    request = received()
    request.set_release_flags(7)

    assert not request.wants_rescheduling


def test_a_preferred_memory_is_one_of_two_kinds() -> None:
    with pytest.raises(TypeError, match="a type such as TRITONSERVER_MEMORY_CPU, got 7"):
        PreferredMemory(7)  # type: ignore[arg-type]
