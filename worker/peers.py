"""What a model's code asks of the server: other models (business logic scripting), metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from ..ipc.errors import StatusError
from ..ipc.messages import MetricChanges, Parameter

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Outgoing:
    """A request that a model makes; version -1 is the latest.

    Without `outputs` all of them are wanted. `traced` is the key of the request whose trace it
    belongs to, 0 for none.
    """

    model: str
    version: int
    inputs: Sequence[tuple[str, Array]]
    outputs: Sequence[str]
    id: str = ""
    parameters: dict[str, Parameter] = field(default_factory=dict[str, Parameter])
    correlation_id: int | str = 0
    flags: int = 0
    timeout_us: int = 0
    decoupled: bool = False
    traced: int = 0


@dataclass(slots=True)
class Reply:
    """One answer to such a request. Its outputs stay valid as long as they are referred to."""

    outputs: dict[str, Array] = field(default_factory=dict[str, Array])
    parameters: dict[str, Parameter] = field(default_factory=dict[str, Parameter])
    error: StatusError | None = None
    final: bool = True


class Conversation(Protocol):
    """A request that was sent, and what is answered to it."""

    def next(self) -> Reply:
        """Wait for the next reply; none comes after a final one."""
        ...

    def withdraw(self) -> None:
        """Say that no more replies are wanted; a final one still comes."""
        ...

    def forget(self) -> None:
        """Drop all replies that have come and are to come."""
        ...


class Peers(Protocol):
    """The way to the other models. All of it may be used from any thread."""

    def ask(self, outgoing: Outgoing, on_reply: Callable[[], None] | None = None) -> Conversation:
        """Send a request. `on_reply` is called once, by any thread, when a reply is there.

        Raises StatusError when the request cannot be sent.
        """
        ...

    def load(self, model: str, config: str, files: Mapping[str, bytes]) -> None:
        """Have a model loaded, and wait for it. Raises StatusError."""
        ...

    def unload(self, model: str, *, dependents: bool) -> None:
        """Have a model unloaded. Raises StatusError."""
        ...

    def is_ready(self, model: str, version: str) -> bool:
        """Whether a version is ready; "" is any. Raises StatusError."""
        ...


class Board(Protocol):
    """Where a model's own metrics are shown. All of it may be used from any thread."""

    def declare_family(self, name: str, description: str, kind: str) -> None:
        """Have a metric family. Raises InvalidArgumentError when its name stands for another."""
        ...

    def tell_metrics(self, changes: MetricChanges) -> None:
        """Tell how the metrics have changed."""
        ...


class Server(Peers, Board, Protocol):
    """All that a model may ask and tell."""
