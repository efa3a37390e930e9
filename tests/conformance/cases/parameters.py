"""Request parameters over both protocols, as a model sees them."""

from __future__ import annotations

from typing import Any

from ..case import Area, Case
from ..requests import call, document, post, tensor, wire_tensor
from ..setups import PROTOCOL

_TEXT = tensor(datatype="BYTES", shape=[1], data=["x"])
_RAW = b"\1\0\0\0x"


def _http(name: str, parameters: Any, **more: Any) -> Case:
    return post(f"HTTP {name}", "seen", document([_TEXT], parameters=parameters, **more))


def _grpc(name: str, given: dict[str, Any], **more: Any) -> Case:
    inputs = [wire_tensor(datatype="BYTES", shape=[1])]
    return call(f"gRPC {name}", "seen", inputs, [_RAW], given=given, **more)


#: What both protocols can say.
_BOTH: dict[str, dict[str, Any]] = {
    "none": {},
    "of every kind": {"text": "a", "number": 5, "yes": True, "minus": -3},
    "a double": {"double": 1.5},
    "an empty name": {"": "x"},
    "an empty text": {"text": ""},
    "not ASCII": {"ä": "ö"},
    "triton_": {"triton_x": 1},
    "headers": {"headers": "x"},
    "a sequence": {"sequence_id": 5, "sequence_start": True, "sequence_end": True},
    "a sequence that starts": {"sequence_id": 5, "sequence_start": True},
    "a sequence that ends": {"sequence_id": 5, "sequence_end": True},
    "a sequence with a text": {"sequence_id": "abc", "sequence_start": True},
    "a sequence with an empty text": {"sequence_id": ""},
    "sequence 0": {"sequence_id": 0},
    "a sequence with a boolean": {"sequence_id": True},
    "sequence_start of a text": {"sequence_start": "x"},
    "sequence_start of a number": {"sequence_start": 1},
    "sequence_end of a number": {"sequence_end": 1},
    "sequence_start alone": {"sequence_start": True},
    "priority": {"priority": 1},
    "priority below zero": {"priority": -2},
    "priority of a text": {"priority": "x"},
    "timeout": {"timeout": 1000000},
    "timeout below zero": {"timeout": -1},
    "timeout of a text": {"timeout": "x"},
    "binary_data_output": {"binary_data_output": False},
    "empty final response": {"triton_enable_empty_final_response": True},
    "no empty final response": {"triton_enable_empty_final_response": False},
    "empty final response of a number": {"triton_enable_empty_final_response": 1},
}

_CASES: list[Case] = [
    *(_http(name, values) for name, values in _BOTH.items()),
    *(_grpc(name, values) for name, values in _BOTH.items()),
    _http("with an id", {}, id="ID"),
    _grpc("with an id", {}, id="ID"),
    _http("null", {"none": None}),
    _http("a list", {"list": [1]}),
    _http("an object", {"object": {}}),
    _http("a large number", {"number": 2**63}),
    _http("the largest number", {"number": 2**63 - 1}),
    _http("the smallest number", {"number": -(2**63)}),
    _http("that are a list", []),
    _http("that are null", None),
    _http("that are a number", 5),
    _http("a sequence with a float", {"sequence_id": 1.5}),
    _http("a sequence below zero", {"sequence_id": -1}),
    _http("the largest sequence", {"sequence_id": 2**64 - 1}),
    _http("priority of a float", {"priority": 1.0}),
    _http("timeout of a float", {"timeout": 1.0}),
    _http("outputs listed", {}, outputs=[{"name": "OUT"}]),
    _grpc("unsigned", {"number": {"uint64_param": 2**64 - 1}}),
    _grpc("unsigned priority", {"priority": {"uint64_param": 1}}),
    _grpc("unsigned timeout", {"timeout": {"uint64_param": 5}}),
    _grpc("unsigned sequence", {"sequence_id": {"uint64_param": 5}}),
    _grpc("without a value", {"none": {}}),
    _grpc("a sequence with a double", {"sequence_id": 1.5}),
    _grpc("outputs listed", {}, outputs={"OUT": {}}),
]

AREAS = [Area("parameters", PROTOCOL, _CASES)]
