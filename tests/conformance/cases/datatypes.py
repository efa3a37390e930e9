"""Every datatype as JSON, as binary data and as typed contents, both ways."""

from __future__ import annotations

import struct
from typing import Any

from ..case import Area, Case
from ..model_files import DATATYPES
from ..requests import behind, binary, call, document, post, tensor, wire_tensor
from ..setups import PROTOCOL

_BITS = {"8": "b", "16": "h", "32": "i", "64": "q"}


def _json(datatype: str, name: str, data: list[Any]) -> Case:
    given = tensor(name=f"IN_{datatype}", datatype=datatype, shape=[len(data)], data=data)
    wanted = [{"name": f"OUT_{datatype}"}]
    return post(f"{datatype} JSON {name}", "types", document([given], wanted))


def _binary(datatype: str, name: str, count: int, blob: bytes, *, as_binary: bool = True) -> Case:
    given = behind(len(blob), name=f"IN_{datatype}", datatype=datatype, shape=[count])
    wanted = [{"name": f"OUT_{datatype}", "parameters": {"binary_data": as_binary}}]
    how = "binary" if as_binary else "binary to JSON"
    return binary(f"{datatype} {how} {name}", "types", document([given], wanted), blob)


def _raw(datatype: str, name: str, count: int, blob: bytes) -> Case:
    given = wire_tensor(f"IN_{datatype}", datatype, [count])
    return call(f"{datatype} raw {name}", "types", [given], [blob], {f"OUT_{datatype}": {}})


def _typed(datatype: str, name: str, count: int, **contents: Any) -> Case:
    given = wire_tensor(f"IN_{datatype}", datatype, [count], **contents)
    return call(f"{datatype} typed {name}", "types", [given], [], {f"OUT_{datatype}": {}})


def _integers(datatype: str) -> list[Case]:
    bits = int(datatype.lstrip("UINT"))
    signed = datatype.startswith("INT")
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    code = _BITS[str(bits)] if signed else _BITS[str(bits)].upper()
    blob = struct.pack(f"<2{code}", lowest, highest)
    field = {True: "int_contents", False: "uint_contents"}[signed]
    if bits == 64:
        field = {True: "int64_contents", False: "uint64_contents"}[signed]
    return [
        _json(datatype, "limits", [lowest, highest]),
        _json(datatype, "beyond", [lowest - 1, highest + 1]),
        _json(datatype, "above", [highest + 1, 0]),
        _json(datatype, "floats", [1.0, 2.5]),
        _json(datatype, "exponents", [1e3, 2.0]),
        _json(datatype, "texts", ["1", "2"]),
        _json(datatype, "booleans", [True, False]),
        _binary(datatype, "limits", 2, blob),
        _binary(datatype, "limits", 2, blob, as_binary=False),
        _binary(datatype, "too short", 2, blob[:-1]),
        _raw(datatype, "limits", 2, blob),
        _typed(datatype, "limits", 2, **{field: [lowest, highest]}),
        _typed(datatype, "in another field", 1, fp64_contents=[1]),
    ]


def _floats(datatype: str, code: str) -> list[Case]:
    blob = struct.pack(f"<3{code}", 0.1, float("-inf"), 2)
    field = {"FP32": "fp32_contents", "FP64": "fp64_contents"}.get(datatype, "fp32_contents")
    return [
        _json(datatype, "numbers", [0.1, 1, -2.5]),
        _json(datatype, "thirds", [1 / 3, 2.5e-10, 123456789012345678]),
        _json(datatype, "round numbers", [1e15, 1e16, 1e17, 1e20, 1e21, 1e22, 100000.0, 0.001]),
        _json(datatype, "small numbers", [1e-4, 1e-5, 1e-6, 1e-7, 1.5e-7, 123e-10]),
        _json(datatype, "texts", ["1", "2"]),
        _binary(datatype, "numbers", 3, blob),
        _binary(datatype, "numbers", 3, blob, as_binary=False),
        _binary(datatype, "none", 0, b""),
        _binary(datatype, "none", 0, b"", as_binary=False),
        _raw(datatype, "numbers", 3, blob),
        _raw(datatype, "none", 0, b""),
        _typed(datatype, "numbers", 3, **{field: [0.1, -1, 2]}),
    ]


