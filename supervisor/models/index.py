"""The repository index: which models and versions there are, and in what state."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelIndex:
    """One line of the index. A model that was never asked for has nothing but its name."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""
