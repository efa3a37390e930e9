"""Inference over HTTP with JSON alone: requests that are right, and every way to be wrong."""

from __future__ import annotations

import json
from typing import Any

from ..case import Area, Case, Document
from ..requests import ask, document, post, tensor
from ..setups import PROTOCOL


def _data(name: str, data: Any, **more: Any) -> Case:
    return ask(f"data {name}", [tensor(data=data, **more)])


def _tokens(name: str, tokens: str) -> Case:
    text = json.dumps(document([tensor(data=["tokens"])]))
    return post(f"tokens {name}", "identity", text.replace('"tokens"', tokens))


def _body(name: str, body: str | bytes) -> Case:
    return post(f"body {name}", "identity", body)


_GOOD = json.dumps(document())

_REQUESTS: list[Case] = [
    ask("good", id="abc"),
    ask("outputs listed", outputs=[{"name": "OUT"}]),
    ask("outputs empty", outputs=[]),
    ask("output with parameters", outputs=[{"name": "OUT", "parameters": {"foo": 1}}]),
    ask("input with parameters", [tensor(parameters={"foo": 1})]),
    post("version", "identity/1", document()),
    post("one of two versions", "versions/1", document()),
    post("latest version", "versions", document()),
    post("unknown version", "identity/9", document()),
    post("text version", "identity/x", document()),
    post("unknown model", "nope", document()),
    post("unknown model, no JSON", "nope", "{"),
    ask("id empty", id=""),
    ask("id not ASCII", id="ä\u2028\U0001f600"),
    ask("id with quotes", id='a"b\\c/d\n'),
    ask("id a number", id=5),
    ask("id null", id=None),
    ask("unknown members", [tensor(bar=2)], foo=1),
    post("model name in the document", "identity", document(model_name="other")),
]

_INPUTS: list[Case] = [
    ask("wrong shape", [tensor(shape=[5], data=[1] * 5)]),
    ask("wrong shape with an id", [tensor(shape=[5], data=[1] * 5)], id="my id"),
    ask("wrong rank", [tensor(shape=[1, 4])]),
    ask("wrong datatype", [tensor(datatype="INT32")]),
    ask("invalid datatype", [tensor(datatype="FLOAT")]),
    ask("datatype in lower case", [tensor(datatype="fp32")]),
    ask("datatype with prefix", [tensor(datatype="TYPE_FP32")]),
    ask("datatype empty", [tensor(datatype="")]),
    ask("datatype a number", [tensor(datatype=11)]),
    ask("wrong name", [tensor(name="X")]),
    ask("name empty", [tensor(name="")]),
    ask("name a number", [tensor(name=3)]),
    ask("wrong output", outputs=[{"name": "X"}]),
    ask("output name a number", outputs=[{"name": 3}]),
    ask("output without name", outputs=[{}]),
    ask("output twice", outputs=[{"name": "OUT"}, {"name": "OUT"}]),
    ask("outputs a number", outputs=3),
    ask("outputs null", outputs=None),
    ask("outputs an object", outputs={"name": "OUT"}),
    ask("outputs of texts", outputs=["OUT"]),
    ask("input twice", [tensor(), tensor()]),
    ask("no inputs", []),
    _body("without inputs", "{}"),
    _body("inputs a number", '{"inputs": 5}'),
    _body("inputs null", '{"inputs": null}'),
    _body("inputs an object", '{"inputs": {}}'),
    _body("inputs of numbers", '{"inputs": [5]}'),
    _body("inputs of nulls", '{"inputs": [null]}'),
    ask("without name", [tensor(name=...)]),
    ask("without datatype", [tensor(datatype=...)]),
    ask("without shape", [tensor(shape=...)]),
    ask("without data", [tensor(data=...)]),
    ask("input parameters a list", [tensor(parameters=[])]),
    ask("input parameters null", [tensor(parameters=None)]),
    ask("data and binary data", [tensor(parameters={"binary_data_size": 16})]),
    ask("shape a number", [tensor(shape=4)]),
    ask("shape null", [tensor(shape=None)]),
    ask("shape of texts", [tensor(shape=["4"])]),
    ask("shape of floats", [tensor(shape=[4.0])]),
    ask("shape of booleans", [tensor(shape=[True])]),
    ask("shape negative", [tensor(shape=[-4])]),
    ask("shape huge", [tensor(shape=[2**62, 4])]),
    ask("shape beyond 64 bits", [tensor(shape=[2**64])]),
    ask("shape beyond signed 64 bits", [tensor(shape=[2**63])]),
    ask("shape empty", [tensor(shape=[], data=[1])]),
    ask("shape nested", [tensor(shape=[[4]])]),
]

_DATA: list[Case] = [
    _data("too short", [1, 2, 3]),
    _data("too long", [1, 2, 3, 4, 5]),
    _data("nested", [[1, 2], [3, [4]]]),
    _data("nested as the shape", [[1, 2, 3, 4]]),
    _data("a number", 1),
    _data("an object", {"a": 1}),
    _data("null", None),
    _data("a text", "1234"),
    _data("empty", []),
    _data("empty lists", [[], []]),
    _data("of texts", ["1", "2", "3", "4"]),
    _data("of booleans", [True, False, True, True]),
    _data("with a null", [1, None, 3, 4]),
    _data("with an object", [1, {}, 3, 4]),
    _data("for no elements", [], shape=[0]),
    _tokens("special", "NaN,Infinity,-Infinity,1"),
    _tokens("Inf", "NaN,Inf,-Inf,1"),
    _tokens("nan in lower case", "nan,1,2,3"),
    _tokens("too large for a double", "1e400,1,2,3"),
    _tokens("too large for a float", "1e39,-1e39,1e38,1"),
    _tokens("too small", "1e-400,1e-46,1e-45,1e-38"),
    _tokens("forms", "1e10,0.1,-0.0,123456789"),
    _tokens("more forms", "1e-7,1e21,3.4028235e38,16777217"),
    _tokens("capital exponents", "1E2,1E+2,1E-2,0e0"),
    _tokens("large integers", "18446744073709551615,18446744073709551616,-9223372036854775809,1"),
    _tokens("leading zero", "01,1,2,3"),
    _tokens("leading plus", "+1,1,2,3"),
    _tokens("no digit before the point", ".5,1,2,3"),
    _tokens("no digit behind the point", "5.,1,2,3"),
    _tokens("hexadecimal", "0x10,1,2,3"),
    _tokens("trailing comma", "1,2,3,4,"),
    _tokens("two commas", "1,,2,3,4"),
]

