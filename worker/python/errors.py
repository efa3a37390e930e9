"""The error that a model answers with, and the exception that tells it its own mistakes."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, NoReturn

from ...ipc import errors
from .text import as_text


class ErrorCode(IntEnum):
    """Triton's status codes, numbered as Triton numbers them."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7


class TritonModelException(Exception):
    """Raised when a model uses the backend's interface wrongly, or asks for what is not there."""


class TritonError:
    """What a model answers to a request that it cannot serve: a message and a status code."""

    __slots__ = ("_code", "_message")

    UNKNOWN: ClassVar[ErrorCode] = ErrorCode.UNKNOWN
    INTERNAL: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    NOT_FOUND: ClassVar[ErrorCode] = ErrorCode.NOT_FOUND
    INVALID_ARG: ClassVar[ErrorCode] = ErrorCode.INVALID_ARG
    UNAVAILABLE: ClassVar[ErrorCode] = ErrorCode.UNAVAILABLE
    UNSUPPORTED: ClassVar[ErrorCode] = ErrorCode.UNSUPPORTED
    ALREADY_EXISTS: ClassVar[ErrorCode] = ErrorCode.ALREADY_EXISTS
    CANCELLED: ClassVar[ErrorCode] = ErrorCode.CANCELLED

    def __init__(self, message: str, code: ErrorCode = ErrorCode.INTERNAL) -> None:
        self._message = as_text(message, "TritonError expects its message")
        try:
            self._code = ErrorCode(code)
        except ValueError:
            raise TypeError(
                f"TritonError expects a code such as TritonError.INTERNAL, got {code!r}"
            ) from None

    def __repr__(self) -> str:
        return f"TritonError({self._message!r}, TritonError.{self._code.name})"

    def message(self) -> str:
        """The sentence for the client."""
        return self._message

    def code(self) -> ErrorCode:
        """The status code, one of this class's constants."""
        return self._code


def to_status(error: TritonError) -> errors.StatusError:
    """The error as the worker sends it."""
    return errors.from_code(error.code().name, error.message())


def of_status(error: errors.StatusError) -> TritonError:
    """An error of the server as a model reads it."""
    return TritonError(error.message, ErrorCode[error.code])


def unavailable(what: str) -> NoReturn:
    """Raise TritonModelException: Triton offers this to a model, and this server does not yet."""
    raise TritonModelException(f"{what} is not supported by this version of the server.")
