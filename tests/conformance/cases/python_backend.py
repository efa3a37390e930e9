"""Python models that go wrong, those that answer many times, and the statistics of both."""

from __future__ import annotations

from typing import Any

from ..case import Area, Case, Counted, Document, Grpc, Http, Step, Stream
from ..requests import ask, call, document, message, post, wire_tensor
from ..setups import BACKEND

_DEEDS = (
    "behave", "raise", "raise a model exception", "return no responses", "return two responses",
    "return a text", "return a response", "return a tuple", "unknown output", "no outputs",
    "other datatype", "other shape", "no elements", "scalar",  "plain error",
    "error without text", "error and tensor", "parameters",
)  # fmt: skip
_HTTP_ALONE = ("behave", "scalar", "no elements", "raise a model exception")
_CODES = (
    "UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED",
    "ALREADY_EXISTS", "CANCELLED",
)  # fmt: skip


def _do(deed: str, name: str = "", model: str = "unruly", **more: Any) -> Http:
    body = document(id="r7", parameters={"do": deed}, outputs=more.pop("outputs", ...))
    found = post(f"HTTP {name or deed}", model, body)
    return Http(found.name, found.method, found.path, found.body, **more)


def _call(deed: str, model: str = "unruly") -> Grpc:
    return call(f"gRPC {deed}", model, given={"do": deed}, id="r7")


_WRONG: list[Step] = [
    *(_do(deed) for deed in _DEEDS),
    *(_do(f"error {code}") for code in _CODES),
    *(_call(deed) for deed in _DEEDS if deed not in _HTTP_ALONE),
    *(_call(f"error {code}") for code in _CODES),
    _do("no outputs", "no outputs, one listed", outputs=[{"name": "OUT"}]),
    _do("unknown output", "unknown output, one listed", outputs=[{"name": "OUT"}]),
    _do(
        "other datatype",
        "other datatype as binary",
        outputs=[{"name": "OUT", "parameters": {"binary_data": True}}],
    ),
    _do("return None", unanswered=True),
    _do("behave", "behave after all that"),
]

_DYING: list[Step] = [
    _do("exit", "exit", "mortal"),
    Http("others after an exit", "POST", "/v2/models/identity/infer", ask("").body),
]


def _many(count: int, do: str = "behave", **more: Any) -> Document:
    given: dict[str, Any] = {"do": do, **more.pop("given", {})}
    inputs = [wire_tensor("IN", "INT32", [1], int_contents=[count])]
    return message("decoupled", inputs, [], given=given, id=f"{do} {count}", **more)


_EMPTY_FINAL = {"triton_enable_empty_final_response": True}

_STREAMS: list[Case] = [
    Stream("one", [_many(1)]),
    Stream("three", [_many(3)]),
    Stream("none", [_many(0)]),
    Stream("none with an empty end", [_many(0, given=_EMPTY_FINAL)]),
    Stream("three with an empty end", [_many(3, given=_EMPTY_FINAL)]),
    Stream("end with a response", [_many(3, "end with a response")]),
    Stream(
        "end with a response and empty ends", [_many(3, "end with a response", given=_EMPTY_FINAL)]
    ),
    Stream("fail in the middle", [_many(3, "fail in the middle")]),
    Stream(
        "fail in the middle with an empty end", [_many(3, "fail in the middle", given=_EMPTY_FINAL)]
    ),
    Stream("raise", [_many(1, "raise")]),
    Stream("several", [_many(3), _many(2), _many(4)], ["streams_by_request"]),
    Stream(
        "an ordinary model among them", [_many(3), message(id="ordinary")], ["streams_by_request"]
    ),
    Stream(
        "an ordinary model that fails",
        [
            message("unruly", given={"do": "raise"}, id="a"),
        ],
    ),
    Stream(
        "an ordinary model with an error",
        [
            message("unruly", given={"do": "error UNAVAILABLE"}, id="a"),
            message("unruly", given={"do": "behave"}, id="b"),
        ],
    ),
    Stream(
        "an ordinary model with parameters",
        [
            message("unruly", given={"do": "parameters"}, id="a"),
        ],
    ),
    Grpc("unary", "ModelInfer", _many(1)),
    post(
        "HTTP",
        "decoupled",
        document([{"name": "IN", "datatype": "INT32", "shape": [1], "data": [1]}]),
    ),
    Http("config", "GET", "/v2/models/decoupled/config", b"", {}, ("keys_in_any_order",)),
]


def _statistics(name: str, model: str, version: str = "") -> list[Step]:
    where = f"{model}/versions/{version}" if version else model
    fields = {"name": model, "version": version}
    return [
        Http(f"HTTP {name}", "GET", f"/v2/models/{where}/stats", b"", {}, ("durations",)),
        Grpc(f"gRPC {name}", "ModelStatistics", fields, ("durations",)),
    ]


def _counted(name: str, shape: list[int]) -> Http:
    count = shape[0] * shape[1]
    given = {"name": "IN", "datatype": "FP32", "shape": shape, "data": [1] * count}
    return post(name, "counted", document([given]))


_COUNTED: list[Step] = [
    *_statistics("of nothing", "counted"),
    _counted("one", [1, 2]),
    Counted("counted", 1),
    *_statistics("of one", "counted"),
    _counted("three", [3, 2]),
    _counted("three again", [3, 1]),
    Counted("counted", 3),
    *_statistics("of batches", "counted"),
    _counted("too many", [5, 1]),
    *_statistics("after a refusal", "counted"),
    _do("return a text", "failing", "counted_failures"),
    Counted("counted_failures", 1),
    *_statistics("after a failure", "counted_failures"),
    _do("plain error", "error", "counted_failures"),
    Counted("counted_failures", 2),
    *_statistics("after an error", "counted_failures"),
    _do("behave", "good", "counted_failures"),
    Counted("counted_failures", 3),
    *_statistics("after success", "counted_failures"),
    *_statistics("of a version", "counted", "1"),
    *_statistics("of an unknown version", "counted", "9"),
    *_statistics("of an unknown model", "nope"),
    Http("HTTP of a text version", "GET", "/v2/models/counted/versions/x/stats"),
    Grpc("gRPC of a text version", "ModelStatistics", {"name": "counted", "version": "x"}),
    Grpc("gRPC of all", "ModelStatistics", {}, ("durations", "names_alone")),
    Http("HTTP of all", "GET", "/v2/models/stats", b"", {}, ("durations", "names_alone")),
]

_RESPONSES: list[Step] = [
    Stream("three", [{**_many(3), "model_name": "counted_responses"}]),
    Stream("a failure", [{**_many(3, "fail in the middle"), "model_name": "counted_responses"}]),
    Stream("none", [{**_many(0), "model_name": "counted_responses"}]),
    Counted("counted_responses", 3),
    *_statistics("of responses", "counted_responses"),
]

AREAS = [
    Area("statistics", BACKEND, _COUNTED),
    Area("statistics of responses", BACKEND, _RESPONSES),
    Area("python", BACKEND, _WRONG),
    Area("decoupled", BACKEND, _STREAMS),
    Area("python that dies", BACKEND, _DYING),
]
