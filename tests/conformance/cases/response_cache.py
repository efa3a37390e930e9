"""The response cache: what is answered again, and what statistics say of it."""

from __future__ import annotations

from typing import Any

from ..case import Area, Counted, Document, Grpc, Http, Step
from ..requests import binary, call, document, post, tensor, wire_tensor
from ..setups import CACHED


def _pair(a: list[float], b: list[int], rows: int = 1) -> list[Document]:
    return [
        tensor(name="A", shape=[rows, 2], data=a),
        tensor(name="B", datatype="INT32", shape=[rows, len(b) // rows], data=b),
    ]


def _ask(name: str, model: str, *values: Any, **more: Any) -> Http:
    return post(name, model, document(_pair(*values), **more))


def _statistics(name: str, model: str) -> list[Step]:
    return [
        Http(f"HTTP {name}", "GET", f"/v2/models/{model}/stats", b"", {}, ("durations",)),
        Grpc(f"gRPC {name}", "ModelStatistics", {"name": model}, ("durations",)),
    ]


def _deed(name: str, deed: str) -> Http:
    return post(name, "errors", document(id=name, parameters={"do": deed}))


def _load(model: str) -> Http:
    where = f"/v2/repository/models/{model}/load"
    return Http(f"load {model}", "POST", where, normalise=("without_reason",))


_HITS: list[Step] = [
    *_statistics("of nothing", "hits"),
    _ask("the first", "hits", [1, 2], [3], id="a"),
    Counted("hits", 1),
    *_statistics("of a miss", "hits"),
    _ask("the same", "hits", [1, 2], [3], id="b"),
    Counted("hits", 2),
    *_statistics("of a hit", "hits"),
    _ask("without an id", "hits", [1, 2], [3]),
    _ask("with a priority", "hits", [1, 2], [3], parameters={"priority": 1}),
    _ask("by its version", "hits/1", [1, 2], [3]),
    call(
        "over gRPC",
        "hits",
        [wire_tensor("A", shape=[1, 2], fp32_contents=[1, 2]),
         wire_tensor("B", "INT32", [1, 1], int_contents=[3])],
        (),
        id="c",
    ),
    binary(
        "in binary",
        "hits",
        document([
            tensor(name="A", shape=[1, 2], data=..., parameters={"binary_data_size": 8}),
            tensor(name="B", datatype="INT32", shape=[1, 1], data=[3]),
        ]),
        b"\0\0\x80\x3f\0\0\0\x40",
    ),
    Counted("hits", 7),
    *_statistics("of hits in every form", "hits"),
    _ask("other bytes", "hits", [1, 2], [4]),
    _ask("a batch", "hits", [1, 2, 3, 4], [5, 6], 2),
    _ask("the batch again", "hits", [1, 2, 3, 4], [5, 6], 2),
    Counted("hits", 10),
    *_statistics("of batches", "hits"),
    _ask("too many rows", "hits", [1, 2] * 5, [1] * 5, 5),
    *_statistics("after a refusal", "hits"),
]  # fmt: skip

_NOT: list[Step] = [
    post("uncached", "uncached", document()),
    post("uncached again", "uncached", document()),
    Counted("uncached", 2),
    *_statistics("without the cache", "uncached"),
    _ask("one output", "outputs", [1, 2], [3], outputs=[{"name": "OA"}]),
    _ask("the other output", "outputs", [1, 2], [3], outputs=[{"name": "OB"}]),
    _ask("one shape", "bytes", [1, 2], [3, 4, 5, 6]),
    _ask("the other shape", "bytes", [1, 2, 3, 4], [5, 6], 2),
    _ask("the shape of its bytes", "bytes", [1, 2, 3, 4], [5, 6, 7, 8], 2),
    Counted("bytes", 3),
    *_statistics("of shapes", "bytes"),
    _deed("good", "behave"),
    _deed("good again", "behave"),
    Counted("errors", 2),
    *_statistics("of good answers", "errors"),
    _load("cached_decoupled"),
    _load("cached_sequence"),
]

AREAS = [
    Area("response cache", CACHED, _HITS),
    Area("response cache limits", CACHED, _NOT),
]
