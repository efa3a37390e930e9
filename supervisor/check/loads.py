"""Load models in real workers, one after the other, and unload them again.

The server that does it is the one that would serve, with its doors shut.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import uvloop
from msgspec.structs import replace

from ...ipc.errors import StatusError
from ..models.manager import ModelManager
from ..server import Server, runtime
from ..settings import Settings
from .findings import Loaded, ModelReport, Severity

#: How often it is looked whether a model that was unloaded has ended (seconds).
_LOOK_SECS = 0.02

_LETTERS = {logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "E"}


class _Lines(logging.Handler):
    """Keeps what is logged, but for the server's tables."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        if not getattr(record, "table", False):
            self.lines.append(f"{_LETTERS.get(record.levelno, 'I')} {record.getMessage()}")


def load_each(settings: Settings, reports: Sequence[ModelReport]) -> None:
    """Load each model that nothing was found against, with what it needs, and add what came of it
    to its report.

    Raises OSError when there can be no server.
    """
    with _logged() as lines, runtime() as (directory, sentinel):
        uvloop.run(_load_each(Server(_shut(settings), directory, sentinel), reports, lines))


async def _load_each(server: Server, reports: Sequence[ModelReport], lines: _Lines) -> None:
    try:
        await server.start()
        for report in reports:
            if not report.failed:
                lines.lines = []
                await _load(server.models, report)
                assert report.loaded is not None
                report.loaded.log = lines.lines
    finally:
        await server.stop()


async def _load(manager: ModelManager, report: ModelReport) -> None:
    name = report.model.name
    report.loaded = Loaded(ok=True)
    try:
        await manager.load(name, {})
        for statistics in manager.statistics(name):
            report.loaded.seconds += statistics.load_ns / 1e9
            used = sum(each.byte_size for each in statistics.memory_usage)
            report.loaded.memory_bytes += used
    except StatusError as error:
        report.loaded.ok = False
        report.add(Severity.ERROR, error.message)
    await manager.unload(name, unload_dependents=True)
    while manager.all_served():  # noqa: ASYNC110 - no event
        await asyncio.sleep(_LOOK_SECS)


def _shut(settings: Settings) -> Settings:
    """The settings of a server that nobody can call, and that loads what it is told to."""
    return replace(
        settings,
        http=replace(settings.http, enabled=False),
        grpc=replace(settings.grpc, enabled=False),
        metrics=replace(settings.metrics, enabled=False),
        models=replace(settings.models, mode="explicit", startup=()),
        exit_on_error=False,
    )


@contextmanager
def _logged() -> Generator[_Lines]:
    """What the server logs meanwhile."""
    logger, lines = logging.getLogger("tritonpy"), _Lines()
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.setLevel(level)
        logger.removeHandler(lines)
