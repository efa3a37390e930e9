"""Inference over gRPC: raw and typed contents, lookups, wrong requests, and streams."""

from __future__ import annotations

import struct
from math import prod
from typing import Any

from ..case import Area, Case, Document, Stream
from ..requests import F4, call, message, wire_tensor
from ..setups import PROTOCOL

_FOUR: dict[str, Any] = {"fp32_contents": [1, 2, 3, 4]}

_CONTENTS: list[Case] = [
    call("raw", id="q"),
    call("typed", inputs=[wire_tensor(**_FOUR)], raw=[]),
    call("typed too few", inputs=[wire_tensor(fp32_contents=[1, 2, 3])], raw=[]),
    call("typed too many", inputs=[wire_tensor(fp32_contents=[1, 2, 3, 4, 5])], raw=[]),
    call("typed in another field", inputs=[wire_tensor(int_contents=[1, 2, 3, 4])], raw=[]),
    call("typed in two fields", inputs=[wire_tensor(**_FOUR, int_contents=[1, 2])], raw=[]),
    call(
        "typed special",
        inputs=[wire_tensor(fp32_contents=["NaN", "Infinity", "-Infinity", -0.0])],
        raw=[],
    ),
    call("raw and typed", inputs=[wire_tensor(**_FOUR)]),
    call("without data", raw=[]),
    call("raw empty", raw=[b""]),
    call("raw too short", raw=[F4[:8]]),
    call("raw too long", raw=[F4 + F4]),
    call("raw of an odd size", raw=[F4[:7]]),
    call("more raw contents than inputs", raw=[F4, F4]),
    call(
        "one raw content for two inputs",
        "pair",
        [wire_tensor("A", shape=[2, 2]), wire_tensor("B", "INT32", [2, 2])],
    ),
    call(
        "two inputs",
        "pair",
        [wire_tensor("A", shape=[2, 2]), wire_tensor("B", "INT32", [2, 1])],
        [F4, F4[:8]],
        {"OA": {}, "OB": {}},
    ),
    call(
        "two inputs, one output",
        "pair",
        [wire_tensor("B", "INT32", [2, 1]), wire_tensor("A", shape=[2, 2])],
        [F4[:8], F4],
        {"OB": {}},
    ),
    call(
        "one of two inputs typed",
        "pair",
        [wire_tensor("A", shape=[2, 2], **_FOUR), wire_tensor("B", "INT32", [2, 1])],
        [F4[:8]],
    ),
    call(
        "both inputs typed",
        "pair",
        [
            wire_tensor("A", shape=[2, 2], **_FOUR),
            wire_tensor("B", "INT32", [2, 1], int_contents=[1, 2]),
        ],
        [],
        {"OB": {}, "OA": {}},
    ),
    call("typed for no elements", "dynamic", [wire_tensor(shape=[1, 0])], []),
    call("raw for no elements", "dynamic", [wire_tensor(shape=[1, 0])], [b""]),
]

_REQUESTS: list[Case] = [
    call("unknown model", "nope"),
    call("no model name", ""),
    call("version", "versions", model_version="1"),
    call("latest version", "versions"),
    call("unknown version", model_version="9"),
    call("text version", model_version="x"),
    call("version below zero", model_version="-1"),
    call("version 0", model_version="0"),
    call("version with text behind", model_version="1x"),
    call("version beyond 64 bits", model_version="99999999999999999999"),
    call("wrong shape", inputs=[wire_tensor(shape=[2])], raw=[F4[:8]], id="q"),
    call("wrong rank", inputs=[wire_tensor(shape=[1, 4])]),
    call("shape below zero", inputs=[wire_tensor(shape=[-1])]),
    call("shape empty", inputs=[wire_tensor(shape=[])]),
    call("shape huge", inputs=[wire_tensor(shape=[2**62, 4])]),
    call("wrong datatype", inputs=[wire_tensor(datatype="INT32")]),
    call("invalid datatype", inputs=[wire_tensor(datatype="FLOAT")]),
    call("datatype empty", inputs=[wire_tensor(datatype="")]),
    call("invalid datatype typed", inputs=[wire_tensor(datatype="FLOAT", **_FOUR)], raw=[]),
    call("datatype in lower case", inputs=[wire_tensor(datatype="fp32")]),
    call("wrong name", inputs=[wire_tensor("X")]),
    call("name empty", inputs=[wire_tensor("")]),
    call("input twice", inputs=[wire_tensor(), wire_tensor()], raw=[F4, F4]),
    call("no inputs", inputs=[], raw=[]),
    call(
        "one input too many",
        inputs=[wire_tensor(), wire_tensor("Y")],
        raw=[F4, F4],
        normalise=["order_of_inputs"],
    ),
    call("unknown output", outputs={"X": {}}),
    call("output name empty", outputs={"": {}}),
    call("output twice", outputs=[{"name": "OUT"}, {"name": "OUT"}]),
    call("output listed", outputs={"OUT": {}}),
    call("output parameter", outputs={"OUT": {"foo": 1}}),
    call("output binary_data", outputs={"OUT": {"binary_data": False}}),
    call("input parameter", inputs=[wire_tensor(more={"foo": 1})]),
    call("batch too large", "dynamic", [wire_tensor(shape=[5, 1])], [bytes(20)]),
    call("no batch dimension", "dynamic", [wire_tensor()]),
    call("reshaped", "described", [wire_tensor(shape=[1, 2, 3])], [bytes(24)]),
    call("id not ASCII", id="ä"),
]


