"""Ensembles: what is answered, what a load says, and what comes and goes together."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ..case import Area, Grpc, Http, Settled, Step, Stream
from ..requests import call, document, message, post, tensor, wire_tensor
from ..setups import ENSEMBLES

_GOOD = ("chain", "nested", "batched", "single", "omitted", "shapes", "choice", "lesser", "told",
         "many", "first")  # fmt: skip
_WRONG = (
    "type", "shape", "input", "output", "unmapped", "batch", "version", "no_version", "unknown",
    "broken", "itself", "circle", "origins", "no_step", "no_map", "no_name", "group",
    "unused_input", "unwritten", "unused", "unread", "twice", "loop",
)  # fmt: skip

_NOTHING: Mapping[str, Any] = {}


def _do(verb: str, model: str, name: str = "", **parameters: Any) -> Http:
    body = json.dumps({"parameters": parameters}) if parameters else ""
    address = f"/v2/repository/models/{model}/{verb}"
    frames = ("without_reason",) if verb == "load" else ()
    return Http(name or f"{verb} {model}", "POST", address, body.encode(), normalise=frames)


def _index(name: str) -> Http:
    return Http(f"index {name}", "POST", "/v2/repository/index", b'{"ready":true}')


def _pair(shape: tuple[int, ...] = (4,)) -> list[Any]:
    count = math.prod(shape)
    return [tensor(name=name, shape=list(shape), data=[value] * count) for name, value in
            (("A", 3), ("B", 1))]  # fmt: skip


def _infer(name: str, model: str, inputs: Any = None, outputs: Any = ..., **more: Any) -> Http:
    return post(name, model, document(_pair() if inputs is None else inputs, outputs, **more))


def _one(name: str) -> list[Any]:
    return [{"name": name}]


def _many(count: int, do: str = "behave", given: Mapping[str, Any] = _NOTHING) -> Any:
    inputs = [wire_tensor("IN", "INT32", [1], int_contents=[count])]
    return message("many", inputs, [], given={"do": do, **given}, id=f"{do} {count}")


_EMPTY_FINAL = {"triton_enable_empty_final_response": True}
_TEXT = [{"name": "IN", "datatype": "BYTES", "shape": [1], "data": ["x"]}]

_LOADS: list[Step] = [
    *(_do("load", name) for name in _GOOD),
    *(_do("load", f"wrong_{name}") for name in _WRONG),
    _index("after the loads"),
]
_ANSWERS: list[Step] = [
    _infer("one output", "chain", None, _one("OUT")),
    _infer("a pruned output", "chain", None, _one("D"), id="r7"),
    _infer("an unknown output", "chain", None, _one("NOPE")),
    _infer("too few inputs", "chain", _pair()[:1]),
    _infer("a step that fails", "chain", parameters={"do": "fail"}, id="r7"),
    _infer("an output that a step omits", "chain", None, _one("OUT"), parameters={"do": "omit"}),
    _infer("an input that a step omits", "omitted", parameters={"do": "omit"}),
    _infer("an output of another shape", "chain", parameters={"do": "cut"}),
    _infer("nested", "nested"),
    _infer("a nested step that fails", "nested", parameters={"do": "fail"}, id="r7"),
    _infer("a batch", "batched", _pair((2, 4))),
    _infer("a batch that is too large", "batched", _pair((5, 4))),
    _infer("a row for a model that does not batch", "single", [tensor(shape=[1, 4])]),
    _infer("a shape that fits", "shapes", [tensor()]),
    _infer("a shape that does not fit", "shapes", [tensor(shape=[3], data=[1, 2, 3])]),
    _infer("without an optional input", "choice", _pair()[:1]),
    _infer("an optional input that is not mapped", "lesser", _pair()[:1]),
    _infer("a version", "first", [tensor()]),
    _infer(
        "what steps are told",
        "told",
        _TEXT,
        id="i1",
        parameters={"sequence_id": 7, "sequence_start": True, "timeout": 123, "mine": "v"},
    ),
    _infer(
        "decoupled over HTTP", "many", [tensor(name="IN", datatype="INT32", shape=[1], data=[2])]
    ),
    Stream("none", [_many(0, given=_EMPTY_FINAL)]),
    Stream("a decoupled step that fails in the middle", [_many(1, "fail in the middle")]),
    *(
        Http(
            f"{part} of {model}",
            "GET",
            f"/v2/models/{model}{part}",
            b"",
            {},
            ("keys_in_any_order",),
        )
        for model, part in (("chain", ""), ("many", "/config"), ("first", "/config"))
    ),
    call(
        "gRPC a step that fails",
        "chain",
        [wire_tensor(name, fp32_contents=[1] * 4) for name in "AB"],
        given={"do": "fail"},
        id="r7",
    ),
]
_TOGETHER: list[Step] = [
    _do("unload", "identity"),
    Settled("identity", "UNAVAILABLE"),
    _index("without a model"),
    _infer("without a model", "nested"),
    Http("statistics without a model", "GET", "/v2/models/nested/stats"),
    _do("load", "identity", "load identity again"),
    Settled("nested", "READY"),
    _index("with the model again"),
    _do("unload", "nested", "unload nested with what it needs", unload_dependents=True),
    Settled("nested", "UNAVAILABLE"),
    Grpc("index after it", "RepositoryIndex", {"ready": True}),
]
AREAS = [
    Area("ensemble loads", ENSEMBLES, _LOADS),
    Area("ensembles", ENSEMBLES, _ANSWERS),
    Area("ensembles and their models", ENSEMBLES, _TOGETHER),
]
