"""All models: what lies in the repositories, what is asked for, what is served.

Operations on one model happen one after the other, those on different models side by side. A load
prepares the new versions beside the old ones and swaps when all of them are ready; when one fails,
all of them are thrown away and whatever served before goes on serving.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field

from ...ipc.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    StatusError,
    UnavailableError,
    UnsupportedError,
)
from ..config.artefacts import complete_from_files
from ..config.locate import Source
from ..config.parse import from_file, from_json
from ..config.schema import ModelConfig
from ..repository import layout, poller, versions
from ..repository.layout import ModelOnDisk
from ..settings import ALL_MODELS, Settings
from ..telemetry.statistics import StatisticsSnapshot
from .index import ModelIndex
from .loader import Loader, Plan
from .model import ServedVersion
from .states import VersionEvent, VersionState, transition

log = logging.getLogger(__name__)

#: How long requests of a version that is replaced or unloaded may take to finish (seconds).
_DRAIN_TIMEOUT = 600.0

#: How long a model may take to finalize (seconds).
_FINALIZE_TIMEOUT = 30.0


@dataclass(slots=True)
class Version:
    """A version of a model that somebody asked for at some time."""

    number: int
    state: VersionState = VersionState.UNKNOWN
    reason: str = ""
    #: What answers requests, while there is such a thing.
    served: ServedVersion | None = None
    #: What was unloaded last, until it has finished its requests and ended.
    leaving: ServedVersion | None = None


@dataclass(slots=True)
class Entry:
    """A model that is known by name: its versions, and what its folder looked like when loaded."""

    name: str
    versions: dict[int, Version] = field(default_factory=dict[int, Version])
    #: Why nothing of it could be loaded at all, when it has no version to blame.
    reason: str = ""
    fingerprint: poller.Fingerprint | None = None
    #: What the folder looked like when it was last tried to load it, whatever came of it.
    tried: poller.Fingerprint | None = None
    #: The configuration was given by the load API: the files do not decide.
    overridden: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    latest: ServedVersion | None = None

    def event(self, number: int, event: VersionEvent, reason: str = "") -> Version:
        """Something has happened to a version."""
        version = self.versions.setdefault(number, Version(number))
        subject = f"model '{self.name}' version {number}"
        version.state = transition(subject, version.state, event)
        version.reason = reason
        return version

    def is_as_loaded(self, fingerprint: poller.Fingerprint) -> bool:
        """Whether what serves was loaded from files that look like this."""
        serves_files = self.latest is not None and not self.overridden
        return serves_files and fingerprint == self.fingerprint

    def ready(self) -> list[int]:
        """The versions that are ready, ascending."""
        return sorted(n for n, v in self.versions.items() if v.state is VersionState.READY)


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
        self._on_disk: dict[str, list[ModelOnDisk]] = {}
        self._loading = asyncio.Semaphore(max(1, settings.models.load_threads))
        self._background: set[asyncio.Task[None]] = set()
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
        await self._look()
        control = self._settings.models
        if control.mode != "explicit" or ALL_MODELS in control.startup:
            wanted: Sequence[str] = list(self._on_disk)
        else:
            wanted = control.startup
        await asyncio.gather(*(self._load_quietly(name) for name in wanted))
        self._started = True
        if control.mode == "poll" and control.poll_secs:
            self._in_background(self._poll(control.poll_secs))

    async def stop(self, drain_timeout: float) -> None:
        """Unload everything, giving what runs so many seconds to finish."""
        for task in list(self._background):
            if not task.done():
                task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(self._retire(served, drain_timeout) for served in self.all_served()))

    @property
    def running(self) -> int:
        """Requests that have been accepted by any model and are not answered."""
        return sum(served.running for served in self.all_served())

    # --- questions --------------------------------------------------------------------------------

    def version(self, model: str, version: int | None) -> ServedVersion:
        """The version that serves, or the latest one. Raises NotFoundError or UnavailableError."""
        entry = self._entries.get(model)
        if entry is None:
            raise NotFoundError(f"Request for unknown model: '{model}' is not found")
        if version is None:
            if entry.latest is None:
                raise NotFoundError(
                    f"Request for unknown model: '{model}' has no available versions"
                )
            return entry.latest
        found = entry.versions.get(version)
        if found is None:
            raise NotFoundError(
                f"Request for unknown model: '{model}' version {version} is not found"
            )
        if found.served is None or found.state is not VersionState.READY:
            raise UnavailableError(
                f"Request for unknown model: '{model}' version {version} is not at ready state"
            )
        return found.served

    def ready_versions(self, model: str) -> list[int]:
        """The versions of a model that are ready, ascending; none of a model that is unknown."""
        entry = self._entries.get(model)
        return entry.ready() if entry is not None else []

    def is_ready(self) -> bool:
        """Whether the start is over and, with strict readiness, every model is ready.

        A version that was unloaded on request does not count; one without a running instance does.
        """
        if not self._started:
            return False
        if not self._settings.strict_readiness:
            return True
        for entry in self._entries.values():
            if not entry.versions:
                return False
            for version in entry.versions.values():
                if version.state is VersionState.UNAVAILABLE and version.reason == _UNLOADED:
                    continue
                if version.state is not VersionState.READY or version.served is None:
                    return False
                if not version.served.pool.is_ready:
                    return False
        return True

    def all_served(self) -> list[ServedVersion]:
        """All versions that serve, by name and number; then those that are still finishing."""
        serving = [served for _name, entry in sorted(self._entries.items()) for served in _served(entry)]
        return [*serving, *self._leaving]

    def statistics(self) -> list[StatisticsSnapshot]:
        """The statistics of all versions that serve."""
        serving = (entry for _name, entry in sorted(self._entries.items()))
        return [served.snapshot() for entry in serving for served in _served(entry)]

    def index(self, ready: bool) -> list[ModelIndex]:
        """All models, or only what is ready; the versions of each in order."""
        lines: list[ModelIndex] = []
        for name in sorted(self._entries.keys() | self._on_disk.keys()):
            entry = self._entries.get(name)
            found = self._index_of(name, entry)
            lines += [line for line in found if not ready or line.state == "READY"]
        return lines

    def _index_of(self, name: str, entry: Entry | None) -> list[ModelIndex]:
        if entry is None:
            return [ModelIndex(name)]
        if not entry.versions:
            return [ModelIndex(name, state="UNAVAILABLE", reason=entry.reason)]
        return [
            ModelIndex(name, str(number), version.state.value, version.reason)
            for number, version in sorted(entry.versions.items())
        ]

    # --- changes ----------------------------------------------------------------------------------

    async def load(self, model: str, parameters: Mapping[str, str | bytes | int | bool]) -> None:
        """Load or reload a model on somebody's request.

        Raises UnavailableError outside of explicit mode, InternalError when no repository has the
        model, InvalidArgumentError when loading it failed.
        """
        self._check_explicit()
        layout.check_name(model)
        override = _config_override(model, parameters)
        await self._look(model)
        if not self._on_disk.get(model):
            raise InternalError(f"failed to load '{model}', failed to poll from model repository")
        await self._load(model, override)

    async def unload(self, model: str) -> None:
        """Stop serving a model; its requests finish and its memory is freed in the background.

        A model that is not loaded is no error. Raises UnavailableError outside of explicit mode.
        """
        self._check_explicit()
        await self._unload(model)

    async def _load_quietly(self, model: str) -> None:
        """Load a model whose failure only the log and the index will tell."""
        try:
            await self._load(model, None)
        except StatusError:
            pass  # logged where it happened

    async def _load(self, model: str, override: ModelConfig | None) -> None:
        entry = self._entries.setdefault(model, Entry(model))
        async with entry.lock:
            try:
                found = self._unique(model)
                fingerprint = await asyncio.to_thread(poller.fingerprint, found.directory)
                if override is None and entry.is_as_loaded(fingerprint):
                    return
                entry.tried = fingerprint
                config, source = await asyncio.to_thread(self._read_config, found, override)
            except StatusError as error:
                raise self._poll_failed(entry, error) from None
            try:
                numbers = versions.select(config.version_policy, found.versions, model)
            except StatusError as error:
                raise self._load_failed(entry, error) from None
            await self._replace(entry, found, config, source, numbers)
            entry.fingerprint = fingerprint
            entry.overridden = override is not None

    async def _replace(
        self,
        entry: Entry,
        found: ModelOnDisk,
        config: ModelConfig,
        source: Source,
        numbers: Sequence[int],
    ) -> None:
        """Load these versions, and serve them and no others. All of them or none."""
        for number in numbers:
            entry.event(number, VersionEvent.LOAD_REQUESTED)
            log.info("loading: %s:%d", entry.name, number)
        results = await asyncio.gather(
            *(
                self._load_version(Plan(entry.name, number, found.directory, config, source))
                for number in numbers
            ),
            return_exceptions=True,
        )
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
            for version in entry.versions.values():
                if version.served is not None:
                    entry.event(version.number, VersionEvent.UNLOAD_REQUESTED)
                    self._leave(entry, version, version.served)
                    version.served = None
                elif version.state is VersionState.UNAVAILABLE:
                    version.reason = _UNLOADED  # it failed, and nobody wants it any more
            if not entry.versions:
                del self._entries[model]

    def _leave(self, entry: Entry, version: Version, served: ServedVersion) -> None:
        """Have what served a version finish and end in the background."""
        version.leaving = served
        self._leaving.append(served)
        self._in_background(self._retire_version(entry, version, served))

    async def _retire_version(
        self, entry: Entry, version: Version, served: ServedVersion
    ) -> None:
        """Let it finish what it has, end it, and say so, unless a newer one took over."""
        await self._retire(served, _DRAIN_TIMEOUT)
        if version.leaving is served:
            version.leaving = None
            if version.state is VersionState.UNLOADING:
                entry.event(served.version, VersionEvent.UNLOADED, _UNLOADED)
        log.info("successfully unloaded '%s' version %d", served.name, served.version)

    async def _retire(self, served: ServedVersion, drain_timeout: float) -> None:
        await served.retire(drain_timeout, _FINALIZE_TIMEOUT)
        if served in self._leaving:
            self._leaving.remove(served)
        self._on_retired(served)

    # --- the repositories -------------------------------------------------------------------------

    async def _look(self, model: str | None = None) -> None:
        """Look at the repositories, or at one model in them."""
        name = self._settings.models.config_name
        found: dict[str, list[ModelOnDisk]] = {}
        for repository in self._settings.repositories:
            if model is None:
                there = await asyncio.to_thread(layout.find_models, repository, name)
            else:
                one = await asyncio.to_thread(layout.find_model, repository, model, name)
                there = [one] if one is not None else []
            for item in there:
                found.setdefault(item.name, []).append(item)
        if model is None:
            for items in found.values():
                for reason in (reason for item in items for reason in item.ignored):
                    log.warning("%s", reason)
            self._on_disk = found
        elif found:
            self._on_disk.update(found)
        else:
            self._on_disk.pop(model, None)

    def _unique(self, model: str) -> ModelOnDisk:
        found = self._on_disk.get(model, [])
        if not found:
            raise NotFoundError(f"no model repository has a model '{model}' any more")
        if len(found) > 1:
            places = ", ".join(item.repository for item in found)
            raise InvalidArgumentError(
                f"model '{model}' is not unique across all model repositories: it is in {places}"
            )
        return found[0]

    def _read_config(
        self, found: ModelOnDisk, override: ModelConfig | None
    ) -> tuple[ModelConfig, Source]:
        """The configuration as far as the files tell it. Blocking."""
        if override is not None:
            config, source = override, Source(f"the configuration given to load '{found.name}'")
        elif found.config_path is not None:
            config, source = from_file(found.config_path)
        elif self._settings.models.strict_config:
            raise InvalidArgumentError(
                f"model '{found.name}' has no config.pbtxt in {found.directory}, and "
                f"auto-completion is off"
            )
        else:
            config, source = ModelConfig(), Source(f"the configuration of '{found.name}'")
        layout.check_config_name(found, config, source)
        for number in versions.missing(config.version_policy, found.versions):
            log.warning(
                "the version policy of model '%s' names version %d, which is not there",
                found.name,
                number,
            )
        return complete_from_files(config, found.name, found.sample_directory, source), source

    async def _poll(self, seconds: float) -> None:
        """Every so often, do what has changed in the repositories."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self._look()
            except StatusError as error:
                log.error("polling failed, nothing is changed: %s", error.message)
                continue
            gone = [name for name in self._entries if name not in self._on_disk]
            await asyncio.gather(
                *(self._load_if_changed(name) for name in self._on_disk),
                *(self._unload(name) for name in gone),
            )

    async def _load_if_changed(self, model: str) -> None:
        """Load a model unless it was tried with these very files, be it in vain."""
        entry = self._entries.get(model)
        places = self._on_disk[model]
        if entry is not None and entry.tried is not None and len(places) == 1:
            fingerprint = await asyncio.to_thread(poller.fingerprint, places[0].directory)
            if fingerprint == entry.tried:
                return
        await self._load_quietly(model)

    # --- inside -----------------------------------------------------------------------------------

    def _check_explicit(self) -> None:
        if self._settings.models.mode != "explicit":
            raise UnavailableError(
                "explicit model load / unload is not allowed if polling is enabled"
            )

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task of the model manager failed", exc_info=error)


#: The reason of a version that was unloaded because somebody wanted it so.
_UNLOADED = "unloaded"


def _served(entry: Entry) -> list[ServedVersion]:
    return [v.served for _n, v in sorted(entry.versions.items()) if v.served is not None]


def _config_override(
    model: str, parameters: Mapping[str, str | bytes | int | bool]
) -> ModelConfig | None:
    """The configuration that a load request brings along, if it does."""
    for name, value in parameters.items():
        if name.startswith("file:"):
            raise UnsupportedError(
                f"load parameter '{name}' of model '{model}': overriding files is not supported "
                f"by this version of the server"
            )
        if name != "config":
            raise InvalidArgumentError(f"unrecognized load parameter '{name}'.")
        if not isinstance(value, str):
            raise InvalidArgumentError(
                f"load parameter 'config' of model '{model}' must be a string of JSON"
            )
        return from_json(value, f"the configuration given to load '{model}'")
    return None