_TWO = struct.pack("<2f", 1, 2)
_PAIR = [wire_tensor("A", shape=[2, 2]), wire_tensor("B", "INT32", [2, 1])]
_OPTIONAL = [wire_tensor(name, shape=[2]) for name in "AB"]


def _pair(name: str, first: list[int], second: list[int]) -> Case:
    inputs = [wire_tensor("A", shape=first), wire_tensor("B", "INT32", second)]
    return call(f"pair {name}", "pair", inputs, [bytes(4 * prod(first)), bytes(4 * prod(second))])


_SHAPES: list[Case] = [
    _pair("of one", [1, 2], [1, 3]),
    _pair("of four", [4, 2], [4, 1]),
    _pair("too large", [5, 2], [5, 1]),
    _pair("wrong dimension", [2, 3], [2, 1]),
    _pair("without elements", [2, 2], [2, 0]),
    call("pair missing one", "pair", _PAIR[:1], [F4]),
    call("pair missing the other", "pair", _PAIR[1:], [F4[:8]]),
    call("pair wrong datatype", "pair", [_PAIR[0], wire_tensor("B", "INT64", [2, 1])], [F4, F4]),
    call("optional given", "optional", _OPTIONAL, [_TWO, _TWO]),
    call("optional left out", "optional", _OPTIONAL[:1], [_TWO]),
    call("optional none at all", "optional", [], []),
    call("completed", "completed", [wire_tensor(shape=[2, 4])], [F4 + F4]),
    call("completed too large", "completed", [wire_tensor(shape=[9, 4])], [F4 * 9]),
    call("dynamic good", "dynamic", [wire_tensor(shape=[2, 2])]),
    call("reshaped wrong", "described", [wire_tensor(shape=[1, 6])], [bytes(24)]),
]


def _numbered(number: int, **changes: object) -> Document:
    return message(id=f"s{number}", **changes)  # type: ignore[arg-type]


_EMPTY_FINAL = {"triton_enable_empty_final_response": True}

_STREAMS: list[Case] = [
    Stream("of nothing", []),
    Stream("of one", [_numbered(1)]),
    Stream("without ids", [message(), message()]),
    Stream("of many", [_numbered(number) for number in range(20)]),
    Stream("wrong shape", [message(inputs=[wire_tensor(shape=[2])], raw=[F4[:8]], id="a")]),
    Stream("unknown model", [message("nope", id="a")]),
    Stream("text version", [message(model_version="x", id="a")]),
    Stream("unknown input", [message(inputs=[wire_tensor("X")], id="a")]),
    Stream("without data", [message(raw=[], id="a")]),
    Stream("triton_ parameter", [message(given={"triton_x": 1}, id="a")]),
    Stream("empty final response", [message(given=_EMPTY_FINAL, id="a")]),
    Stream(
        "empty final response of a number",
        [message(given={"triton_enable_empty_final_response": 1}, id="a")],
    ),
    Stream(
        "goes on after errors",
        [
            _numbered(1),
            _numbered(2, inputs=[wire_tensor(shape=[2])], raw=[F4[:8]]),
            _numbered(3, model="nope"),
            _numbered(4),
        ],
        ["streams_by_request"],
    ),
    Stream(
        "two models",
        [
            _numbered(1),
            _numbered(2, model="versions", model_version="1"),
            _numbered(3),
        ],
        ["streams_by_request"],
    ),
]

AREAS = [
    Area("grpc contents", PROTOCOL, _CONTENTS),
    Area("grpc requests", PROTOCOL, _REQUESTS),
    Area("grpc shapes", PROTOCOL, _SHAPES),
    Area("grpc streams", PROTOCOL, _STREAMS),
]
