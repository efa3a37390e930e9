"""The models that are loaded on demand: loads them when somebody asks, unloads what is in the way.

The shell around residency.py. Time is the event loop's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from ...ipc.errors import StatusError, UnavailableError
from ..settings import ResidencySettings
from ..workers import memory_use
from ..workers.pool import Pool
from .deployer import Deployer
from .entry import Entry
from .identifier import ModelIdentifier
from .model import ServedVersion
from .registry import Registry
from .residency import Residency, Verdict
from .tasks import Tasks

log = logging.getLogger(__name__)

#: How often it is looked for what must go (seconds).
_LOOK_SECS = 1.0


class Use:
    """A request's right to find its model loaded; ends with `release`, which may be repeated."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """The request has ended."""
        release, self._release = self._release, None
        if release is not None:
            release()


class Residents:
    """Has models loaded and unloaded as residency.py decides."""

    def __init__(
        self,
        settings: ResidencySettings,
        registry: Registry,
        deployer: Deployer,
        load: Callable[[Entry], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._deployer = deployer
        self._load = load
        self._core = Residency(settings.idle_secs)
        self._loads: dict[ModelIdentifier, asyncio.Task[None]] = {}
        #: Loads that requests wait for, and the looking.
        self._tasks = Tasks()

    def __repr__(self) -> str:
        return f"<Residents: {self._core!r}, {len(self._loads)} loads under way>"

    def __bool__(self) -> bool:
        """Whether any model is loaded on demand."""
        return len(self._core) > 0

    def concerns(self, model: str) -> bool:
        """Whether whoever asks for a model must hold a `use` of it: it is loaded on demand."""
        entry = self._registry.seek(model)
        return entry is not None and entry.on_demand

    def start(self) -> None:
        """Begin to look for what must go, from time to time."""
        self._tasks.begin(self._look_every(_LOOK_SECS))

    async def stop(self) -> None:
        """Load and unload nothing any more; whoever waits for a load is told."""
        await self._tasks.cancel()

    def note(self, entry: Entry) -> None:
        """Something has become of a model: it was admitted, loaded or unloaded, by whomever."""
        if not entry.on_demand:
            self._core.forget(entry.identifier)
        elif entry.latest is not None:
            self._core.loaded(entry.identifier, _now())
        else:
            self._core.admit(entry.identifier)

    @asynccontextmanager
    async def using(self, model: str) -> AsyncGenerator[None]:
        """Have a model loaded as long as this lasts; see `use`."""
        use = await self.use(model)
        try:
            yield
        finally:
            use.release()

    async def use(self, model: str, home: str = "") -> Use:
        """Have a model loaded, if it is one to load on demand, until the use is released.

        Returns when it is loaded. Raises UnavailableError when that fails, or takes too long: then
        it goes on for the next request.
        """
        entry = self._registry.seek(model, home)
        if entry is None or not entry.on_demand:
            return Use(_nothing)  # looking it up tells
        key = entry.identifier
        verdict = self._core.request(key, _now())
        if verdict is Verdict.REFUSE:
            raise self._failure(entry)
        use = Use(lambda: self._core.release(key, _now()))
        if verdict is Verdict.LOAD:
            self._loads[key] = self._tasks.begin(self._load_now(entry))
        if verdict is not Verdict.SERVE:
            try:
                await self._wait(entry, self._loads.get(key))
            except BaseException:
                use.release()
                raise
        return use

    async def _wait(self, entry: Entry, loading: asyncio.Task[None] | None) -> None:
        if loading is None:
            raise UnavailableError("the server is stopping")
        try:
            async with asyncio.timeout(self._settings.wait_secs):
                await asyncio.shield(loading)
        except TimeoutError:
            raise UnavailableError(
                f"model '{entry.identifier}' is loaded on demand and was not ready within "
                f"{self._settings.wait_secs} seconds; the load goes on, so try again, or raise "
                f"--residency-wait-secs"
            ) from None
        except asyncio.CancelledError:
            if loading.cancelled():
                raise UnavailableError("the server is stopping") from None
            raise
        if entry.on_demand and entry.latest is None:
            raise self._failure(entry)

    def _failure(self, entry: Entry) -> UnavailableError:
        reason = self._core.reason(entry.identifier)
        return UnavailableError(
            f"model '{entry.identifier}' cannot be loaded on demand: {reason.rstrip()}"
        )

    async def _load_now(self, entry: Entry) -> None:
        key = entry.identifier
        log.info("loading '%s' on demand", key)
        try:
            await self._load(entry)
        except StatusError as error:  # logged where it happened
            self._core.load_failed(key, error.message, _now())
        except Exception as error:  # a model fails alone, whatever we did wrong
            log.exception("failed to load '%s' on demand", key)
            self._core.load_failed(key, f"{type(error).__name__}: {error}", _now())
        else:
            self.note(entry)
        finally:
            self._loads.pop(key, None)

    # --- what must go -----------------------------------------------------------------------------

    async def look(self) -> None:
        """Unload what has been idle for too long, or is in the way."""
        if not self._core.residents:
            return
        excess, sizes = await self._measure()
        busy = {entry.identifier for entry in self._registry if _is_busy(entry)}
        for entry in self._registry:
            if entry.latest is not None or entry.identifier in self._loads:
                busy.update(entry.composing)  # the steps of an ensemble
        for eviction in self._core.evict(_now(), excess, sizes, busy):
            log.info("unloading '%s', which is loaded on demand: %s", eviction.model, eviction.why)
            self._deployer.withdraw(self._registry.enter(eviction.model))

    async def _measure(self) -> tuple[int, dict[ModelIdentifier, int]]:
        """How many bytes are to be freed, and how many each model takes."""
        settings = self._settings
        if not settings.max_bytes and not settings.min_free_bytes:
            return 0, {}
        pids = {
            entry.identifier: [
                pid
                for version in entry.versions.values()
                if version.served is not None
                for pid in _pids(version.served)
            ]
            for entry in self._registry
        }
        leaving = [pid for served in self._deployer.leaving for pid in _pids(served)]

        def measure() -> tuple[int, dict[ModelIdentifier, int]]:
            sizes = {model: memory_use.used_bytes(found) for model, found in pids.items()}
            excess = sum(sizes.values()) - settings.max_bytes if settings.max_bytes else 0
            if settings.min_free_bytes:
                # What is leaving will be free in a moment: nothing else must go for it.
                free = memory_use.free_bytes() + memory_use.used_bytes(leaving)
                excess = max(excess, settings.min_free_bytes - free)
            return excess, sizes

        return await asyncio.to_thread(measure)

    async def _look_every(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.look()
            except Exception:  # the supervision loop: it must go on
                log.exception("looking for models to unload failed")


def _is_busy(entry: Entry) -> bool:
    """Whether somebody works on it or with it: an operation, a request, a sequence."""
    served = [version.served for version in entry.versions.values() if version.served is not None]
    return entry.lock.locked() or any(one.running or one.open_sequences for one in served)


def _pids(served: ServedVersion) -> list[int]:
    if not isinstance(served.pool, Pool):
        return []
    return [instance.pid for instance in served.pool.instances if instance.pid is not None]


def _now() -> float:
    return asyncio.get_running_loop().time()


def _nothing() -> None:
    """What is left to do for a model that is not loaded on demand."""
