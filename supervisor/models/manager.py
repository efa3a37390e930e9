"""All models: what lies in the repositories, what is asked for, what is served.

Operations on one model happen one after the other, those on different models side by side.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence

from ...ipc.errors import InternalError, StatusError, UnavailableError
from ..repository.layout import check_name
from ..request import InferRequest
from ..settings import ALL_MODELS, Settings
from ..telemetry.statistics import StatisticsSnapshot
from . import load_request
from .assembly import Assembly
from .catalogue import Catalogue
from .composition import Composition
from .deployer import Deployer
from .entry import Entry
from .identifier import ModelIdentifier
from .index import ModelIndex
from .intake import Intake
from .load_request import LoadRequest
from .loader import Loader
from .model import ServedVersion
from .registry import Registry
from .residents import Residents
from .scaling import Scaling
from .tasks import Tasks
from .traffic import TrafficRule, TrafficStatus

log = logging.getLogger(__name__)

#: How often it is looked whether all sequences have ended (seconds).
_LOOK_SECS = 0.02

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
        self._registry = Registry(settings.models.namespacing)
        self._catalogue = Catalogue(settings)
        self._deployer = Deployer(settings.models, loader, on_retired)
        self._composition = Composition(self._registry, self._catalogue)
        intake = Intake(
            self._catalogue,
            self._composition,
            self._deployer,
            scratch_directory or tempfile.gettempdir(),
            settings.residency.policy == "on-demand",
        )
        self._assembly = Assembly(
            self._registry,
            self._catalogue,
            self._composition,
            intake,
            self._deployer,
            explicit=settings.models.mode == "explicit",
        )
        #: The models that are loaded on demand.
        self.residents = Residents(
            settings.residency, self._registry, self._deployer, self._load_for_a_request
        )
        intake.noted = self.residents.note
        #: Loads, unloads, changes of instances and polling.
        self._operations = Tasks()
        #: How many instances serve each model.
        self.scaling = Scaling(self._registry, self._deployer, self._operations)
        self._started = False
        #: With sticky readiness: it was asked for and found once.
        self._was_ready = False
        #: As that one, with what the models themselves have said.
        self._said_ready = False
        #: What the first model that failed at the start failed with.
        self.start_error: StatusError | None = None

    def __repr__(self) -> str:
        ready = sum(len(entry.ready()) for entry in self._registry)
        return f"<ModelManager: {len(self._registry)} models, {ready} versions ready>"

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look at the repositories and load what is wanted at the start.

        A model that fails is told in the log and in the index; the rest is served. Raises
        InvalidArgumentError when a repository cannot be read at all.
        """
        await self._catalogue.look()
        control = self._settings.models
        if control.mode != "explicit" or ALL_MODELS in control.startup:
            wanted: Sequence[ModelIdentifier] = self._catalogue.identifiers
        else:
            wanted = [one for name in control.startup for one in self._named(name)]
        loads = (self._operations.run(self._load_untried(model)) for model in wanted)
        await asyncio.gather(*loads)
        for model in wanted:
            self._registry.enter(model).explicit = True
        self._started = True
        self.is_ready()
        self.residents.start()
        if control.mode == "poll" and control.poll_secs:
            self._operations.begin(self._poll_every(control.poll_secs))

    async def stop_loading(self) -> None:
        """Give up the loads that are under way; whoever waits for one is told."""
        self._catalogue.storage.stop_fetching()
        await self.residents.stop()
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

    async def finish_sequences(self, patience: float) -> None:
        """Begin no more sequences, and wait so long for those that have begun to end."""
        served = self.all_served()
        for one in served:
            one.stop_sequences()
        try:
            async with asyncio.timeout(patience):
                while any(one.open_sequences for one in served):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(_LOOK_SECS)
        except TimeoutError:
            log.warning("sequences that have not ended are given up")

    @property
    def running(self) -> int:
        """Requests that have been accepted by any model and are not answered."""
        return sum(served.running for served in self.all_served())

    # --- questions --------------------------------------------------------------------------------

    def version(self, model: str, version: int | None, home: str = "") -> ServedVersion:
        """The version that serves, or the latest one.

        With namespacing a model that asks means the one in its own namespace, `home`, if it is
        there. Raises NotFoundError, UnavailableError, or InvalidArgumentError for a name that
        several models have.
        """
        return self._registry.find(model, home).serving(version)

    def labelled(self, model: str, label: str) -> int | None:
        """The version that has a label now; None when the model gives no version that label."""
        entry = self._registry.seek(model)
        return entry.labels.get(label) if entry is not None else None

    def route(self, request: InferRequest) -> None:
        """Give a request that names no version one, where its model's traffic is split."""
        entry = self._registry.seek(request.model)
        if entry is not None and entry.traffic is not None:
            entry.traffic.route(request, entry.ready_version)

    def traffic(self, model: str) -> TrafficStatus:
        """How a model's traffic is split. Raises the look-up errors."""
        return self._registry.find(model).traffic_status()

    def set_traffic(self, model: str, rule: TrafficRule | None) -> None:
        """Split a model's traffic by a rule, or again as its configuration says.

        It holds until it is changed, over reloads. Raises the look-up errors, and
        InvalidArgumentError for a rule that names what is not there.
        """
        entry = self._registry.find(model)
        if rule is not None:
            entry.check_rule(rule)
        entry.given_rule = rule
        entry.settle_traffic()

    def ready_versions(self, model: str) -> list[int]:
        """The versions of a model that are ready, ascending; none of a model that is unknown."""
        entry = self._registry.seek(model)
        return entry.ready() if entry is not None else []

    def is_ready(self) -> bool:
        """Whether the start is over and, with strict readiness, every model is ready.

        A model that was unloaded on request does not count. With sticky readiness it stays so.
        """
        if not self._started:
            return False
        if self._was_ready or not self._settings.strict_readiness:
            return True
        ready = all(entry.is_ready for entry in self._registry)
        self._was_ready = ready and self._settings.sticky_readiness
        return ready

    async def check_ready(self) -> bool:
        """As `is_ready`, and with strict readiness every model says so itself where it is asked."""
        if not self.is_ready():
            return False
        if self._said_ready or not self._settings.strict_readiness:
            return True
        checks = [entry.check_ready() for entry in self._registry]
        ready = all(await asyncio.gather(*checks))
        self._said_ready = ready and self._settings.sticky_readiness
        return ready

    def all_served(self) -> list[ServedVersion]:
        """All versions that serve, by name and number; then those that are still finishing."""
        return [*self._serving(), *self._deployer.leaving]

    def statistics(self, model: str = "") -> list[StatisticsSnapshot]:
        """The statistics of all versions that serve, or of those of one model."""
        if not model:
            return [served.snapshot() for served in self._serving()]
        entry = self._registry.seek(model)
        return [served.snapshot() for served in _served(entry)] if entry is not None else []

    def index(self, ready: bool) -> list[ModelIndex]:
        """All models, or only what is ready; the versions of each in order."""
        lines: list[ModelIndex] = []
        found_now = set(self._catalogue.identifiers)
        for model in sorted(found_now.union(entry.identifier for entry in self._registry)):
            entry = self._registry.get(model)
            serves = entry is not None and bool(_served(entry))
            if self._catalogue.is_duplicate(model) and not serves:
                found = [ModelIndex.of(model, state="UNAVAILABLE", reason=_DUPLICATE)]
            elif entry is not None and not entry.is_blank:
                found = entry.index()
            else:
                found = [ModelIndex.of(model)] if model in found_now else []
            lines += [line for line in found if not ready or line.state == "READY"]
        return lines

    # --- changes ----------------------------------------------------------------------------------

    async def load(self, model: str, parameters: Mapping[str, str | bytes | int | bool]) -> None:
        """Load or reload a model, or all that have this name, on somebody's request.

        Raises UnavailableError outside of explicit mode, InternalError when no repository has the
        model, InvalidArgumentError when loading it failed.
        """
        self._check_explicit()
        check_name(model)
        request = load_request.read(model, parameters)
        await self._catalogue.look(model)
        # What a request brings along lies in no repository.
        wanted = [ModelIdentifier("", model)] if request.files else self._catalogue.named(model)
        if not wanted:
            raise InternalError(f"failed to load '{model}', failed to poll from model repository")
        await self._operations.run(self._load_all(wanted, request))
        for found in wanted:
            self._registry.enter(found).explicit = True

    async def unload(self, model: str, *, unload_dependents: bool = False) -> None:
        """Stop serving a model, or all that have this name; what they have is finished meanwhile.

        Ensembles that need it go with it, and with `unload_dependents` what only it needed and
        nobody asked for. A model that is not loaded is no error. Raises UnavailableError outside of
        explicit mode.
        """
        self._check_explicit()
        entries = list(self._registry.named(model))
        if unload_dependents:
            entries += self._composition.no_longer_needed([one.identifier for one in entries])
        for entry in entries:
            await self._operations.run(self._unload(entry))

    def _named(self, name: str) -> Sequence[ModelIdentifier]:
        """All models of this name; where there is none, the one whose absence is to be told."""
        return self._catalogue.named(name) or [ModelIdentifier("", name)]

    async def _load_all(self, models: Sequence[ModelIdentifier], request: LoadRequest) -> None:
        """Load models of one name; when some fail, all their errors are one."""
        loads = (self._assembly.load(model, request, self._load_quietly) for model in models)
        results = await asyncio.gather(*loads, return_exceptions=True)
        errors = [result for result in results if result is not None]
        unexpected = [error for error in errors if not isinstance(error, StatusError)]
        if unexpected:
            raise unexpected[0]
        failed = [error for error in errors if isinstance(error, StatusError)]
        if failed:
            raise type(failed[0])("".join(error.message for error in failed))

    async def _load_quietly(self, model: ModelIdentifier, *, untried: bool = False) -> None:
        """Load a model whose failure only the log and the index will tell.

        A model on demand that is not loaded need not be.
        """
        try:
            load = self._load_untried if untried else self._load_quietly
            await self._assembly.load(model, LoadRequest(), load, untried=untried, lazily=True)
        except StatusError as error:  # logged where it happened
            if not self._started and self.start_error is None:
                self.start_error = error
        except Exception:  # the supervision loop: a model fails alone, whatever we did wrong
            log.exception("failed to load '%s'", model)

    async def _load_untried(self, model: ModelIdentifier) -> None:
        """Load a model unless that was tried with these very files, be it in vain."""
        await self._load_quietly(model, untried=True)

    async def _load_for_a_request(self, entry: Entry) -> None:
        """Load a model on demand."""
        await self._assembly.load(entry.identifier, LoadRequest(), self._load_quietly)

    async def _unload(self, entry: Entry) -> None:
        await self._assembly.unload(entry)
        self.residents.note(entry)

    # --- polling ----------------------------------------------------------------------------------

    async def poll(self) -> None:
        """Begin to do what has changed in the repositories."""
        try:
            await self._catalogue.look()
        except StatusError as error:
            log.error("polling failed, nothing is changed: %s", error.message)
            return
        known = set(self._catalogue.identifiers)
        for model in known.union(entry.identifier for entry in self._registry):
            entry = self._registry.get(model)
            if entry is not None and entry.lock.locked():
                continue  # a model that takes long to load must not hold up the others
            if self._catalogue.is_duplicate(model):
                log.error(
                    "failed to poll model '%s': not unique across all model repositories", model
                )
            if model in known and not self._catalogue.is_duplicate(model):
                self._operations.begin(self._load_untried(model))
            elif entry is not None:
                self._operations.begin(self._unload(entry))

    async def _poll_every(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.poll()

    # --- inside -----------------------------------------------------------------------------------

    def _serving(self) -> list[ServedVersion]:
        return [served for entry in self._registry for served in _served(entry)]

    def _check_explicit(self) -> None:
        if self._settings.models.mode != "explicit":
            raise UnavailableError(
                "explicit model load / unload is not allowed if polling is enabled"
            )


def _served(entry: Entry) -> list[ServedVersion]:
    return [v.served for _n, v in sorted(entry.versions.items()) if v.served is not None]
