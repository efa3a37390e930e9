"""A document that was read before gives the same request again, and no part of the earlier one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.http import documents
from tritonpy.supervisor.http.documents import Documents
from tritonpy.supervisor.http.json_codec import ParsedRequest, decode_request

LIMIT = 1 << 20


def entry(**more: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": 8}
    return {"name": "A", "datatype": "FP32", "shape": [2], "parameters": parameters, **more}


def encoded(document: dict[str, Any]) -> memoryview:
    return memoryview(json.dumps(document).encode())


PLAIN = encoded(
    {
        "id": "",
        "inputs": [entry(), entry(name="B", datatype="BYTES", shape=[1, 1])],
        "outputs": [
            {"name": "X", "parameters": {"binary_data": True}},
            {"name": "Y", "parameters": {"classification": 3}},
        ],
    }
)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The documents that were really read."""
    seen: list[bytes] = []

    def decode(data: bytes, model: str, version: int | None, limit: int) -> ParsedRequest:
        seen.append(bytes(data))
        return decode_request(data, model, version, limit)

    monkeypatch.setattr(documents, "decode_request", decode)
    return seen


def told(parsed: ParsedRequest) -> tuple[object, ...]:
    """All that a document can say."""
    request = parsed.request
    given = request.parameters, request.priority, request.timeout_us
    sequence = request.correlation_id, request.flags
    tensors = [(each.name, each.datatype, each.shape, each.data) for each in request.inputs]
    outputs = [(each.name, each.classification, each.place) for each in request.outputs]
    where = request.model, request.version, request.id
    return where, tensors, outputs, given, sequence, parsed.sizes, parsed.forms, parsed.places


def test_a_document_is_read_once_and_says_the_same_each_time(read: list[bytes]) -> None:
    known = Documents(LIMIT)

    requests = [known.read(PLAIN, "m", None) for _ in range(3)]

    assert [told(each) for each in requests] == [told(decode_request(PLAIN, "m", None, LIMIT))] * 3
    assert len(read) == 1
    assert repr(known) == "<Documents: 1 known>"


def test_the_same_document_is_for_whichever_model_it_came_with(read: list[bytes]) -> None:
    known = Documents(LIMIT)
    known.read(PLAIN, "m", None)

    other = known.read(PLAIN, "n", 3)

    assert told(other) == told(decode_request(PLAIN, "n", 3, LIMIT))
    assert len(read) == 1


def test_what_becomes_of_one_request_is_not_seen_in_the_next() -> None:
    known = Documents(LIMIT)
    known.read(PLAIN, "m", None)
    first = known.read(PLAIN, "m", None).request
    first.inputs[0].data = memoryview(b"12345678")
    first.inputs.pop()
    first.outputs.clear()
    first.parameters["x"] = 1
    first.shared.append("A")

    assert told(known.read(PLAIN, "m", None)) == told(decode_request(PLAIN, "m", None, LIMIT))


@pytest.mark.parametrize(
    "more",
    [
        {"id": "7"},
        {"inputs": [entry(parameters={}, data=[1, 2])]},
        {"inputs": [entry(parameters={"shared_memory_region": "r", "shared_memory_byte_size": 8})]},
        {"outputs": [{"name": "X", "parameters": {"shared_memory_region": "r"}}]},
        {"parameters": {"x": 1}},
        {"parameters": {"sequence_id": 5}},
        {"parameters": {"sequence_start": True}},
        {"parameters": {"priority": 1}},
        {"parameters": {"timeout": 1}},
    ],
    ids=str,
)
def test_a_document_that_holds_more_than_forms_is_read_each_time(
    more: dict[str, Any], read: list[bytes]
) -> None:
    known = Documents(LIMIT)
    document = encoded({"inputs": [entry()], **more})

    for _ in range(2):
        assert told(known.read(document, "m", 1)) == told(decode_request(document, "m", 1, LIMIT))

    assert len(read) == 2
    assert repr(known) == "<Documents: 0 known>"


def test_a_long_document_is_read_each_time(read: list[bytes]) -> None:
    known = Documents(LIMIT)
    document = encoded({"inputs": [entry(name="A" * 1000)]})

    known.read(document, "m", 1)
    known.read(document, "m", 1)

    assert len(read) == 2


def test_a_document_that_is_wrong_is_refused_each_time() -> None:
    known = Documents(LIMIT)
    wrong = encoded({"inputs": [entry(datatype="FP7")]})

    for _ in range(2):
        with pytest.raises(InvalidArgumentError, match="invalid datatype for input A"):
            known.read(wrong, "m", 1)


def test_the_documents_that_are_known_are_bounded() -> None:
    known = Documents(LIMIT)

    for number in range(600):
        known.read(encoded({"inputs": [entry(name=f"A{number}")]}), "m", 1)

    assert repr(known) == "<Documents: 88 known>"
