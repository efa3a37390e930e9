"""Brings the versions of a model into service and out of it again.

New versions are prepared beside the old ones and take over when all of them are ready; when one
fails, all of them are thrown away and whatever served before goes on serving. A version that need
not be loaded anew stays, and is given other instances if that is all that has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar

from ...ipc.errors import InvalidArgumentError, StatusError
from ..repository.given import GivenFolder
from ..settings import ModelControlSettings
from .entry import UNLOADED, Entry, Version
from .loader import Loader
from .model import ServedVersion
from .preparation import Plan
from .states import VersionEvent, VersionState
from .tasks import Tasks

log = logging.getLogger(__name__)

#: How long requests of a version that is replaced or unloaded may take to finish (seconds).
_DRAIN_TIMEOUT = 600.0

#: Whether a load is asked for by a model that is being loaded itself.
WITHIN_A_LOAD: ContextVar[bool] = ContextVar("within a load", default=False)

#: How long a model may take to finalize (seconds).
_FINALIZE_TIMEOUT = 30.0


class Deployer:
    """Loads, replaces and retires versions. Whoever calls holds the lock of the entry."""

    def __init__(
        self,
        control: ModelControlSettings,
        loader: Loader,
        on_retired: Callable[[ServedVersion], None],
    ) -> None:
        self._loader = loader
        self._on_retired = on_retired
        self._retries = control.load_retries
        self._loading = asyncio.Semaphore(max(1, control.load_threads))
        #: The ends of what served, which nobody waits for.
        self._retirements = Tasks()
        #: Replaced or unloaded, and not ended yet, in the order in which they left.
        self.leaving: list[ServedVersion] = []

    def __repr__(self) -> str:
        return f"<Deployer: {len(self.leaving)} versions leaving>"

    async def deploy(self, entry: Entry, plans: Sequence[Plan], kept: Sequence[Plan] = ()) -> None:
        """Load `plans`, and serve them and those that are `kept`, and no others.

        Raises InvalidArgumentError that tells what failed; what served before does so still.
        """
        numbers = [plan.version for plan in plans]
        for number in numbers:
            entry.event(number, VersionEvent.LOAD_REQUESTED)
            log.info("loading: %s:%d", entry.identifier, number)
        try:
            results = await self._load_all(plans)
        except asyncio.CancelledError:
            for number in numbers:
                entry.event(number, VersionEvent.LOAD_FAILED, "Unavailable: the server is stopping")
            raise
        changed: list[StatusError | None] = []
        loaded = [result for result in results if isinstance(result, ServedVersion)]
        if len(loaded) == len(results):
            changed = [await self._change(entry, plan) for plan in kept]
        failed = [error for error in changed if error is not None]
        if failed or len(loaded) < len(results):
            await asyncio.gather(*(served.close(_FINALIZE_TIMEOUT) for served in loaded))
            raise self._failure(
                entry,
                dict(zip(numbers, results, strict=True)),
                dict(zip((plan.version for plan in kept), changed, strict=False)),
            )
        self._take_over(entry, loaded, [*plans, *kept])
        log.info("successfully loaded '%s'", entry.identifier)

    def _take_over(
        self, entry: Entry, loaded: Sequence[ServedVersion], plans: Sequence[Plan]
    ) -> None:
        new = {served.version for served in loaded}
        wanted = {plan.version: plan for plan in plans}
        retired = {
            number: version.served
            for number, version in entry.versions.items()
            if number in new or number not in wanted
        }
        for served in loaded:
            entry.event(served.version, VersionEvent.LOADED).served = served
        for number, plan in wanted.items():
            entry.versions[number].plan = plan
        for number in entry.versions.keys() - wanted.keys():
            if entry.versions[number].state is VersionState.READY:
                entry.event(number, VersionEvent.UNLOAD_REQUESTED).served = None
            elif entry.versions[number].leaving is None:
                del entry.versions[number]  # failed or unloaded before, and not wanted any more
        entry.latest = entry.versions[max(wanted)].served
        entry.reason = ""
        for number, old in retired.items():
            if old is not None:
                self._leave(entry, entry.versions[number], old)

    async def scale(self, entry: Entry, plans: Sequence[Plan]) -> None:
        """Give versions that serve the instances of these plans, all of them or none.

        Raises the StatusError of the first instance that cannot be had.
        """
        before = [entry.plan_of(plan.version) for plan in plans]
        for done, plan in enumerate(plans):
            error = await self._change(entry, plan)
            if error is not None:
                for old in before[:done]:
                    await self._change(entry, old)
                log.error(
                    "failed to scale '%s' version %d: %s",
                    entry.identifier,
                    plan.version,
                    error.message,
                )
                raise type(error)(
                    f"model '{entry.identifier}' version {plan.version} is not scaled: "
                    f"{error.message}"
                )
        for plan in plans:
            entry.versions[plan.version].plan = plan

    def withdraw(self, entry: Entry) -> None:
        """Serve nothing of it any more; requests finish and memory is freed in the background."""
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

    async def stop(
        self, served: Sequence[ServedVersion], drain_timeout: float, stop_timeout: float
    ) -> bool:
        """End these and what is leaving; False when something did not finish in time."""
        await self._retirements.cancel()
        ends = [self._retire(one, drain_timeout, stop_timeout) for one in (*served, *self.leaving)]
        return all(await asyncio.gather(*ends))

    # --- loading ----------------------------------------------------------------------------------

    async def _load_all(self, plans: Sequence[Plan]) -> list[ServedVersion | BaseException]:
        """Load side by side; when that is cancelled, nothing is left of any of them."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._load(plan)) for plan in plans]
        if not tasks:
            return []
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

    async def _load(self, plan: Plan) -> ServedVersion:
        # What a model asks for while it is loaded must not wait for the others to be.
        async with contextlib.nullcontext() if WITHIN_A_LOAD.get() else self._loading:
            for left in range(self._retries, 0, -1):
                try:
                    return _held(plan.given, await self._loader.load(plan))
                except StatusError as error:
                    log.warning(
                        "loading '%s' version %d failed and is tried again, %d times at most: %s",
                        plan.name,
                        plan.version,
                        left,
                        error.message,
                    )
            return _held(plan.given, await self._loader.load(plan))

    async def _change(self, entry: Entry, plan: Plan) -> StatusError | None:
        """Give a version that stays the instances that are wanted now; the error when it cannot."""
        served = entry.versions[plan.version].served
        assert served is not None
        try:
            async with self._loading:
                dismissed = await self._loader.change_instances(served, plan)
        except StatusError as error:
            return error
        if dismissed:
            self._retirements.begin(
                self._loader.dismiss(served, dismissed, _DRAIN_TIMEOUT, _FINALIZE_TIMEOUT)
            )
        return None

    def _failure(
        self,
        entry: Entry,
        results: Mapping[int, ServedVersion | BaseException],
        changed: Mapping[int, StatusError | None],
    ) -> StatusError:
        """Tell what failed, in the log and as the error for the client."""
        clauses: list[str] = []
        for number, result in {**results, **changed}.items():
            if isinstance(result, StatusError):
                reason = f"{result.label}: {result.message}"
                log.error("failed to load '%s' version %d: %s", entry.identifier, number, reason)
            elif isinstance(result, BaseException):
                reason = f"Internal: {type(result).__name__}: {result}"
                log.error(
                    "failed to load '%s' version %d", entry.identifier, number, exc_info=result
                )
            else:
                reason = "another version of the same load failed"
            if number in results:
                entry.event(number, VersionEvent.LOAD_FAILED, reason)
                if entry.versions[number].state is VersionState.READY:
                    entry.versions[number].reason = ""  # the old one goes on serving
            if isinstance(result, BaseException):
                clauses.append(f"version {number} is at UNAVAILABLE state: {reason};")
        log.error("failed to load '%s'", entry.identifier)
        return InvalidArgumentError(
            f"load failed for model '{entry.identifier}': " + " ".join(clauses) + "\n"
        )

    # --- the end ----------------------------------------------------------------------------------

    def _leave(self, entry: Entry, version: Version, served: ServedVersion) -> None:
        """Have what served a version finish and end in the background."""
        version.leaving = served
        self.leaving.append(served)
        self._retirements.begin(self._retire_version(entry, version, served))

    async def _retire_version(self, entry: Entry, version: Version, served: ServedVersion) -> None:
        """Let it finish what it has, end it, and say so, unless a newer one took over."""
        await self._retire(served, _DRAIN_TIMEOUT, _FINALIZE_TIMEOUT)
        if version.leaving is served:
            version.leaving = None
            if version.state is VersionState.UNLOADING:
                entry.event(served.version, VersionEvent.UNLOADED, UNLOADED)
        log.info("successfully unloaded '%s' version %d", entry.identifier, served.version)

    async def _retire(
        self, served: ServedVersion, drain_timeout: float, stop_timeout: float
    ) -> bool:
        """End it; False when something did not finish in time."""
        in_time = await served.retire(drain_timeout, stop_timeout)
        if served in self.leaving:
            self.leaving.remove(served)
        self._on_retired(served)
        return in_time


def _held(given: GivenFolder | None, served: ServedVersion) -> ServedVersion:
    """Keep the folder that a version was loaded from until the version is closed."""
    if given is None:
        return served
    given.hold()
    close = served.on_closed

    def closed() -> None:
        close()
        given.release()

    served.on_closed = closed
    return served
