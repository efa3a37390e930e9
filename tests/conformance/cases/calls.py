"""Models that call others: what comes of it, in the words in which the calling model reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..case import Area, Http, Settled, Step
from ..requests import document, post
from ..setups import CALLS

_FLOATS = {"IN": ["float32", [1, 2, 3, 4]]}
_NOTHING: Mapping[str, Any] = {}


def _run(name: str, *steps: Mapping[str, Any] | str) -> Http:
    """Have the model `caller` do this."""
    script = json.dumps(steps[0] if isinstance(steps[0], str) else steps)
    given = {"name": "IN", "datatype": "BYTES", "shape": [1], "data": [script]}
    return post(name, "caller", document([given]))


def _call(
    do: str = "exec", model: str = "identity", more: Mapping[str, Any] = _NOTHING, **changes: Any
) -> dict[str, Any]:
    return {"do": do, "model": model, "inputs": _FLOATS, "more": more, **changes}


def _many(do: str, count: int, deed: str = "behave") -> dict[str, Any]:
    more = {"parameters": {"do": deed}}
    return _call(do, "decoupled", more, inputs={"IN": ["int32", [count]]})


def _unruly(deed: str) -> Http:
    return _run(f"a model that does: {deed}", _call("exec", "unruly", {"parameters": {"do": deed}}))


def _seen(name: str, **more: Any) -> Http:
    given = {"IN": ["text", ["x"]]}
    return _run(f"told {name}", _call("exec", "seen", more, inputs=given))


def _pair(name: str, inputs: tuple[str, ...], outputs: list[str]) -> Http:
    given = {each: ["float32", [1, 2]] for each in inputs}
    return _run(name, _call("exec", "optional", inputs=given, outputs=outputs))


_START: list[Step] = [
    Http("load", "POST", "/v2/repository/models/caller/load"),
    Settled("caller", "READY"),
    _run("in initialize", "initialize"),
]

_CALLS: list[Step] = [
    *(_run(f"by {do}", _call(do)) for do in ("exec", "async", "thread", "without loop")),
    _run("by gather", _call("gather", times=10)),
    _run("by threads", _call("threads", times=8)),
    _run("an ensemble", _call("exec", "single")),
    _run("an unknown model", _call("exec", "nope")),
    _run("a model without a name", _call("exec", "")),
    _run("a model that is not loaded", _call("exec", "idle")),
    *(
        _run(f"version {version}", _call("exec", "versions", {"model_version": version}))
        for version in (-1, 1, 3, 2, 0, -2)
    ),
    *(
        _run(f"{what} by {do}", _call(do, model, times=3, **changes))
        for do in ("async", "thread", "gather", "threads")
        for what, model, changes in (
            ("an unknown model", "nope", {}),
            ("an ensemble", "single", {}),
            ("a version", "versions", {"more": {"model_version": 1}}),
            ("an unknown output", "identity", {"outputs": ["NOPE"]}),
            ("no inputs", "identity", {"inputs": {}}),
        )
    ),
    _run("no outputs wanted", _call(outputs=[])),
    _run("an unknown output", _call(outputs=["NOPE"])),
    _run("an output twice", _call(outputs=["OUT", "OUT"])),
    _run("no inputs", _call(inputs={})),
    _run("an unknown input", _call(inputs={"NOPE": _FLOATS["IN"]})),
    _run("another datatype", _call(inputs={"IN": ["int32", [1, 2, 3, 4]]})),
    _run("another shape", _call(inputs={"IN": ["float32", [1, 2, 3]]})),
    _pair("an optional input", ("A",), ["OA"]),
    _pair("an output that is missing", ("A",), ["OA", "OB"]),
    _pair("both", ("A", "B"), ["OB", "OA"]),
    *map(
        _unruly,
        (
            "behave",
            "error UNAVAILABLE",
            "plain error",
            "no outputs",
            "other shape",
            "other datatype",
            "no elements",
        ),
    ),
]

_TOLD: list[Step] = [
    _seen("nothing"),
    _seen("an id", request_id="r7"),
    _seen("the start of a sequence", correlation_id=5, flags=1),
    _seen("the id of a sequence as text", correlation_id="s", flags=3),
    _seen("unknown flags", flags=8),
    _seen("a timeout", timeout=1_000_000),
    _seen("parameters", parameters={"a": True, "b": 3, "c": "x"}),
    _seen("a parameter of another type", parameters={"a": 1.5}),
    _seen("a correlation id of another type", correlation_id=1.5),
]

_DECOUPLED: list[Step] = [
    _run("without saying so", _many("exec", 2)),
    _run("without saying so, awaited", _many("async", 2)),
    _run("three responses", _many("exec decoupled", 3)),
    _run("no response", _many("exec decoupled", 0)),
    _run("awaited", _many("async decoupled", 2)),
    _run("replayed", _many("replay", 2)),
    _run("the last one has tensors", _many("exec decoupled", 2, "end with a response")),
    _run("an error in the middle", _many("exec decoupled", 4, "fail in the middle")),
    _run("another model", _call("exec decoupled")),
    _run("another model replayed", _call("replay")),
    _run("an unknown model as such", _call("exec decoupled", "nope")),
]

_WHOLE = (
    '{"backend":"python","max_batch_size":4,"input":[{"name":"IN","data_type":"TYPE_FP32",'
    '"dims":[4]}],"output":[{"name":"OUT","data_type":"TYPE_FP32","dims":[4]}]}'
)


def _about(do: str, model: str, **more: Any) -> dict[str, Any]:
    return {"do": do, "model": model, **more}


_CONTROL: list[Step] = [
    _run("is ready", _about("ready", "identity")),
    _run("is ready in a version", _about("ready", "identity", version="1")),
    _run("is ready in no such version", _about("ready", "identity", version="7")),
    _run("is an unknown one ready", _about("ready", "nope")),
    _run("is an idle one ready", _about("ready", "idle")),
    _run("load and unload", _about("load", "idle"), _about("ready", "idle"), _call(model="idle"),
         _about("unload", "idle")),
    _run("load an unknown one", _about("load", "nope")),
    _run("unload an unknown one", _about("unload", "nope")),
    _run("load by another configuration", _about("load", "idle", config=_WHOLE),
         _call(model="idle", inputs={"IN": ["float32", [1, 2, 3, 4]]})),
]  # fmt: skip

AREAS = [
    Area("calls", CALLS, [*_START, *_CALLS]),
    Area("what calls are told", CALLS, _TOLD),
    Area("calls of decoupled models", CALLS, _DECOUPLED),
    Area("models control models", CALLS, _CONTROL),
]
