"""What tells models apart, and which of them a name means."""

from __future__ import annotations

import pytest

from tritonpy.supervisor.models.identifier import ModelIdentifier, meant

A, B = ModelIdentifier("/a", "m"), ModelIdentifier("/b", "m")
GIVEN = ModelIdentifier("", "m")


def test_an_identifier_is_written_as_triton_writes_it() -> None:
    assert str(A) == "/a::m"
    assert str(GIVEN) == "m"


@pytest.mark.parametrize(
    ("candidates", "home", "expected"),
    [
        ([A, B], "/b", [B]),
        ([A, B], "/c", [A, B]),
        ([A], "/b", [A]),
        ([], "/a", []),
        ([A, B], "", [A, B]),
        ([A, GIVEN], "", [A, GIVEN]),
    ],
    ids=["at home", "nowhere near", "elsewhere", "none", "a client", "a client has no home"],
)
def test_a_name_means_the_model_next_door_before_all_others(
    candidates: list[ModelIdentifier], home: str, expected: list[ModelIdentifier]
) -> None:
    assert list(meant(candidates, home)) == expected
