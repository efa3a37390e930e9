"""A batch whose execution goes on while others begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ipc import messages
from .backend import Finish, Request
from .sequences import Received


@dataclass(slots=True, eq=False)
class Ongoing:
    """What is needed to answer such a batch when its execution is over."""

    batch: int
    start_ns: int
    input_end_ns: int
    received: Sequence[Received]
    #: Those of them that the backend was handed.
    requests: Sequence[Request]
    #: The answers to the others.
    responses: list[messages.Response]
    #: Gives the backend's answers; set when the execution has begun.
    finish: Finish | None = None
    #: When the execution was over.
    done_ns: int = 0
