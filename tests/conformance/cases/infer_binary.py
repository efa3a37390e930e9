"""Binary tensors over HTTP: header lengths, sizes, raw requests, compression, chunks."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from ..case import Area, Case, Document, Http
from ..requests import F4, ask, behind, binary, document, path, post, tensor
from ..setups import PROTOCOL

_BINARY = {"binary_data": True}
_LENGTH = "Inference-Header-Content-Length"


def _one(name: str, request: Document, *blobs: bytes, **more: Any) -> Case:
    return binary(name, "identity", request, *blobs, **more)


def _size(name: str, size: Any, blob: bytes) -> Case:
    given = tensor(data=..., parameters={"binary_data_size": size})
    return _one(f"size {name}", document([given]), blob)


def _flag(name: str, value: Any) -> Case:
    return ask(
        f"binary_data {name}", outputs=[{"name": "OUT", "parameters": {"binary_data": value}}]
    )


_GOOD = document([behind()])
_HEAD = json.dumps(_GOOD).encode()


def _length(value: str, body: bytes = _HEAD + F4) -> Case:
    return post(f"header length {value!r}", "identity", body, headers={_LENGTH: value})


_TENSORS: list[Case] = [
    _one("in", _GOOD, F4),
    _one("in and out", document([behind()], [{"name": "OUT", "parameters": _BINARY}]), F4),
    ask("out alone", outputs=[{"name": "OUT", "parameters": _BINARY}]),
    ask("all out", parameters={"binary_data_output": True}),
    ask("all out, one listed", parameters={"binary_data_output": True}, outputs=[{"name": "OUT"}]),
    ask("all out, none listed", parameters={"binary_data_output": True}, outputs=[]),
    ask(
        "all out but one",
        parameters={"binary_data_output": True},
        outputs=[{"name": "OUT", "parameters": {"binary_data": False}}],
    ),
    ask("all out is no boolean", parameters={"binary_data_output": 3}),
    _flag("a number", 1),
    _flag("a text", "true"),
    _flag("null", None),
    _one("truncated", _GOOD, F4[:10]),
    _one("absent", _GOOD),
    _one("more than announced", _GOOD, F4, b"zz"),
    _size("too small", 12, F4[:12]),
    _size("too large", 20, F4 + F4[:4]),
    _size("negative", -1, F4),
    _size("a text", "16", F4),
    _size("a float", 16.0, F4),
    _size("null", None, F4),
    _size("zero", 0, b""),
    _size("huge", 2**40, F4),
    _size("beyond 64 bits", 2**64, F4),
    post("without header", "identity", _HEAD),
    post("behind the document, without header", "identity", _HEAD + F4),
    *(
        _length(value)
        for value in (
            "5",
            "-1",
            "abc",
            "",
            "999999",
            "99999999999999",
            "1.5",
            "0x10",
            "16 16",
            str(len(_HEAD + F4)),
            f" {len(_HEAD)} ",
            f"+{len(_HEAD)}",
            f"{len(_HEAD)}x",
        )
    ),
    _length(str(len(json.dumps(document()))), json.dumps(document()).encode()),
    post("lower-case header", "identity", _HEAD + F4, headers={_LENGTH.lower(): str(len(_HEAD))}),
    binary(
        "pair",
        "pair",
        document(
            [
                behind(16, name="A", shape=[2, 2]),
                behind(8, name="B", datatype="INT32", shape=[2, 1]),
            ],
            [{"name": "OB", "parameters": _BINARY}, {"name": "OA", "parameters": _BINARY}],
        ),
        F4,
        b"\1\0\0\0\2\0\0\0",
    ),
    binary(
        "pair mixed",
        "pair",
        document(
            [
                tensor(name="A", shape=[2, 2]),
                behind(8, name="B", datatype="INT32", shape=[2, 1]),
            ],
            [{"name": "OB"}, {"name": "OA", "parameters": _BINARY}],
        ),
        b"\1\0\0\0\2\0\0\0",
    ),
    binary(
        "pair one truncated",
        "pair",
        document(
            [
                behind(16, name="A", shape=[2, 2]),
                behind(8, name="B", datatype="INT32", shape=[2, 1]),
            ],
        ),
        F4,
        b"\1\0\0",
    ),
    binary(
        "empty output",
        "dynamic",
        document([behind(0, shape=[1, 0])], [{"name": "OUT", "parameters": _BINARY}]),
    ),
    binary("unknown model", "nope", _GOOD, F4),
]


def _raw(name: str, model: str, body: bytes) -> Case:
    return post(f"raw {name}", model, body, headers={_LENGTH: "0"})


_RAW: list[Case] = [
    _raw("good", "identity", F4),
    _raw("too short", "identity", F4[:12]),
    _raw("too long", "identity", F4 + F4),
    _raw("empty", "identity", b""),
    _raw("for two inputs", "pair", F4),
    _raw("for an optional input", "optional", F4[:8]),
    _raw("of any size", "dynamic", F4),
    _raw("of an odd size", "dynamic", F4[:7]),
    _raw("of no size", "dynamic", b""),
    _raw("text", "text", b"hello"),
    _raw("empty text", "text", b""),
    _raw("texts", "texts", b"hello"),
    _raw("reshaped", "described", bytes(24)),
    _raw("completed", "completed", F4),
    _raw("unknown model", "nope", F4),
    _raw("version", "versions/1", F4),
    Http("raw without a length", "POST", path("identity"), b"", {"Content-Length": None}),
]

_JSON = json.dumps(document()).encode()


def _encoded(name: str, encoding: str, body: bytes, **more: Any) -> Case:
    return post(
        f"encoding {name}", "identity", body, headers={"Content-Encoding": encoding, **more}
    )


def _accepted(value: str) -> Case:
    return post(f"accept {value!r}", "identity", _JSON, headers={"Accept-Encoding": value})


_LARGE = document([behind(4000, shape=[1, 1000])], [{"name": "OUT", "parameters": _BINARY}])

_COMPRESSED: list[Case] = [
    _encoded("gzip", "gzip", gzip.compress(_JSON, mtime=0)),
    _encoded("deflate", "deflate", zlib.compress(_JSON)),
    _encoded("gzip called deflate", "deflate", gzip.compress(_JSON, mtime=0)),
    _encoded("identity", "identity", _JSON),
    _encoded("unknown", "br", _JSON),
    _encoded("empty", "", _JSON),
    _encoded("in capitals", "GZIP", gzip.compress(_JSON, mtime=0)),
    _encoded("two", "gzip, deflate", gzip.compress(_JSON, mtime=0)),
    _encoded("broken", "gzip", b"hello"),
    _encoded("cut", "gzip", gzip.compress(_JSON, mtime=0)[:-12]),
    _encoded("of blanks", "gzip", gzip.compress(b" " * 100000, mtime=0)),
    _encoded(
        "with binary", "gzip", gzip.compress(_HEAD + F4, mtime=0), **{_LENGTH: str(len(_HEAD))}
    ),
    *(
        _accepted(value)
        for value in (
            "gzip",
            "deflate",
            "*",
            "identity",
            "br",
            "",
            "gzip;q=0",
            "gzip, deflate",
            "deflate;q=0.5, gzip;q=0.1, br",
            "gzip;q=0.5, deflate;q=0.9",
            "identity;q=1, gzip;q=0.5",
            "GZIP",
            "gzip;q=x",
        )
    ),
    binary(
        "accept gzip of binary", "dynamic", _LARGE, bytes(4000), headers={"Accept-Encoding": "gzip"}
    ),
    Http("accept gzip of an error", "POST", path("identity"), b"{}", {"Accept-Encoding": "gzip"}),
    Http("accept gzip of metadata", "GET", "/v2/models/identity", b"", {"Accept-Encoding": "gzip"}),
    Http("expect 100", "POST", path("identity"), _JSON, {"Expect": "100-continue"}),
    Http("content type", "POST", path("identity"), _JSON, {"Content-Type": "text/html"}),
    Http(
        "chunked",
        "POST",
        path("identity"),
        b"14\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (_HEAD[:20], len(_HEAD) - 4, _HEAD[20:] + F4),
        {"Transfer-Encoding": "chunked", _LENGTH: str(len(_HEAD))},
    ),
]

AREAS = [
    Area("binary", PROTOCOL, _TENSORS),
    Area("binary raw", PROTOCOL, _RAW),
    Area("binary encodings", PROTOCOL, _COMPRESSED),
]
