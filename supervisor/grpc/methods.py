"""The calls of a server by their paths, for a transport that looks them up itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .access import RULES, Rule
from .reflection import REFLECTION_PATHS
from .service import INFER_PATH, STREAM_PATH, UnaryCall


class Kind(Enum):
    """How a call is answered."""

    UNARY = "one message by one"
    INFER = "one inference, which is the hot path"
    STREAM = "inferences on a stream"
    REFLECTION = "questions about the service on a stream"


@dataclass(frozen=True, slots=True)
class Method:
    """One call. `guarded` is whether somebody may have to be refused; `call` answers unary ones."""

    path: str
    kind: Kind
    rule: Rule
    guarded: bool
    call: UnaryCall | None = None


def methods(
    unary_calls: dict[str, UnaryCall], *, reflection: bool, guards_everything: bool
) -> dict[str, Method]:
    """All calls that are offered. Raises KeyError for one that has no rule."""
    kinds = {path: Kind.INFER if path == INFER_PATH else Kind.UNARY for path in unary_calls}
    kinds[STREAM_PATH] = Kind.STREAM
    if reflection:
        kinds |= dict.fromkeys(REFLECTION_PATHS, Kind.REFLECTION)
    return {
        path: Method(
            path,
            kind,
            RULES[path],
            guards_everything or RULES[path].changes is not None,
            unary_calls.get(path),
        )
        for path, kind in kinds.items()
    }
