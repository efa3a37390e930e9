"""What ensembles need, as the manager sees it: which models, whether they are there, who else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ...ipc.errors import InvalidArgumentError, StatusError
from ..config.schema import EnsembleStep, ModelConfig
from .catalogue import Catalogue
from .dependencies import dependents, load_order, no_longer_needed
from .ensembles import check_composition, steps_of, version_of
from .entry import Entry
from .identifier import ModelIdentifier
from .load_request import LoadRequest
from .model import ServedVersion
from .registry import Registry


class Composition:
    """Questions about ensembles and the models that they need. It changes nothing."""

    def __init__(self, registry: Registry, catalogue: Catalogue) -> None:
        self._registry = registry
        self._catalogue = catalogue

    def __repr__(self) -> str:
        return f"<Composition of {len(self._needs())} ensembles>"

    def load_order(self, model: ModelIdentifier, request: LoadRequest) -> list[ModelIdentifier]:
        """All that a model needs to be loaded before it, in order. Blocking.

        Raises InvalidArgumentError when an ensemble is a part of itself.
        """

        def needs(one: ModelIdentifier) -> Collection[ModelIdentifier]:
            if one == model and request.config is not None:
                return self.needed(one, request.config)
            entry = self._registry.get(one)
            if one != model and entry is not None and entry.latest is not None:
                return entry.composing
            config = self._catalogue.as_written(one)
            return self.needed(one, config) if config is not None else ()

        return load_order(model, needs)

    def needed(self, model: ModelIdentifier, config: ModelConfig) -> tuple[ModelIdentifier, ...]:
        """The models of an ensemble's steps, each once; none of a model that is no ensemble."""
        steps = [step for step in steps_of(config) if step.model_name]
        return tuple(dict.fromkeys(self.meant(model, step) for step in steps))

    def dependents(self, model: ModelIdentifier) -> list[Entry]:
        """The ensembles that need a model, each after what it needs itself."""
        return [self._registry.enter(one) for one in dependents(model, self._needs())]

    def no_longer_needed(self, models: Iterable[ModelIdentifier]) -> list[Entry]:
        """What nobody needs without these ensembles, and nobody asked for."""
        serving = [one.identifier for one in self._registry if one.latest is not None]
        explicit = {one.identifier for one in self._registry if one.explicit}
        needs = self._needs()
        found = [
            one for model in models for one in no_longer_needed(model, needs, serving, explicit)
        ]
        return [self._registry.enter(one) for one in dict.fromkeys(found)]

    def check(self, entry: Entry, config: ModelConfig) -> None:
        """Whether the models that an ensemble needs serve, and fit.

        Raises InvalidArgumentError, in Triton's words, when they do not.
        """
        unknown = [
            one.name for one in self.needed(entry.identifier, config) if not self._tried(one)
        ]
        if unknown:
            raise not_available(entry.name, unknown)
        models = [self._serving(entry, step) for step in steps_of(config)]
        check_composition(config, [served.config for served in models])

    def _serving(self, entry: Entry, step: EnsembleStep) -> ServedVersion:
        found = self._registry.enter(self.meant(entry.identifier, step))
        if found.latest is None:
            raise InvalidArgumentError(
                f"ensemble '{entry.name}' depends on '{found.name}' which has no loaded version. "
                f"Model '{found.name}' loading failed with error: {found.failures()}"
            )
        version = version_of(step)
        try:
            return found.serving(version)
        except StatusError:
            raise version_not_loaded(entry.name, found.name, version) from None

    def meant(self, model: ModelIdentifier, step: EnsembleStep) -> ModelIdentifier:
        """The model that a step names; one that is not there when none, or not one alone, is."""
        home = step.model_namespace or model.namespace
        there = {*self._catalogue.named(step.model_name, home)}
        there |= {one.identifier for one in self._registry.named(step.model_name) if one.latest}
        at_home = {one for one in there if one.namespace == home}
        found = at_home or there
        return found.pop() if len(found) == 1 else ModelIdentifier(home, step.model_name)

    def _tried(self, model: ModelIdentifier) -> bool:
        """Whether it serves, or was tried and has versions to blame."""
        entry = self._registry.get(model)
        return entry is not None and bool(entry.latest is not None or entry.versions)

    def _needs(self) -> dict[ModelIdentifier, tuple[ModelIdentifier, ...]]:
        return {one.identifier: one.composing for one in self._registry if one.composing}


def not_available(ensemble: str, models: Sequence[str]) -> InvalidArgumentError:
    """The error of an ensemble that needs models which are nowhere, or in several places."""
    return InvalidArgumentError(
        f"ensemble {ensemble} contains models that are not available or ambiguous: "
        f"{', '.join(models)}"
    )


def version_not_loaded(ensemble: str, model: str, version: int | None) -> InvalidArgumentError:
    """The error of an ensemble that needs another version of a model than there is."""
    return InvalidArgumentError(
        f"ensemble '{ensemble}' depends on '{model}' whose required version {version} is not "
        "loaded."
    )
