"""What Triton's JSON parser accepts and refuses, with the byte at which it gives up."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.supervisor.http.json_reader import read

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_valid_documents_are_read_as_by_the_standard_library(value: Any, ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii, indent=1)

    assert read(text) == json.loads(text)


@given(st.text(st.sampled_from('{}[]",:\\u0d8eE+-.1ntfIN ')))
def test_whatever_the_standard_library_reads_is_read_alike_or_refused_for_a_reason(
    text: str,
) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        return
    try:
        found = read(text)
    except InternalError as error:
        found = error.message
        expected = next(
            (word for word in ("Number too big", "surrogate") if word in found), "a reason"
        )
        found = expected if expected in found else found
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("text", "value"),
    [("Inf", math.inf), ("-Inf", -math.inf), ("[-Infinity]", [-math.inf]), ("-0", 0)],
)
def test_tokens_beyond_the_standard_are_read(text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "reason", "position"),
    [
        ("", "The document is empty.", 0),
        (" \n ", "The document is empty.", 3),
        ("1 2", "The document root must not be followed by other values.", 2),
        ("nul", "Invalid value.", 3),
        ("[1,]", "Invalid value.", 3),
        ("[nan]", "Invalid value.", 2),
        ("[-x]", "Invalid value.", 2),
        ("{1}", "Missing a name for object member.", 1),
        ('{"a":1,}', "Missing a name for object member.", 7),
        ('{"a" 1}', "Missing a colon after a name of object member.", 5),
        ('{"a":1 "b"', "Missing a comma or '}' after an object member.", 7),
        ("[1 2]", "Missing a comma or ']' after an array element.", 3),
        ("[01]", "Missing a comma or ']' after an array element.", 2),
        ("[1.]", "Miss fraction part in number.", 3),
        ("[1e]", "Miss exponent in number.", 3),
        ("[1e999]", "Number too big to be stored in double.", 1),
        ('"ab', "Missing a closing quotation mark in string.", 3),
        ('"é', "Missing a closing quotation mark in string.", 3),
        ('"a\\x"', "Invalid escape character in string.", 2),
        ('"a\\u12g4"', "Incorrect hex digit after \\u escape in string.", 2),
        ('"\\ud800"', "The surrogate pair in string is invalid.", 1),
        ('"\\udc00"', "The surrogate pair in string is invalid.", 1),
        ('"\\ud800\\u0041"', "The surrogate pair in string is invalid.", 1),
    ],
)
def test_a_mistake_is_told_with_its_byte(text: str, reason: str, position: int) -> None:
    with pytest.raises(InternalError) as refusal:
        read(text)

    beginning = f"failed to parse the request JSON buffer: {reason} at {position} (line "
    assert refusal.value.message.startswith(beginning)


def test_line_and_column_count_characters_from_one() -> None:
    with pytest.raises(InternalError, match=r" at 9 \(line 2, column 7\)$"):
        read('{\n  "é" 1}')


def test_a_document_that_nests_too_deep_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="nesting depth exceeds"):
        read("[" * 200 + "x")
