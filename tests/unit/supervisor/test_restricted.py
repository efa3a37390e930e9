"""Restrictions: what their texts mean, which are refused, and which headers satisfy them."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.restricted import CATEGORIES, Secret, parse


def test_each_group_of_a_text_gets_its_secret() -> None:
    assert parse(["health,trace:k=v", "logging:other=a=b:c"], "api") == {
        "health": Secret("k", "v"),
        "trace": Secret("k", "v"),
        "logging": Secret("other", "a=b:c"),
    }


def test_all_groups_can_be_restricted() -> None:
    assert set(parse([f"{','.join(CATEGORIES)}:k=v"], "api")) == set(CATEGORIES)


def test_the_prefix_stands_before_the_key() -> None:
    assert parse(["health:K=v"], "protocol", "pre-")["health"].header == "pre-K"


@pytest.mark.parametrize("noun", ["api", "protocol"])
@pytest.mark.parametrize("group", ["nope", "Health", " health", "metrics", ""])
def test_an_unknown_group_is_refused(noun: str, group: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^unknown restricted {noun} '{group}'"):
        parse([f"health,{group}:k=v"], noun)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "texts", [["health,health:k=v"], ["health:k=v", "metadata,health:k=v"], ["health:k=v"] * 2]
)
def test_a_group_that_is_restricted_twice_is_refused(texts: list[str]) -> None:
    expected = "^restricted api 'health' can not be specified in multiple config groups$"
    with pytest.raises(InvalidArgumentError, match=expected):
        parse(texts, "api")


@pytest.mark.parametrize(
    ("headers", "satisfied"),
    [
        ([], False),
        ([("Key", "v")], True),
        ([("kEY", "v")], True),
        ([("Key", "V")], False),
        ([("Key", "v ")], False),
        ([("Key", "")], False),
        ([("Keys", "v")], False),
        ([("Key", "x"), ("key", "v")], False),
        ([("Key", "\udce9")], False),
    ],
)
def test_a_secret_is_found_by_its_name_and_compared_as_it_is(
    headers: list[tuple[str, str]], satisfied: bool
) -> None:
    assert Secret("Key", "v").is_in(headers) is satisfied
