"""Which headers become parameters, and which never do."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.forwarding import HeaderForwarding

HEADERS = [("My-User", "a"), ("x-my-user", "b"), ("Other", "c"), ("my-user", "d")]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("my-", ["My-User", "x-my-user", "my-user"]),
        ("^my-", ["My-User", "my-user"]),
        ("(?-i)my-", ["x-my-user", "my-user"]),
        ("(?i)MY-", ["My-User", "x-my-user", "my-user"]),
        ("^(other|x-.*)$", ["x-my-user", "Other"]),
        (".*", ["My-User", "x-my-user", "Other", "my-user"]),
        ("nothing", []),
    ],
)
def test_a_pattern_finds_names_as_they_were_received(pattern: str, names: list[str]) -> None:
    assert list(HeaderForwarding(pattern).collect(HEADERS)) == names


def test_the_last_of_equal_names_counts() -> None:
    assert HeaderForwarding("a").collect([("a", "1"), ("A", "2"), ("a", "3")]) == {
        "a": "3",
        "A": "2",
    }


@pytest.mark.parametrize(
    "name",
    [
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "priority",
        "timeout",
        "headers",
        "binary_data_output",
        "triton_x",
        "triton_enable_empty_final_response",
    ],
)
def test_names_with_a_meaning_of_their_own_are_refused(name: str) -> None:
    text = f"^Header '{name}' is reserved for Triton usage and cannot be forwarded.$"
    with pytest.raises(InvalidArgumentError, match=text):
        HeaderForwarding(".").collect([(name, "1")])

    assert HeaderForwarding("other").collect([(name, "1")]) == {}


def test_a_value_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'x-bin' .* its value is not valid UTF-8"):
        HeaderForwarding("x").collect([("x-bin", b"\xff")])

    assert HeaderForwarding("x").collect([("x-bin", "ä".encode())]) == {"x-bin": "ä"}


@pytest.mark.parametrize("pattern", ["(", "[", "*", "a(?-i)b", "[[:alpha:]]", "a{99999999999}"])
def test_what_is_no_regular_expression_is_an_error(pattern: str) -> None:
    with pytest.raises(ValueError, match="a regular expression in Python's form"):
        HeaderForwarding(pattern)