_BF16 = b"\x80\x3f\x00\x40"
_TEXTS = b"\1\0\0\0a\3\0\0\0bcd"

_OTHERS: list[Case] = [
    _json("BOOL", "values", [True, False]),
    _json("BOOL", "numbers", [1, 0]),
    _json("BOOL", "texts", ["a", "b"]),
    _binary("BOOL", "values", 2, b"\1\0"),
    _binary("BOOL", "values", 2, b"\1\0", as_binary=False),
    _binary("BOOL", "other bytes", 2, b"\2\xff"),
    _raw("BOOL", "values", 2, b"\1\0"),
    _typed("BOOL", "values", 2, bool_contents=[True, False]),
    _json("BF16", "numbers", [1, 2]),
    _binary("BF16", "numbers", 2, _BF16),
    _binary("BF16", "numbers", 2, _BF16, as_binary=False),
    _raw("BF16", "numbers", 2, _BF16),
    _typed("BF16", "numbers", 2, fp32_contents=[1, 2]),
    _json("BYTES", "texts", ['a"b\\c/', "é\n\t\u0001"]),
    _json("BYTES", "empty text", ["", "x"]),
    _json("BYTES", "emoji and zero", ["\U0001f600", "\0"]),
    _json("BYTES", "line separators", ["\u2028\u2029", "\x7f\x80"]),
    _json("BYTES", "numbers", [1, 2]),
    _json("BYTES", "nulls", [None, "a"]),
    _json("BYTES", "none", []),
    _binary("BYTES", "texts", 2, _TEXTS),
    _binary("BYTES", "texts", 2, _TEXTS, as_binary=False),
    _binary("BYTES", "not UTF-8", 1, b"\2\0\0\0\xff\xfe", as_binary=False),
    _binary("BYTES", "truncated element", 2, _TEXTS[:-2]),
    _binary("BYTES", "truncated length", 2, _TEXTS[:7]),
    _binary("BYTES", "too few elements", 2, _TEXTS[:5]),
    _binary("BYTES", "too many elements", 1, _TEXTS),
    _binary("BYTES", "nothing", 2, b""),
    _binary("BYTES", "none", 0, b""),
    _raw("BYTES", "texts", 2, _TEXTS),
    _raw("BYTES", "truncated", 2, _TEXTS[:-2]),
    _typed("BYTES", "texts", 2, bytes_contents=[b"a", b""]),
    _typed("BYTES", "too few", 2, bytes_contents=[b"a"]),
    _typed("BYTES", "too many", 1, bytes_contents=[b"a", b"b"]),
    _typed("INT8", "too large", 2, int_contents=[300, -300]),
    _typed("UINT8", "too large", 2, uint_contents=[300, 1]),
    _typed("INT16", "too large", 2, int_contents=[70000, -70000]),
    _typed("UINT16", "too large", 1, uint_contents=[70000]),
]

_ALL_AT_ONCE = binary(
    "all at once, mixed",
    "types",
    document(
        [
            tensor(name="IN_FP32", data=[0.5, 1, 2, 3]),
            behind(4, name="IN_FP16", datatype="FP16", shape=[2]),
            tensor(name="IN_BYTES", datatype="BYTES", shape=[2], data=["a", "b"]),
            behind(4, name="IN_BF16", datatype="BF16", shape=[2]),
            tensor(name="IN_BOOL", datatype="BOOL", shape=[1], data=[True]),
        ],
        [
            {"name": "OUT_BOOL"},
            {"name": "OUT_FP16", "parameters": {"binary_data": True}},
            {"name": "OUT_BYTES", "parameters": {"binary_data": True}},
            {"name": "OUT_BF16", "parameters": {"binary_data": True}},
            {"name": "OUT_FP32"},
        ],
    ),
    b"\0\x3c\0\x40",
    _BF16,
)

_CASES: list[Case] = [
    *(case for name in DATATYPES if "INT" in name for case in _integers(name)),
    *_floats("FP16", "e"),
    *_floats("FP32", "f"),
    *_floats("FP64", "d"),
    *_OTHERS,
    _ALL_AT_ONCE,
]

AREAS = [Area("datatypes", PROTOCOL, _CASES)]
