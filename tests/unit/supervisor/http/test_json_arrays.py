"""Documents as simdjson reads them: the same requests as without it, or none at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.ipc.errors import StatusError
from tritonpy.supervisor.http import json_arrays, json_document
from tritonpy.supervisor.http.json_codec import decode_request

pytest.importorskip("simdjson")

TYPES = ["BOOL", "UINT8", "UINT64", "INT8", "INT64", "FP16", "BF16", "FP32", "FP64", "BYTES"]
LIMIT = 1 << 20


def entry(datatype: str = "FP32", data: Any = (1, 2.5), **more: Any) -> dict[str, Any]:
    return {"name": "IN", "datatype": datatype, "shape": [2], "data": data, **more}


def outcome(data: bytes, monkeypatch: pytest.MonkeyPatch, least: int) -> object:
    """What becomes of a document when those from this size on are simdjson's."""
    with monkeypatch.context() as patch:
        patch.setattr(json_arrays, "LEAST_BYTES", least)
        try:
            parsed = decode_request(data, "m", None, LIMIT)
        except StatusError as error:
            return type(error), error.message
    request = parsed.request
    tensors = [(one.name, one.datatype, one.shape, _bytes(one.data)) for one in request.inputs]
    return tensors, parsed.sizes, parsed.forms, request.id, request.parameters, request.outputs


def _bytes(data: object) -> bytes:
    assert isinstance(data, memoryview)
    return bytes(data)


def assert_alike(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(data, monkeypatch, 0) == outcome(data, monkeypatch, 1 << 62)


numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-3, 3),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.1, -0.0, 1e-320, 3e38, 4e38, 1e300, 65504.0, 70000.0, 2**53 + 1, 256, -1]),
)
elements = st.one_of(numbers, st.booleans(), st.text(max_size=3), st.none())


@given(
    st.sampled_from(TYPES),
    st.one_of(
        st.lists(numbers, min_size=2, max_size=2),
        st.recursive(elements, lambda inner: st.lists(inner, max_size=3), max_leaves=6),
    ),
)
def test_whatever_a_tensor_holds_it_is_read_alike(datatype: str, data: Any) -> None:
    document = json.dumps({"inputs": [entry(datatype, data)]}).encode()
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert_alike(document, monkeypatch)


NESTED: Any = 1.5
for _ in range(120):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    "document",
    [
        {"id": "x", "parameters": {"a": 1, "b": "c", "d": 0.5}, "inputs": [entry()]},
        {"inputs": [entry(), {**entry(), "name": "IN2"}], "outputs": [{"name": "OUT"}]},
        {"inputs": [entry()], "outputs": [{"name": "O", "parameters": {"binary_data": True}}]},
        {"inputs": [{**entry(), "data": 1}]},
        {"inputs": [entry(parameters={"binary_data_size": 8})]},
        {"inputs": [{"name": "A", "datatype": "FP32", "shape": [2]}]},
        {"inputs": [entry(shape=["2"])]},
        {"inputs": [entry(shape=[0], data=[])]},
        {"inputs": [entry("FP99")]},
        {"inputs": [entry(data=NESTED, shape=[1])]},
        {"inputs": {}},
        {"inputs": [1]},
        {"inputs": []},
        {},
        [],
        5,
        None,
    ],
)
def test_whatever_a_document_says_it_is_read_alike(
    document: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_alike(json.dumps(document).encode(), monkeypatch)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'\xef\xbb\xbf{"inputs":[]}',
        json.dumps({"inputs": [entry()]}).encode() + b"x",
        json.dumps({"inputs": [entry()]}).replace("2.5", "1e999").encode(),
        json.dumps({"inputs": [entry()]}).replace("2.5", "Infinity").encode(),
        json.dumps({"inputs": [entry()]}).replace("2.5", "02.5").encode(),
        json.dumps({"inputs": [entry()]}).replace('"IN"', '"\\ud800"').encode(),
        json.dumps({"inputs": [entry()]}).replace('"IN"', '"\xff"').encode("latin-1"),
        json.dumps({"inputs": [entry()]}).replace('"name"', '"name": "A", "name"').encode(),
        json.dumps({"inputs": [entry()]}).replace('"data"', '"data": [7, 8], "data"').encode(),
        json.dumps({"inputs": [entry()], "id": "1"}).replace('"id"', '"id": "2", "id"').encode(),
    ],
)
def test_what_is_odd_or_wrong_is_read_alike(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_alike(data, monkeypatch)


@pytest.mark.parametrize("datatype", [one for one in TYPES if one not in ("BOOL", "BYTES")])
def test_lists_of_numbers_become_arrays(datatype: str) -> None:
    document = {"inputs": [entry(datatype, [[3], [4]])], "id": "7"}
    read = json_arrays.read(json.dumps(document).encode())
    assert read is not None
    assert read["id"] == "7"
    assert read["inputs"][0]["data"].tolist() == [3, 4]


def test_without_the_library_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.dumps({"inputs": [entry()]}).encode()
    monkeypatch.setattr(json_arrays, "LEAST_BYTES", 0)
    monkeypatch.setattr(json_arrays, "_simdjson", lambda: None)
    assert json_arrays.read(data) is None
    assert json_document.parse(data).inputs[0].data == [1, 2.5]
