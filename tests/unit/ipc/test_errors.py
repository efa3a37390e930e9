"""Errors cross the process line as a code and a sentence, and come out as what they were."""

from __future__ import annotations

import pytest

from tritonpy.ipc import errors
from tritonpy.ipc.errors import InternalError, StatusError, UnknownError, from_code

KINDS = [kind for kind in StatusError.__subclasses__() if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_back_as_what_it_was(kind: type[StatusError]) -> None:
    error = from_code(kind.code, "it failed")

    assert type(error) is kind
    assert (error.message, str(error)) == ("it failed", "it failed")


def test_codes_and_labels_are_distinct() -> None:
    assert len({kind.code for kind in KINDS}) == len({kind.label for kind in KINDS}) == len(KINDS)


def test_a_code_of_another_version_is_an_unknown_error() -> None:
    assert type(from_code("TOO_NEW", "it failed")) is UnknownError


def test_its_repr_shows_the_message() -> None:
    assert repr(InternalError("it failed")) == "InternalError('it failed')"
