"""Tests for tritonpy.worker.python.parameters."""

from __future__ import annotations

from typing import Any

import pytest

from tritonpy.worker.python import parameters
from tritonpy.worker.python.errors import TritonModelException


def test_bool_int_and_text_are_taken_over() -> None:
    given: dict[str, bool | int | str] = {"a": True, "b": 2, "c": "x"}

    taken = parameters.checked(given)
    given["d"] = 1

    assert taken == {"a": True, "b": 2, "c": "x"}
    assert parameters.as_json(taken) == '{"a": true, "b": 2, "c": "x"}'


def test_no_parameters_are_an_empty_object() -> None:
    assert parameters.checked(None) == {}
    assert parameters.as_json({}) == "{}"


@pytest.mark.parametrize("value", [1.5, None, {"x": 1}, [1]])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(
        TritonModelException,
        match=r"^Expect parameters values to have type bool/int/str, found type <class",
    ):
        parameters.checked({"key": value})


def test_a_key_that_is_not_text_is_refused() -> None:
    with pytest.raises(
        TritonModelException, match="keys to have type str, found type <class 'int'>"
    ):
        parameters.checked({1: "x"})  # type: ignore[dict-item]


@pytest.mark.parametrize("given", [[("a", 1)], "a", [], ""])
def test_what_is_no_dict_is_refused(given: Any) -> None:
    with pytest.raises(TritonModelException, match="Expect a dict of parameters, got <class"):
        parameters.checked(given)
