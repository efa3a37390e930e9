"""Tests for tritonpy.worker.python.errors."""

from __future__ import annotations

import pytest

from tritonpy.ipc import errors
from tritonpy.worker.python.errors import TritonError, TritonModelException, to_status, unavailable


def test_an_error_is_internal_unless_it_says_otherwise() -> None:
    error = TritonError("the disk is full")

    assert error.message() == "the disk is full"
    assert error.code() == TritonError.INTERNAL


@pytest.mark.parametrize(
    ("code", "status", "number"),
    [
        (TritonError.UNKNOWN, errors.UnknownError, 0),
        (TritonError.INTERNAL, errors.InternalError, 1),
        (TritonError.NOT_FOUND, errors.NotFoundError, 2),
        (TritonError.INVALID_ARG, errors.InvalidArgumentError, 3),
        (TritonError.UNAVAILABLE, errors.UnavailableError, 4),
        (TritonError.UNSUPPORTED, errors.UnsupportedError, 5),
        (TritonError.ALREADY_EXISTS, errors.AlreadyExistsError, 6),
        (TritonError.CANCELLED, errors.CancelledError, 7),
    ],
)
def test_each_code_becomes_the_status_of_the_same_name(
    code: int, status: type[errors.StatusError], number: int
) -> None:
    sent = to_status(TritonError("no", TritonError("", code).code()))  # type: ignore[arg-type]

    assert type(sent) is status
    assert sent.message == "no"
    assert code == number


def test_a_message_that_is_not_text_is_refused() -> None:
    with pytest.raises(TypeError, match="message to be str, got ValueError"):
        TritonError(ValueError("x"))  # type: ignore[arg-type]


def test_an_invented_code_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expects a code such as TritonError.INTERNAL, got 99"):
        TritonError("x", 99)  # type: ignore[arg-type]


def test_what_comes_later_is_refused_in_one_sentence() -> None:
    with pytest.raises(
        TritonModelException, match=r"^Dancing is not supported by this version of the server\.$"
    ):
        unavailable("Dancing")


def test_a_message_may_be_given_as_utf_8() -> None:
    assert TritonError(b"no").message() == "no"  # type: ignore[arg-type]
