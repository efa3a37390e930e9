"""How calls end: gRPC's status codes, those of our errors, and what clients are told."""

from __future__ import annotations

import logging
from enum import IntEnum
from typing import Final

_log = logging.getLogger(__name__)

SHUTTING_DOWN: Final = "GRPC server is shutting down and has stopped accepting new requests."

#: Clients refuse trailers of more than 8 KiB, and with them the whole answer.
_DETAILS_LIMIT_BYTES: Final = 6 * 1024


class Status(IntEnum):
    """gRPC's codes, by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


#: The status of an error by Triton's code of it.
STATUS: Final = {
    "UNKNOWN": Status.UNKNOWN,
    "INTERNAL": Status.INTERNAL,
    "NOT_FOUND": Status.NOT_FOUND,
    "INVALID_ARG": Status.INVALID_ARGUMENT,
    "UNAVAILABLE": Status.UNAVAILABLE,
    "UNSUPPORTED": Status.UNIMPLEMENTED,
    "ALREADY_EXISTS": Status.ALREADY_EXISTS,
    "CANCELLED": Status.CANCELLED,
}


def log_fault(path: str) -> str:
    """Log the exception being handled; return what the client is told instead."""
    call = path.rpartition("/")[2]
    _log.exception("unexpected error in the gRPC call %s", call)
    return f"unexpected error in {call}, see the server's log"


def shorten(details: str) -> str:
    """Cut a message that would not fit into a trailer, where it is percent-encoded."""
    room = _DETAILS_LIMIT_BYTES
    if len(details) * 12 <= room:
        return details
    for index, character in enumerate(details):
        room -= 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())
        if room < 0:
            return details[:index] + "..."
    return details
