"""All models: what lies in the repositories, what is asked for, what is served.

Operations on one model happen one after the other, those on different models side by side. A load
prepares the new versions beside the old ones and swaps when all of them are ready; when one fails,
all of them are thrown away and whatever served before goes on serving.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from ...ipc.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    StatusError,
    UnavailableError,
)
from ..config.schema import ModelConfig
from ..repository import versions
from ..repository.layout import check_name
from ..settings import ALL_MODELS, Settings
from ..telemetry.statistics import StatisticsSnapshot
from .catalogue import Catalogue, config_override
from .entry import UNLOADED, Entry, Version
from .index import ModelIndex
from .loader import Loader, Plan
from .model import ServedVersion
from .states import VersionEvent, VersionState
from .tasks import Tasks

log = logging.getLogger(__name__)

#: How long requests of a version that is replaced or unloaded may take to finish (seconds).
_DRAIN_TIMEOUT = 600.0

#: How long a model may take to finalize (seconds).
_FINALIZE_TIMEOUT = 30.0


class ModelManager:
    """The models of a server. Lives on the event loop; blocking work goes to threads."""

    def __init__(
        self,
        settings: Settings,
        loader: Loader,
        on_retired: Callable[[ServedVersion], None] = lambda _served: None,
    ) -> None:
        self._settings = settings
        self._loader = loader
        self._on_retired = on_retired
        self._entries: dict[str, Entry] = {}
        self._catalogue = Catalogue(settings)
        self._loading = asyncio.Semaphore(max(1, settings.models.load_threads))
        #: Loads, unloads and polling; then the ends of what served, which nobody waits for.
        self._operations = Tasks()
        self._retirements = Tasks()
        #: Replaced or unloaded, and not ended yet, in the order in which they left.
        self._leaving: list[ServedVersion] = []
        self._started = False

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
        if control.mode == "poll" and control.poll_secs:
            self._operations.begin(self._poll_every(control.poll_secs))

    async def stop_loading(self) -> None:
        """Give up the loads that are under way; whoever waits for one is told."""
        await self._operations.cancel()

    async def stop(self, drain_timeout: float, stop_timeout: float) -> bool:
        """Unload everything: what runs has so many seconds to finish, then models to finalize.

        False when something did not finish in time.
        """
        await self.stop_loading()
        await self._retirements.cancel()
        ends = [self._retire(one, drain_timeout, stop_timeout) for one in self.all_served()]
        return all(await asyncio.gather(*ends))

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

    def ready_versions(self, model: str) -> list[int]:
        """The versions of a model that are ready, ascending; none of a model that is unknown."""
        entry = self._entries.get(model)
        return entry.ready() if entry is not None else []

    def is_ready(self) -> bool:
        """Whether the start is over and, with strict readiness, every model is ready.

        A model that was unloaded on request does not count.
        """
        if not self._started:
            return False
        if not self._settings.strict_readiness:
            return True
        return all(entry.is_ready for entry in self._entries.values())

    def all_served(self) -> list[ServedVersion]:
        """All versions that serve, by name and number; then those that are still finishing."""
        serving = [
            served for _name, entry in sorted(self._entries.items()) for served in _served(entry)
        ]
        return [*serving, *self._leaving]

    def statistics(self) -> list[StatisticsSnapshot]:
        """The statistics of all versions that serve."""
        serving = (entry for _name, entry in sorted(self._entries.items()))
        return [served.snapshot() for entry in serving for served in _served(entry)]

    def index(self, ready: bool) -> list[ModelIndex]:
        """All models, or only what is ready; the versions of each in order."""
        lines: list[ModelIndex] = []
        for name in sorted({*self._entries, *self._catalogue.names}):
            entry = self._entries.get(name)
            if entry is not None and not entry.is_blank:
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
        override = config_override(model, parameters)
        await self._catalogue.look(model)
        if model not in self._catalogue.names:
            raise InternalError(f"failed to load '{model}', failed to poll from model repository")
        await self._operations.run(self._load(model, override))

    async def unload(self, model: str) -> None:
        """Stop serving a model; its requests finish and its memory is freed in the background.

        A model that is not loaded is no error. Raises UnavailableError outside of explicit mode.
        """
        self._check_explicit()
        await self._operations.run(self._unload(model))

    async def _load_quietly(self, model: str) -> None:
        """Load a model whose failure only the log and the index will tell."""
        try:
            await self._load(model, None)
        except StatusError:
            pass  # logged where it happened
        except Exception:  # the supervision loop: a model fails alone, whatever we did wrong
            log.exception("failed to load '%s'", model)

    async def _load(self, model: str, override: ModelConfig | None) -> None:
        entry = self._entries.setdefault(model, Entry(model))
        async with entry.lock:
            try:
                fingerprint = await asyncio.to_thread(self._catalogue.fingerprint, model)
                if override is None and entry.is_as_loaded(fingerprint):
                    return
                entry.tried = fingerprint
                found = self._catalogue.place(model)
                config, source = await asyncio.to_thread(self._catalogue.config, found, override)
            except StatusError as error:
                raise self._poll_failed(entry, error) from None
            try:
                numbers = versions.select(config.version_policy, found.versions, model)
            except StatusError as error:
                raise self._load_failed(entry, error) from None
            plans = [Plan(model, number, found.directory, config, source) for number in numbers]
            await self._replace(entry, plans)
            entry.fingerprint = fingerprint
            entry.overridden = override is not None

    async def _replace(self, entry: Entry, plans: Sequence[Plan]) -> None:
        """Load these versions, and serve them and no others. All of them or none."""
        numbers = [plan.version for plan in plans]
        for number in numbers:
            entry.event(number, VersionEvent.LOAD_REQUESTED)
            log.info("loading: %s:%d", entry.name, number)
        try:
            results = await self._load_versions(plans)
        except asyncio.CancelledError:
            for number in numbers:
                entry.event(number, VersionEvent.LOAD_FAILED, "Unavailable: the server is stopping")
            raise
        loaded = [result for result in results if isinstance(result, ServedVersion)]
        if len(loaded) < len(results):
            await asyncio.gather(*(served.close(_FINALIZE_TIMEOUT) for served in loaded))
            self._fail(entry, dict(zip(numbers, results, strict=True)))
        retired = {version.number: version.served for version in entry.versions.values()}
        for served in loaded:
            version = entry.event(served.version, VersionEvent.LOADED)
            version.served = served
        for number in entry.versions.keys() - set(numbers):
            if entry.versions[number].state is VersionState.READY:
                entry.event(number, VersionEvent.UNLOAD_REQUESTED).served = None
            elif entry.versions[number].leaving is None:
                del entry.versions[number]  # failed or unloaded before, and not wanted any more
        entry.latest = entry.versions[numbers[-1]].served
        entry.reason = ""
        for number, old in retired.items():
            if old is not None:
                self._leave(entry, entry.versions[number], old)
        log.info("successfully loaded '%s'", entry.name)

    async def _load_versions(self, plans: Sequence[Plan]) -> list[ServedVersion | BaseException]:
        """Load side by side; when that is cancelled, nothing is left of any of them."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._load_version(plan)) for plan in plans]
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            loaded = [one for one in ended if isinstance(one, ServedVersion)]
            await asyncio.gather(*(served.close(_FINALIZE_TIMEOUT) for served in loaded))
            raise
        return [task.exception() or task.result() for task in tasks]

    async def _load_version(self, plan: Plan) -> ServedVersion:
        async with self._loading:
            return await self._loader.load(plan)

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

    def _fail(self, entry: Entry, results: Mapping[int, ServedVersion | BaseException]) -> None:
        """Tell what failed, and raise it."""
        clauses: list[str] = []
        for number, result in results.items():
            if isinstance(result, StatusError):
                reason = f"{result.label}: {result.message}"
                log.error("failed to load '%s' version %d: %s", entry.name, number, reason)
            elif isinstance(result, BaseException):
                reason = f"Internal: {type(result).__name__}: {result}"
                log.error("failed to load '%s' version %d", entry.name, number, exc_info=result)
            else:
                reason = "another version of the same load failed"
            entry.event(number, VersionEvent.LOAD_FAILED, reason)
            if entry.versions[number].state is VersionState.READY:
                entry.versions[number].reason = ""  # the old one goes on serving
            if isinstance(result, BaseException):
                clauses.append(f"version {number} is at UNAVAILABLE state: {reason};")
        log.error("failed to load '%s'", entry.name)
        raise InvalidArgumentError(
            f"load failed for model '{entry.name}': " + " ".join(clauses) + "\n"
        )

    async def _unload(self, model: str) -> None:
        entry = self._entries.get(model)
        if entry is None:
            return
        async with entry.lock:
            entry.latest = None
            entry.fingerprint = entry.tried = None
            entry.overridden = False
            entry.reason = ""
            for version in entry.versions.values():
                if version.served is not None:
                    entry.event(version.number, VersionEvent.UNLOAD_REQUESTED)
                    self._leave(entry, version, version.served)
                    version.served = None
                elif version.state is VersionState.UNAVAILABLE:
                    version.reason = UNLOADED  # it failed, and nobody wants it any more

    def _leave(self, entry: Entry, version: Version, served: ServedVersion) -> None:
        """Have what served a version finish and end in the background."""
        version.leaving = served
        self._leaving.append(served)
        self._retirements.begin(self._retire_version(entry, version, served))

    async def _retire_version(self, entry: Entry, version: Version, served: ServedVersion) -> None:
        """Let it finish what it has, end it, and say so, unless a newer one took over."""
        await self._retire(served, _DRAIN_TIMEOUT, _FINALIZE_TIMEOUT)
        if version.leaving is served:
            version.leaving = None
            if version.state is VersionState.UNLOADING:
                entry.event(served.version, VersionEvent.UNLOADED, UNLOADED)
        log.info("successfully unloaded '%s' version %d", served.name, served.version)

    async def _retire(
        self, served: ServedVersion, drain_timeout: float, stop_timeout: float
    ) -> bool:
        """End it; False when something did not finish in time."""
        in_time = await served.retire(drain_timeout, stop_timeout)
        if served in self._leaving:
            self._leaving.remove(served)
        self._on_retired(served)
        return in_time

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
            change = self._load_if_changed(name) if name in known else self._unload(name)
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

    def _check_explicit(self) -> None:
        if self._settings.models.mode != "explicit":
            raise UnavailableError(
                "explicit model load / unload is not allowed if polling is enabled"
            )


def _served(entry: Entry) -> list[ServedVersion]:
    return [v.served for _n, v in sorted(entry.versions.items()) if v.served is not None]
