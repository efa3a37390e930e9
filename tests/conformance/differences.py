"""Where this server answers otherwise than the recorded one, why, and what it answers instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

Answer = dict[str, Any]


class Kind(Enum):
    """Whether a difference counts."""

    #: The recorded release is 2.51; this is what newer ones answer, and so counts as the same.
    NEWER = "newer"
    #: Decided; docs/compatibility.md says so too.
    DECIDED = "decided"


@dataclass(frozen=True)
class Difference:
    """One case whose answer is not the recorded one."""

    kind: Kind
    reason: str
    #: What replaces members of the recorded answer; ... removes one.
    instead: Mapping[str, Any]

    def applied(self, recorded: Answer) -> Answer:
        """The answer that is expected here."""
        merged = {**recorded, **self.instead}
        return {key: value for key, value in merged.items() if value is not ...}


DIFFERENCES: dict[str, Difference] = {}
