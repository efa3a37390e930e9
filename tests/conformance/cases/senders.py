"""What response senders allow and refuse, with and without the decoupled policy, and coroutines."""

from __future__ import annotations

from ..case import Area, Document, Http, Step, Stream
from ..requests import document, message, post, wire_tensor
from ..setups import SENDERS

_ONCE = (
    "answer from a thread", "send and return a response", "unknown flags", "nothing to send",
    "send after the end", "use another sender", "send twice", "end at once", "end with an error",
    "send an error first",
)  # fmt: skip
_MANY = (
    "answer from a thread", "send and return a response", "unknown flags", "nothing to send",
    "send after the end", "use another sender", "send twice", "end with an error",
    "send an error first", "raise after sending",
)  # fmt: skip


def _post(deed: str, model: str, name: str = "") -> Http:
    given = {"name": "IN", "datatype": "INT32", "shape": [1], "data": [1]}
    body = document([given], id="r7", parameters={"do": deed})
    return post(name or deed, model, body)


def _stream(deed: str, model: str, name: str = "") -> Stream:
    request: Document = message(
        model,
        [wire_tensor("IN", "INT32", [1], int_contents=[1])],
        [],
        given={"do": deed, "triton_enable_empty_final_response": True},
        id="r7",
    )
    return Stream(name or deed, [request])


_SENDING: list[Step] = [
    step
    for deed in _ONCE
    for step in (_post(deed, "once"), _post("tell", "once", f"told of {deed}"))
]
_STREAMING: list[Step] = [
    step
    for deed in _MANY
    for step in (_stream(deed, "many"), _stream("tell", "many", f"told of {deed}"))
]
_AWAITED: list[Step] = [
    *(
        _post(deed, "awaited")
        for deed in ("behave", "raise", "return a text", "return no responses")
    ),
    _stream("behave", "awaited", "behave on a stream"),
    *(
        _stream(deed, "awaited_many", f"{deed}, decoupled")
        for deed in ("three", "later")  # with an exception the real server leaves its client alone
    ),
]

AREAS = [
    Area("senders", SENDERS, _SENDING),
    Area("decoupled senders", SENDERS, _STREAMING),
    Area("coroutines", SENDERS, _AWAITED),
]
