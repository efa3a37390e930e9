"""All models: what lies in the repositories, what is asked for, what is served.

Operations on one model happen one after the other, those on different models side by side.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence

from ...ipc.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    StatusError,
    UnavailableError,
)
from ..config.labels import version_labels
from ..repository import agents, given, layout, poller, versions
from ..repository.given import GivenFolder
from ..repository.layout import check_name
from ..settings import ALL_MODELS, Settings
from ..telemetry.statistics import StatisticsSnapshot
from . import load_request
from .catalogue import Catalogue
from .deployer import Deployer
from .entry import Entry
from .index import ModelIndex
from .load_request import LoadRequest
from .loader import Loader, Plan
from .model import ServedVersion
from .tasks import Tasks

log = logging.getLogger(__name__)

#: Why a model is in the index that lies in several repositories, in Triton's words.
_DUPLICATE = "model appears in two or more repositories"


class ModelManager:
    """The models of a server. Lives on the event loop; blocking work goes to threads."""

    def __init__(
        self,
        settings: Settings,
        loader: Loader,
        on_retired: Callable[[ServedVersion], None] = lambda _served: None,
        scratch_directory: str | None = None,
    ) -> None:
        self._settings = settings
        #: Where the files that come with a load request are put, in folders of their own.
        self._scratch = scratch_directory or tempfile.gettempdir()
        self._entries: dict[str, Entry] = {}
        self._catalogue = Catalogue(settings)
        self._deployer = Deployer(settings.models, loader, on_retired)
        #: Loads, unloads and polling.
        self._operations = Tasks()
        self._started = False
        #: With sticky readiness: it was asked for and found once.
        self._was_ready = False
        #: What the first model that failed at the start failed with.
        self.start_error: StatusError | None = None

    def __repr__(self) -> str:
        ready = sum(len(entry.ready()) for entry in self._entries.values())
        return f"<ModelManager: {len(self._entries)} models, {ready} versions ready>"

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look at the repositories and load what is wanted at the start.

        A model that fails is told in the log and in the index; the rest is served. Raises
        InvalidArgumentError when a repository cannot be read at all.
        """
        await self._catalogue.look()
        control = self._settings.models
        if control.mode != "explicit" or ALL_MODELS in control.startup:
            wanted: Sequence[str] = self._catalogue.names
        else:
            wanted = control.startup
        loads = (self._operations.run(self._load_quietly(name)) for name in wanted)
        await asyncio.gather(*loads)
        self._started = True
        self.is_ready()
        if control.mode == "poll" and control.poll_secs:
            self._operations.begin(self._poll_every(control.poll_secs))

    async def stop_loading(self) -> None:
        """Give up the loads that are under way; whoever waits for one is told."""
        self._catalogue.storage.stop_fetching()
        await self._operations.cancel()

    async def stop(self, drain_timeout: float, stop_timeout: float) -> bool:
        """Unload everything: what runs has so many seconds to finish, then models to finalize.

        False when something did not finish in time.
        """
        await self.stop_loading()
        try:
            return await self._deployer.stop(self._serving(), drain_timeout, stop_timeout)
        finally:
            await asyncio.to_thread(self._catalogue.storage.close)

    @property
    def running(self) -> int:
        """Requests that have been accepted by any model and are not answered."""
        return sum(served.running for served in self.all_served())

    # --- questions --------------------------------------------------------------------------------

    def version(self, model: str, version: int | None) -> ServedVersion:
        """The version that serves, or the latest one. Raises NotFoundError or UnavailableError."""
        entry = self._entries.get(model)
        if entry is None or entry.is_blank:
            raise NotFoundError(f"Request for unknown model: '{model}' is not found")
        return entry.serving(version)

    def labelled(self, model: str, label: str) -> int | None:
        """The version that has a label now; None when the model gives no version that label."""
        entry = self._entries.get(model)
        return entry.labels.get(label) if entry is not None else None

    def ready_versions(self, model: str) -> list[int]:
        """The versions of a model that are ready, ascending; none of a model that is unknown."""
        entry = self._entries.get(model)
        return entry.ready() if entry is not None else []

    def is_ready(self) -> bool:
        """Whether the start is over and, with strict readiness, every model is ready.

        A model that was unloaded on request does not count. With sticky readiness it stays so.
        """
        if not self._started:
            return False
        if self._was_ready or not self._settings.strict_readiness:
            return True
        ready = all(entry.is_ready for entry in self._entries.values())
        self._was_ready = ready and self._settings.sticky_readiness
        return ready

    def all_served(self) -> list[ServedVersion]:
        """All versions that serve, by name and number; then those that are still finishing."""
        return [*self._serving(), *self._deployer.leaving]

    def statistics(self) -> list[StatisticsSnapshot]:
        """The statistics of all versions that serve."""
        return [served.snapshot() for served in self._serving()]

    def index(self, ready: bool) -> list[ModelIndex]:
        """All models, or only what is ready; the versions of each in order."""
        lines: list[ModelIndex] = []
        for name in sorted({*self._entries, *self._catalogue.names}):
            entry = self._entries.get(name)
            serves = entry is not None and bool(_served(entry))
            if self._catalogue.is_duplicate(name) and not serves:
                found = [ModelIndex(name, state="UNAVAILABLE", reason=_DUPLICATE)]
            elif entry is not None and not entry.is_blank:
                found = entry.index()
            else:
                found = [ModelIndex(name)] if name in self._catalogue.names else []
            lines += [line for line in found if not ready or line.state == "READY"]
        return lines

    # --- changes ----------------------------------------------------------------------------------

    async def load(self, model: str, parameters: Mapping[str, str | bytes | int | bool]) -> None:
        """Load or reload a model on somebody's request.

        Raises UnavailableError outside of explicit mode, InternalError when no repository has the
        model, InvalidArgumentError when loading it failed.
        """
        self._check_explicit()
        check_name(model)
        request = load_request.read(model, parameters)
        await self._catalogue.look(model)
        if model not in self._catalogue.names and not request.files:
            raise InternalError(f"failed to load '{model}', failed to poll from model repository")
        await self._operations.run(self._load(model, request))

    async def unload(self, model: str) -> None:
        """Stop serving a model; its requests finish and its memory is freed in the background.

        A model that is not loaded is no error. Raises UnavailableError outside of explicit mode.
        """
        self._check_explicit()
        await self._operations.run(self._unload(model))

    async def _load_quietly(self, model: str) -> None:
        """Load a model whose failure only the log and the index will tell."""
        try:
            await self._load(model, LoadRequest())
        except StatusError as error:  # logged where it happened
            if not self._started and self.start_error is None:
                self.start_error = error
        except Exception:  # the supervision loop: a model fails alone, whatever we did wrong
            log.exception("failed to load '%s'", model)

    async def _load(self, model: str, request: LoadRequest) -> None:
        entry = self._entries.setdefault(model, Entry(model))
        async with entry.lock:
            try:
                fingerprint = await asyncio.to_thread(self._catalogue.fingerprint, model)
                if request.is_plain and entry.is_as_loaded(fingerprint):
                    return
                entry.tried = fingerprint
                folder = await asyncio.to_thread(self._build, model, request)
            except StatusError as error:
                raise self._poll_failed(entry, error) from None
            try:
                await self._load_from(entry, request, folder, fingerprint)
            finally:
                if folder is not None:
                    folder.release()
            entry.fingerprint = fingerprint
            entry.overridden = not request.is_plain

    def _build(self, model: str, request: LoadRequest) -> GivenFolder | None:
        """The folder of the files that came with the request, if some did. Blocking."""
        return given.build(self._scratch, model, request.files) if request.files else None

    async def _load_from(
        self,
        entry: Entry,
        request: LoadRequest,
        folder: GivenFolder | None,
        fingerprint: poller.Fingerprint,
    ) -> None:
        """Load what lies in the model's folder, or in the one that was made for the request."""
        try:
            if folder is None:
                found = self._catalogue.place(entry.name)
            else:
                found = await asyncio.to_thread(
                    layout.look, folder.repository, entry.name, self._settings.models.config_name
                )
            config, source = await asyncio.to_thread(self._catalogue.config, found, request)
            labels = version_labels(config)
            await asyncio.to_thread(agents.consult, config, entry.name, found.directory)
        except StatusError as error:
            raise self._poll_failed(entry, error) from None
        try:
            numbers = versions.select(config.version_policy, found.versions, entry.name)
        except StatusError as error:
            raise self._load_failed(entry, error) from None
        plans = [
            Plan(entry.name, number, found.directory, config, source, folder) for number in numbers
        ]
        kept = [plan for plan in plans if entry.can_keep(plan, request, fingerprint)]
        await self._deployer.deploy(entry, [plan for plan in plans if plan not in kept], kept)
        entry.labels = labels

    def _poll_failed(self, entry: Entry, error: StatusError) -> StatusError:
        """The error of a model whose folder or configuration cannot be used at all."""
        entry.reason = f"{error.label}: {error.message}"
        text = f"failed to load '{entry.name}', failed to poll from model repository"
        log.error("%s: %s", text, error.message)
        return InternalError(f"{text}: {error.message}")

    def _load_failed(self, entry: Entry, error: StatusError) -> StatusError:
        """The error of a model that has nothing to load."""
        entry.reason = f"{error.label}: {error.message}"
        text = f"load failed for model '{entry.name}': {error.message}"
        log.error("%s", text)
        return InvalidArgumentError(f"{text}\n")

    async def _unload(self, model: str) -> None:
        entry = self._entries.get(model)
        if entry is not None:
            async with entry.lock:
                self._deployer.withdraw(entry)

    # --- polling ----------------------------------------------------------------------------------

    async def poll(self) -> None:
        """Begin to do what has changed in the repositories."""
        try:
            await self._catalogue.look()
        except StatusError as error:
            log.error("polling failed, nothing is changed: %s", error.message)
            return
        known = self._catalogue.names
        for name in {*known, *self._entries}:
            entry = self._entries.get(name)
            if entry is not None and entry.lock.locked():
                continue  # a model that takes long to load must not hold up the others
            if self._catalogue.is_duplicate(name):
                log.error(
                    "failed to poll model '%s': not unique across all model repositories", name
                )
            wanted = name in known and not self._catalogue.is_duplicate(name)
            change = self._load_if_changed(name) if wanted else self._unload(name)
            self._operations.begin(change)

    async def _poll_every(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.poll()

    async def _load_if_changed(self, model: str) -> None:
        """Load a model unless it was tried with these very files, be it in vain."""
        entry = self._entries.get(model)
        fingerprint = await asyncio.to_thread(self._catalogue.fingerprint, model)
        if entry is None or fingerprint != entry.tried:
            await self._load_quietly(model)

    # --- inside -----------------------------------------------------------------------------------

    def _serving(self) -> list[ServedVersion]:
        entries = (entry for _name, entry in sorted(self._entries.items()))
        return [served for entry in entries for served in _served(entry)]

    def _check_explicit(self) -> None:
        if self._settings.models.mode != "explicit":
            raise UnavailableError(
                "explicit model load / unload is not allowed if polling is enabled"
            )


def _served(entry: Entry) -> list[ServedVersion]:
    return [v.served for _n, v in sorted(entry.versions.items()) if v.served is not None]
