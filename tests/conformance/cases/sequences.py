"""Sequences of requests, over both protocols."""

from __future__ import annotations

from typing import Any

from ..case import Area, Case, Http, Stream
from ..requests import call, document, message, post, wire_tensor
from ..setups import EXTENSIONS


def _http(
    name: str, value: int, shape: Any = (1, 1), model: str = "sequence", **parameters: Any
) -> Http:
    data = [value] * (shape[0] * shape[1])
    given = {"name": "IN", "datatype": "INT32", "shape": list(shape), "data": data}
    return post(f"HTTP {name}", model, document([given], parameters=parameters))


def _message(value: int, **parameters: Any) -> dict[str, Any]:
    inputs = [wire_tensor("IN", "INT32", [1, 1], int_contents=[value])]
    return message("sequence", inputs, [], given=parameters, id=str(value))


_CASES: list[Case] = [
    _http("first", 1, sequence_id=5, sequence_start=True),
    _http("second", 2, sequence_id=5),
    _http("another", 10, sequence_id=6, sequence_start=True),
    _http("last", 3, sequence_id=5, sequence_end=True),
    _http("after the end", 3, sequence_id=5),
    _http("without a start", 3, sequence_id=7),
    _http("without an id", 3),
    _http("id zero", 3, sequence_id=0, sequence_start=True),
    _http("text id", 3, sequence_id="a", sequence_start=True),
    _http("start and end", 4, sequence_id=8, sequence_start=True, sequence_end=True),
    _http("batch of two", 4, (2, 1), sequence_id=9, sequence_start=True),
    call("gRPC without an id", "sequence", _message(1)["inputs"], []),
    Stream(
        "on one stream",
        [
            _message(1, sequence_id=11, sequence_start=True),
            _message(2, sequence_id=11),
            _message(3, sequence_id=11, sequence_end=True),
        ],
    ),
]

_MORE: list[Case] = [
    _http("oldest, first", 1, model="oldest", sequence_id=5, sequence_start=True),
    _http("oldest, another", 10, model="oldest", sequence_id=6, sequence_start=True),
    _http("oldest, second", 2, model="oldest", sequence_id=5),
    _http("oldest, started anew", 3, model="oldest", sequence_id=5, sequence_start=True),
    _http("oldest, last", 4, model="oldest", sequence_id=5, sequence_end=True),
    _http("oldest, after the end", 3, model="oldest", sequence_id=5),
    _http("oldest, the other's last", 20, model="oldest", sequence_id=6, sequence_end=True),
    _http("oldest, without an id", 3, model="oldest"),
    _http("oldest, batch of two without an id", 3, (2, 1), model="oldest"),
    _http("a long text id", 3, sequence_id="a" * 129, sequence_start=True),
    _http("a text id without a start", 3, sequence_id="zz"),
    _http("iterative", 3, model="iterative"),
    _http("iterative, its own id", 2, model="iterative", sequence_id=9, sequence_start=True),
    _http("iterative, its own id again", 2, model="iterative", sequence_id=9),
    _http("iterative, id without a start", 2, model="iterative", sequence_id=10),
    _http("answered and rescheduled", 1, model="overeager"),
    Http("iterative generate", "POST", "/v2/models/iterative/generate", b'{"IN": 3}'),
    Http(
        "iterative generate_stream",
        "POST",
        "/v2/models/events/generate_stream",
        b'{"IN": 3}',
    ),
]

AREAS = [Area("sequences", EXTENSIONS, _CASES), Area("sequences of all kinds", EXTENSIONS, _MORE)]
