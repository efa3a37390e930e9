"""Tests for tritonpy.worker.python.concurrency."""

from __future__ import annotations

from typing import Any

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.messages import Instance
from tritonpy.worker.backend import Model
from tritonpy.worker.python.concurrency import most_executions


class Awaited:
    """A model whose execute is a coroutine."""

    async def execute(self, requests: list[Any]) -> list[Any]:
        return requests


class Plain:
    """A model whose execute is none."""

    def execute(self, requests: list[Any]) -> list[Any]:
        return requests


def model(value: str | None, **config: Any) -> Model:
    parameters = {} if value is None else {"max_concurrent_executions": {"string_value": value}}
    return Model(
        "m",
        1,
        "/m",
        "/m/1",
        {"parameters": parameters, **config},
        Instance("m_0", "CPU", 0, 1),
        {},
    )


@pytest.mark.parametrize(("value", "most"), [(None, None), ("1", 1), ("16", 16)])
def test_a_model_says_how_many_executions_go_on_at_once(
    value: str | None, most: int | None
) -> None:
    assert most_executions(model(value), Awaited) == most


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", ""])
def test_anything_but_a_positive_number_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        most_executions(model(value), Awaited)

    assert caught.value.message == (
        f"model 'm': parameter 'max_concurrent_executions' is '{value}', expected a number of at "
        "least 1"
    )


def test_an_execute_that_is_no_coroutine_is_one_at_a_time() -> None:
    assert most_executions(model("1"), Plain) == 1
    with pytest.raises(InvalidArgumentError, match="which takes an `async def execute`"):
        most_executions(model("2"), Plain)


def test_the_requests_of_a_sequence_are_one_at_a_time() -> None:
    sequences: dict[str, Any] = {"sequence_batching": {"direct": {}}}
    assert most_executions(model("1", **sequences), Awaited) == 1
    with pytest.raises(InvalidArgumentError, match="one after the other"):
        most_executions(model("2", **sequences), Awaited)
