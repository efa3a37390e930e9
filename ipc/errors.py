"""One exception for each of Triton's status codes.

Both processes raise these and send them to each other as (code, message). How a code becomes an
HTTP or a gRPC status is the business of the two frontends alone.
"""

from __future__ import annotations

from typing import ClassVar


class StatusError(Exception):
    """Raised when a request, a load or a control call ends with a status other than success.

    The message is meant for the client: one sentence that names the model, the version and the
    field, says what was expected and what was got, and holds no traceback.
    """

    code: ClassVar[str] = "UNKNOWN"
    #: How Triton spells the code inside other messages (`... UNAVAILABLE state: Internal: ...`).
    label: ClassVar[str] = "Unknown"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        #: Whether the request had been accepted when it failed: over HTTP, Triton's answers to such
        #: errors are of another content type.
        self.after_dispatch = False
        #: Whether the request could not be read by the worker, so that no model has seen it.
        self.unread = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"


class UnknownError(StatusError):
    """Raised when nothing better is known than that it failed."""


class InternalError(StatusError):
    """Raised when the server, a backend or a model's own code failed."""

    code = "INTERNAL"
    label = "Internal"


class NotFoundError(StatusError):
    """Raised when a model, a version or a region that was named does not exist."""

    code = "NOT_FOUND"
    label = "Not found"


class InvalidArgumentError(StatusError):
    """Raised when the client's request or a model's configuration is wrong."""

    code = "INVALID_ARG"
    label = "Invalid argument"


class UnavailableError(StatusError):
    """Raised when the server cannot do it now, and a later attempt may succeed."""

    code = "UNAVAILABLE"
    label = "Unavailable"


class UnsupportedError(StatusError):
    """Raised when the request asks for something that this server or model does not offer."""

    code = "UNSUPPORTED"
    label = "Unsupported"


class AlreadyExistsError(StatusError):
    """Raised when a thing that is to be created is there already."""

    code = "ALREADY_EXISTS"
    label = "Already exists"


class CancelledError(StatusError):
    """Raised when the client withdrew the request."""

    code = "CANCELLED"
    label = "Cancelled"


_BY_CODE: dict[str, type[StatusError]] = {
    kind.code: kind
    for kind in (
        UnknownError,
        InternalError,
        NotFoundError,
        InvalidArgumentError,
        UnavailableError,
        UnsupportedError,
        AlreadyExistsError,
        CancelledError,
    )
}


def from_code(code: str, message: str) -> StatusError:
    """Rebuild the error that the other process sent as a code and a message."""
    return _BY_CODE.get(code, UnknownError)(message)
