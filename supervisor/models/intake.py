"""From a model in a repository, or from files that a request brought, to versions that serve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ...ipc.errors import InternalError, InvalidArgumentError, StatusError
from ..config.labels import version_labels
from ..config.residency import is_on_demand
from ..repository import agents, given, layout, poller, versions
from ..repository.given import GivenFolder
from .catalogue import Catalogue
from .composition import Composition
from .deployer import Deployer
from .entry import Entry
from .identifier import ModelIdentifier
from .load_request import LoadRequest
from .preparation import Plan
from .traffic import configured_rule

log = logging.getLogger(__name__)


class Intake:
    """Reads what is to be loaded, plans its versions, and has the deployer serve them."""

    def __init__(
        self,
        catalogue: Catalogue,
        composition: Composition,
        deployer: Deployer,
        scratch: str,
        on_demand: bool = False,
    ) -> None:
        self._catalogue = catalogue
        self._composition = composition
        #: Whether models that do not say are loaded on demand.
        self._on_demand = on_demand
        #: Told of each model that was loaded, or made ready to be loaded on demand.
        self.noted: Callable[[Entry], None] = _nothing
        self._deployer = deployer
        #: Where the files that come with a load request are put, in folders of their own.
        self._scratch = scratch

    def __repr__(self) -> str:
        return f"<Intake from {self._catalogue!r}>"

    def defers(self, model: ModelIdentifier) -> bool:
        """Whether a model is loaded on demand, as far as its file tells. Blocking."""
        config = self._catalogue.as_written(model)
        try:
            return self._on_demand if config is None else is_on_demand(config, self._on_demand)
        except StatusError:
            return False

    async def load(
        self, entry: Entry, request: LoadRequest, *, untried: bool = False, lazily: bool = False
    ) -> bool:
        """Load a model unless what serves is the same. One load of a model waits for the other.

        False when nothing was done: with `untried` also when that was tried with these very files,
        be it in vain. With `lazily` a model on demand that does not serve is only made ready to be
        loaded. Raises StatusError, with what is wrong in the model's folder, its configuration or
        itself.
        """
        async with entry.lock:
            try:
                fingerprint = await asyncio.to_thread(self._catalogue.fingerprint, entry.identifier)
                if request.is_plain and entry.is_as_loaded(fingerprint):
                    return False
                if untried and fingerprint == entry.tried:
                    return False
                entry.tried = fingerprint
                folder = await asyncio.to_thread(self._build, entry.name, request)
            except StatusError as error:
                raise _poll_failed(entry, error) from None
            try:
                await self._load_from(entry, request, folder, fingerprint, lazily)
            finally:
                if folder is not None:
                    folder.release()
            entry.fingerprint = fingerprint
            entry.overridden = not request.is_plain
            entry.waits = False
            self.noted(entry)
        return True

    def _build(self, model: str, request: LoadRequest) -> GivenFolder | None:
        """The folder of the files that came with the request, if some did. Blocking."""
        return given.build(self._scratch, model, request.files) if request.files else None

    async def _load_from(
        self,
        entry: Entry,
        request: LoadRequest,
        folder: GivenFolder | None,
        fingerprint: poller.Fingerprint,
        lazily: bool,
    ) -> None:
        """Load what lies in the model's folder, or in the one that was made for the request."""
        try:
            if folder is None:
                found = self._catalogue.place(entry.identifier)
            else:
                found = await asyncio.to_thread(
                    layout.look, folder.repository, entry.name, self._catalogue.config_name
                )
            config, source = await asyncio.to_thread(self._catalogue.config, found, request)
            labels = version_labels(config)
            rule = configured_rule(config)
            on_demand = is_on_demand(config, self._on_demand)
            await asyncio.to_thread(agents.consult, config, entry.name, found.directory)
        except StatusError as error:
            raise _poll_failed(entry, error) from None
        entry.composing = self._composition.needed(entry.identifier, config)
        if on_demand and lazily and entry.latest is None:
            entry.on_demand, entry.labels, entry.reason = True, labels, ""
            return
        try:
            if entry.composing:
                self._composition.check(entry, config)
            numbers = versions.select(config.version_policy, found.versions, entry.name)
        except StatusError as error:
            raise load_failed(entry, error) from None
        name, namespace = entry.name, entry.identifier.namespace
        # Counts that were given at run time hold until the files have other groups.
        scale = entry.scale if entry.scale is not None and entry.scale.fits(config) else None
        plans = [
            Plan(
                name,
                number,
                found.directory,
                config,
                source,
                folder,
                namespace,
                {} if scale is None else scale.counts(number),
            )
            for number in numbers
        ]
        kept = [plan for plan in plans if entry.can_keep(plan, request, fingerprint)]
        await self._deployer.deploy(entry, [plan for plan in plans if plan not in kept], kept)
        entry.scale = scale
        entry.labels = labels
        entry.configured_rule = rule
        entry.settle_traffic()
        # What a request brought along would be lost if the model were unloaded.
        entry.on_demand = on_demand and request.is_plain


def _poll_failed(entry: Entry, error: StatusError) -> StatusError:
    """The error of a model whose folder or configuration cannot be used at all."""
    entry.reason = f"{error.label}: {error.message}"
    text = f"failed to load '{entry.identifier}', failed to poll from model repository"
    log.error("%s: %s", text, error.message)
    return InternalError(f"{text}: {error.message}")


def load_failed(entry: Entry, error: StatusError) -> StatusError:
    """The error of a model that has nothing to load."""
    entry.reason = f"{error.label}: {error.message}"
    text = f"load failed for model '{entry.identifier}': {error.message}"
    log.error("%s", text)
    return InvalidArgumentError(f"{text}\n")


def _nothing(_entry: Entry) -> None:
    """Whom to tell, until somebody wants to know."""