_BODIES: list[Case] = [
    _body("empty", ""),
    _body("of text", "hello"),
    _body("unfinished", '{"inputs":['),
    _body("unfinished text", '{"inputs":"'),
    _body("trailing comma", '{"inputs":[],}'),
    _body("missing colon", '{"inputs" []}'),
    _body("missing comma", '{"id":"a" "inputs":[]}'),
    _body("a list", "[]"),
    _body("a number", "5"),
    _body("null", "null"),
    _body("text behind", f"{_GOOD}x"),
    _body("blanks behind", f"{_GOOD} \r\n\t"),
    _body("zero byte behind", f"{_GOOD}\0"),
    _body("blanks before", f" \n{_GOOD}"),
    _body("comments", f"/* c */{_GOOD}"),
    _body("single quotes", "{'inputs':[]}"),
    _body("byte order mark", b"\xef\xbb\xbf" + _GOOD.encode()),
    _body("invalid UTF-8", b'{"id":"\xff\xfe",' + _GOOD[1:].encode()),
    _body("control character", b'{"id":"a\x01b",' + _GOOD[1:].encode()),
    _body("bad escape", '{"id":"\\x",' + _GOOD[1:]),
    _body("bad unicode escape", '{"id":"\\u12G4",' + _GOOD[1:]),
    _body("lone surrogate", '{"id":"\\ud83d",' + _GOOD[1:]),
    _body("same member twice", '{"id":"a","id":"b",' + _GOOD[1:]),
    _body("in UTF-16", _GOOD.encode("utf-16")),
    _body("deep", '{"inputs":' + "[" * 150 + "]" * 150 + "}"),
]


def _pair_input(name: str, **changes: Any) -> Document:
    first = {"name": "A", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
    second = {"name": "B", "datatype": "INT32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}
    return {**(first if name == "A" else second), **changes}


def _pair(name: str, first: Any = None, second: Any = None, **more: Any) -> Case:
    inputs = [_pair_input("A", **(first or {})), _pair_input("B", **(second or {}))]
    normalise = more.pop("normalise", ())
    return post(f"pair {name}", "pair", document(inputs, **more), normalise=normalise)


_BATCHED: list[Case] = [
    _pair("good"),
    _pair("outputs in another order", outputs=[{"name": "OB"}, {"name": "OA"}]),
    _pair("one output", outputs=[{"name": "OB"}]),
    post("pair inputs in another order", "pair", document([_pair_input("B"), _pair_input("A")])),
    post("pair missing one", "pair", document([_pair_input("A")])),
    post("pair missing the other", "pair", document([_pair_input("B")])),
    post(
        "pair batch too large",
        "pair",
        document(
            [
                _pair_input("A", shape=[5, 2], data=[1] * 10),
                _pair_input("B", shape=[5, 1], data=[1] * 5),
            ]
        ),
    ),
    _pair("batch of none", {"shape": [0, 2], "data": []}, {"shape": [0, 1], "data": []}),
    _pair("wrong dimension", {"shape": [2, 3], "data": [1] * 6}),
    _pair("wrong rank", {"shape": [1, 2, 2]}),
    _pair("no elements", None, {"shape": [2, 0], "data": []}),
    _pair("batch of one", {"shape": [1, 2], "data": [1, 2]}, {"shape": [1, 1], "data": [1]}),
    _pair("no shape", {"shape": [], "data": [1]}),
    post("dynamic good", "dynamic", document([tensor(shape=[2, 2])])),
    post("dynamic too large", "dynamic", document([tensor(shape=[5, 1], data=[1] * 5)])),
    post("dynamic without batch", "dynamic", document([tensor(shape=[4])])),
    post("dynamic no elements", "dynamic", document([tensor(shape=[2, 0], data=[])])),
    post("optional left out", "optional", document([tensor(name="A", shape=[2], data=[1, 2])])),
    post(
        "optional given",
        "optional",
        document([tensor(name=name, shape=[2], data=[1, 2]) for name in "AB"]),
    ),
    post("optional alone", "optional", document([tensor(name="B", shape=[2], data=[1, 2])])),
    post("optional none at all", "optional", document([])),
    post("reshaped", "described", document([tensor(shape=[1, 2, 3], data=[1, 2, 3, 4, 5, 6])])),
    post("reshaped wrong", "described", document([tensor(shape=[1, 6], data=[1] * 6)])),
    post("completed", "completed", document([tensor(shape=[2, 4], data=[1] * 8)])),
]

AREAS = [
    Area("json", PROTOCOL, [*_REQUESTS, *_INPUTS]),
    Area("json data", PROTOCOL, _DATA),
    Area("json bodies", PROTOCOL, _BODIES),
    Area("json shapes", PROTOCOL, _BATCHED),
]
