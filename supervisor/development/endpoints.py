"""The child process of `run-model`: a server that loads one model anew when its files change.

saved ── Python? ──no──> told; what was loaded serves on
           └──yes──> unload (requests finish) ──> load ──failed──> told; the next save tries again
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence

from ...ipc.errors import StatusError
from ..check import source_code
from ..config.runtime import find_runtime
from ..log import ServerLog
from ..models.catalogue import Catalogue
from ..models.ensembles import is_ensemble
from ..models.preparation import Plan, completed
from ..repository import layout, poller, versions
from ..server import Server
from ..settings import Settings
from ..workers.sentinel import Sentinel
from .terminal import Terminal

log = logging.getLogger(__name__)

#: How often it is looked whether a file has changed (seconds). A change counts when two looks in a
#: row see the same: an editor may be writing.
_LOOK_SECS = 0.2

#: How often it is looked whether the model has ended (seconds).
_END_SECS = 0.02


class Endpoints(Server):
    """A server for one model whose worker is in the foreground."""

    def __init__(
        self,
        settings: Settings,
        runtime_directory: str,
        sentinel: Sentinel,
        server_log: ServerLog | None,
        terminal: Terminal,
        model: str,
    ) -> None:
        super().__init__(settings, runtime_directory, sentinel, server_log, terminal)
        self._model = model
        self._development = settings
        self._terminal = terminal
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> bool:
        """Open the ports, then load the model and follow its files."""
        plan = await asyncio.to_thread(self._plan)
        if plan is not None and is_ensemble(plan.config):
            log.error(
                "error: creating server: model '%s' is an ensemble, which no worker runs: run one "
                "of its steps, and the ensemble by --load-model",
                self._model,
            )
            return False
        self._terminal.open()
        if not await super().start():
            return False
        self._following = asyncio.get_running_loop().create_task(self._follow())
        return True

    async def stop(self) -> bool:
        """Stop as any server."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        in_time = await super().stop()
        self._terminal.close()
        return in_time

    async def _follow(self) -> None:
        """Load the model, and again whenever its files have changed."""
        while True:
            seen = await asyncio.to_thread(self._seen)
            await self._load()
            while True:
                changed, seen = await self._change(seen)
                mistakes = await asyncio.to_thread(_syntax_errors, changed)
                for mistake in mistakes:
                    log.error("%s; what was loaded before serves on", mistake)
                if not mistakes:
                    break
            log.info("changed: %s", ", ".join(changed))
            await self._unload()

    async def _change(self, seen: poller.Fingerprint) -> tuple[list[str], poller.Fingerprint]:
        """Wait for a change of the files; returns what has changed, and how they look now."""
        before = seen
        while True:
            await asyncio.sleep(_LOOK_SECS)
            now = await asyncio.to_thread(self._seen)
            changed = sorted(path for path in {*seen, *now} if seen.get(path) != now.get(path))
            if changed and now == before:
                return changed, now
            before = now

    async def _load(self) -> None:
        name = self._model
        try:
            if not self._is_served:  # as a step of an ensemble that was asked for
                version = await asyncio.to_thread(self._version)
                await self.models.load(name, {} if version is None else {"versions": str(version)})
        except StatusError:  # the log has told what failed
            log.error("model '%s' is not served; it is loaded again when a file is saved", name)
        else:
            log.info("model '%s' is served from the foreground; Ctrl-C ends it", name)

    async def _unload(self) -> None:
        """Let the model finish what it has, and finalize itself: there is one process for it."""
        await self.models.unload(self._model)
        while self._is_served:  # noqa: ASYNC110 - no event
            await asyncio.sleep(_END_SECS)

    @property
    def _is_served(self) -> bool:
        """Whether it serves, or still finishes what it has."""
        return any(served.name == self._model for served in self.models.all_served())

    # --- the disk ---------------------------------------------------------------------------------

    def _seen(self) -> poller.Fingerprint:
        """What the files look like, of the model and of its python-based backend. Blocking."""
        seen: dict[str, tuple[int, int]] = {}
        for folder in self._folders():
            for path, state in poller.fingerprint(folder).items():
                if not _is_of_an_editor(path):
                    seen[os.path.join(folder, path)] = state
        return seen

    def _folders(self) -> list[str]:
        """Where the model's files are, and its backend's."""
        plan = self._plan()
        directory = os.path.join(self._development.repositories[0], self._model)
        if plan is None:
            return [directory]
        try:
            runtime = find_runtime(
                completed(plan.config, plan),
                plan.directory,
                plan.version_directory,
                self._development.workers.backend_directory,
                plan.source,
            )
        except StatusError:
            return [directory]
        folder = os.path.dirname(runtime.file)
        return [directory, folder] if folder and not folder.startswith(directory) else [directory]

    def _version(self) -> int | None:
        """The one version that is run: the latest that would be served."""
        plan = self._plan()
        return plan.version if plan is not None else None

    def _plan(self) -> Plan | None:
        """The version as its files describe it; None where they do not make sense, as a load will
        tell.
        """
        settings = self._development
        repository, config_name = settings.repositories[0], settings.models.config_name
        try:
            found = layout.find_model(repository, self._model, config_name)
            if found is None:
                return None
            config, source = Catalogue(settings).config(found)
            number = versions.select(config.version_policy, found.versions, found.name)[-1]
        except StatusError:
            return None
        return Plan(found.name, number, found.directory, config, source)


def _is_of_an_editor(path: str) -> bool:
    """Whether it is one of the files that editors write beside the one that is edited."""
    name = os.path.basename(path)
    return name.startswith(".") or name.endswith(("~", ".swp", ".swx", ".tmp")) or name == "4913"


def _syntax_errors(paths: Sequence[str]) -> list[str]:
    """What keeps changed files from being Python. Blocking."""
    found: list[str] = []
    for path in paths:
        if path.endswith(".py") and os.path.exists(path):
            error = source_code.syntax_error(path)
            if error is not None:
                found.append(f"{path}:{error.line or 1}: {error.message}")
    return found
