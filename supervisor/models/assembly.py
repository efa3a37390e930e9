"""Loads and unloads models together with those that they need, and those that need them.

    load      what it needs ──> the model ──> what needs it, anew
    unload    what needs it ──> the model        what needed it waits, and comes back with it

No lock is held while another model is loaded: of two ensembles each may wait for a model of the
other. What an ensemble needs is looked at again when its own lock is held.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from ...ipc.errors import StatusError
from .catalogue import Catalogue
from .composition import Composition
from .deployer import Deployer
from .entry import Entry
from .identifier import ModelIdentifier
from .intake import Intake, load_failed
from .load_request import LoadRequest
from .registry import Registry

log = logging.getLogger(__name__)


class Assembly:
    """Ensembles and their parts.

    `explicit` is whether models are loaded by request only, so that an ensemble brings along what
    it needs; else all of them are loaded anyway, and an ensemble only waits for its own.
    """

    def __init__(
        self,
        registry: Registry,
        catalogue: Catalogue,
        composition: Composition,
        intake: Intake,
        deployer: Deployer,
        *,
        explicit: bool,
    ) -> None:
        self._registry = registry
        self._catalogue = catalogue
        self._composition = composition
        self._intake = intake
        self._deployer = deployer
        self._explicit = explicit

    def __repr__(self) -> str:
        return f"<Assembly of {self._registry!r}>"

    async def load(
        self,
        model: ModelIdentifier,
        request: LoadRequest,
        quietly: Callable[[ModelIdentifier], Awaitable[None]],
        *,
        untried: bool = False,
        lazily: bool = False,
    ) -> None:
        """Load a model after what it needs, which is loaded `quietly`; then renew what needs it.

        With `untried` not when that was tried with these very files, be it in vain. With `lazily` a
        model on demand is only made ready to be loaded, without what it needs. Raises StatusError
        when the model itself fails.
        """
        entry = self._registry.enter(model)
        if untried:
            fingerprint = await asyncio.to_thread(self._catalogue.fingerprint, model)
            if fingerprint == entry.tried:
                return
        if lazily and entry.latest is None and await asyncio.to_thread(self._intake.defers, model):
            await self._intake.load(entry, request, untried=untried, lazily=True)
            return
        try:
            needed = await asyncio.to_thread(self._composition.load_order, model, request)
        except StatusError as error:
            raise load_failed(entry, error) from None
        for one in needed:
            if await self._is_to_be_loaded(one):
                await quietly(one)
            await self._load_what_waits_for_requests(one)
        if await self._intake.load(entry, request, untried=untried):
            for dependent in self._composition.dependents(model):
                await self._renew(dependent)

    async def unload(self, entry: Entry) -> None:
        """Stop serving a model, and before it the ensembles that need it."""
        for dependent in reversed(self._composition.dependents(entry.identifier)):
            async with dependent.lock:
                if dependent.latest is not None:
                    tried = dependent.tried
                    self._deployer.withdraw(dependent)
                    dependent.tried = tried
                    dependent.waits = True
        async with entry.lock:
            self._deployer.withdraw(entry)
            entry.composing = ()
            entry.waits = entry.explicit = entry.on_demand = False
            entry.scale = None

    async def _load_what_waits_for_requests(self, model: ModelIdentifier) -> None:
        """Load a model on demand for an ensemble, which may be the first that needs it."""
        entry = self._registry.get(model)
        if entry is None:
            return
        async with entry.lock:  # whoever finds out just now whether it is on demand comes first
            waits = entry.on_demand and entry.latest is None
        if waits:
            with contextlib.suppress(StatusError):  # the ensemble tells what is missing
                await self._intake.load(entry, LoadRequest())

    async def _is_to_be_loaded(self, model: ModelIdentifier) -> bool:
        if self._explicit:
            if self._registry.enter(model).latest is not None:
                return False
            with contextlib.suppress(StatusError):  # the ensemble tells what is missing
                await self._catalogue.look(model.name)
        return model in self._catalogue.identifiers

    async def _renew(self, entry: Entry) -> None:
        """Serve an ensemble anew, a model of which has been loaded or reloaded.

        When it does not fit that model, what served before goes on.
        """
        async with entry.lock:
            if any(self._registry.enter(one).latest is None for one in entry.composing):
                return
            if entry.on_demand and entry.latest is None:
                return  # its next request loads it
            plans = entry.plans if entry.composing else []
            try:
                if plans:
                    self._composition.check(entry, plans[0].config)
                    await self._deployer.deploy(entry, plans)
                    entry.waits = False
            except StatusError as error:
                log.error("ensemble '%s' is not renewed: %s", entry.identifier, error.message)
        if entry.composing and not plans:  # it has failed until now
            with contextlib.suppress(StatusError):  # logged where it happened
                await self._intake.load(entry, LoadRequest())
