"""The repository index: which models and versions there are, and in what state."""

from __future__ import annotations

from dataclasses import dataclass

from .identifier import ModelIdentifier


@dataclass(frozen=True, slots=True)
class ModelIndex:
    """One line of the index. A model that was never asked for has nothing but its name.

    `namespace` is that of its identifier; Triton's index does not show it.
    """

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""
    namespace: str = ""

    @classmethod
    def of(
        cls, model: ModelIdentifier, version: str = "", state: str = "", reason: str = ""
    ) -> ModelIndex:
        """A line about a model, or about one version of it."""
        return cls(model.name, version, state, reason, model.namespace)

    @property
    def identifier(self) -> ModelIdentifier:
        """The model that it is about."""
        return ModelIdentifier(self.namespace, self.name)
