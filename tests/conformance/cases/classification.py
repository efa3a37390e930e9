"""The classification extension, over both protocols."""

from __future__ import annotations

import struct
from typing import Any

from ..case import Area, Case
from ..requests import F6, behind, binary, call, document, post, tensor, wire_tensor
from ..setups import PROTOCOL

_BATCH = tensor(shape=[2, 6], data=[0.1, 0.9, 0.5, 3, -1, 2, 6, 5, 4, 3, 2, 1])
_SIX = tensor(shape=[6], data=[1, 1, 2, 2, 1e10, 0.000001])
_GRID = tensor(datatype="INT32", shape=[2, 3], data=[5, -1, 7, 7, 0, 2])


def _http(name: str, model: str, given: Any, count: Any, output: str = "OUT", **more: Any) -> Case:
    wanted = [{"name": output, "parameters": {"classification": count, **more}}]
    return post(f"HTTP {name}", model, document([given], wanted))


def _typed(datatype: str, count: int, data: list[Any]) -> Case:
    given = tensor(name=f"IN_{datatype}", datatype=datatype, shape=[len(data)], data=data)
    return _http(f"of {datatype}", "types", given, count, f"OUT_{datatype}")


def _binary(datatype: str, blob: bytes, count: int) -> Case:
    given = behind(len(blob), name=f"IN_{datatype}", datatype=datatype, shape=[count])
    wanted = [{"name": f"OUT_{datatype}", "parameters": {"classification": 1}}]
    return binary(f"HTTP of {datatype}", "types", document([given], wanted), blob)


def _special() -> Case:
    text = (
        '{"inputs":[{"name":"IN","datatype":"FP32","shape":[6],"data":[NaN,1,Infinity,2,-Infinity,'
        '3]}],"outputs":[{"name":"OUT","parameters":{"classification":6}}]}'
    )
    return post("HTTP special numbers", "unlabelled", text)


def _grpc(name: str, values: dict[str, Any], model: str = "labelled") -> Case:
    shape = [1, 6] if model == "labelled" else [6]
    return call(f"gRPC {name}", model, [wire_tensor(shape=shape)], [F6], {"OUT": values})


_CASES: list[Case] = [
    _http("three of a batch", "labelled", _BATCH, 3),
    _http("one of a batch", "labelled", _BATCH, 1),
    _http("more than there are", "labelled", _BATCH, 9),
    _http("zero", "labelled", _BATCH, 0),
    _http("below zero", "labelled", _BATCH, -1),
    _http("a text", "labelled", _BATCH, "x"),
    _http("a float", "labelled", _BATCH, 1.5),
    _http("null", "labelled", _BATCH, None),
    _http("as binary data", "labelled", _BATCH, 1, binary_data=True),
    _http("not as binary data", "labelled", _BATCH, 1, binary_data=False),
    _http("without labels, with ties", "unlabelled", _SIX, 6),
    _http("of two dimensions", "grid", _GRID, 2),
    _special(),
    _typed("BOOL", 1, [True, False]),
    _typed("FP32", 3, [0.1, 1e20, 1e-20]),
    _typed("FP64", 3, [0.1, 1e20, 1 / 3]),
    _typed("UINT8", 2, [1, 255, 6]),
    _typed("UINT64", 2, [2**64 - 1, 5, 6]),
    _typed("INT8", 2, [-5, 5, 6]),
    _typed("INT64", 2, [-(2**63), 2**63 - 1]),
    _binary("FP16", struct.pack("<2e", 1, 2), 2),
    _binary("BF16", b"\x80\x3f\x00\x40", 2),
    _grpc("of a batch", {"classification": 2}),
    _grpc("without labels", {"classification": 3}, "unlabelled"),
    _grpc("more than there are", {"classification": 9}),
    _grpc("zero", {"classification": 0}),
    _grpc("below zero", {"classification": -1}),
    _grpc("a text", {"classification": "x"}),
    _grpc("a double", {"classification": 1.5}),
    _grpc("unsigned", {"classification": {"uint64_param": 2}}),
    _grpc("a boolean", {"classification": True}),
    call(
        "gRPC of BOOL",
        "types",
        [wire_tensor("IN_BOOL", "BOOL", [2])],
        [b"\0\1"],
        {"OUT_BOOL": {"classification": 1}},
    ),
]

AREAS = [Area("classification", PROTOCOL, _CASES)]
