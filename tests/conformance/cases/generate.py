"""The generate extension."""

from __future__ import annotations

import json
from typing import Any

from ..case import Area, Case, Http
from ..setups import EXTENSIONS

_FOUR = [1, 2, 3, 4]


def _post(name: str, model: str, body: Any, how: str = "generate") -> Http:
    text = body if isinstance(body, str) else json.dumps(body)
    return Http(f"{how} {name}", "POST", f"/v2/models/{model}/{how}", text.encode())


_CASES: list[Case] = [
    case
    for how in ("generate", "generate_stream")
    for case in (
        _post("list", "identity", {"IN": _FOUR}, how),
        _post("with an id", "identity", {"id": "a", "IN": _FOUR}, how),
        _post("text", "text", {"IN": "hello"}, how),
        _post("texts", "texts", {"IN": ["a", "b"]}, how),
        _post("one of many texts", "texts", {"IN": "a"}, how),
        _post("nested", "identity", {"IN": [_FOUR]}, how),
        _post("in parameters", "identity", {"parameters": {"IN": _FOUR}}, how),
        _post("wrong in parameters", "identity", {"parameters": {"IN": "x"}}, how),
        _post("too short", "identity", {"IN": [1]}, how),
        _post("missing", "identity", {}, how),
        _post("more members", "identity", {"IN": _FOUR, "foo": 1, "bar": "x"}, how),
        _post("no JSON", "identity", "{", how),
        _post("empty", "identity", "", how),
        _post("unknown model", "nope", {"IN": _FOUR}, how),
        _post("one of many", "decoupled", {"IN": 1}, how),
        _post("three of many", "decoupled", {"IN": 3}, how),
        _post("none of many", "decoupled", {"IN": 0}, how),
        _post("failing", "decoupled", {"IN": 3, "do": "fail in the middle"}, how),
        _post("raising", "decoupled", {"IN": 3, "do": "raise"}, how),
        Http(f"{how} by GET", "GET", f"/v2/models/identity/{how}"),
    )
]

AREAS = [Area("generate", EXTENSIONS, _CASES)]
