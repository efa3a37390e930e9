"""Has environments made once, for all models and servers that want them."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable

from .shared_task import SharedTask
from .store import Construction, EnvironmentStore, Lease
from .threads import Threads

log = logging.getLogger(__name__)

#: How often it is looked whether another server has made an environment (seconds).
_LOOK_SECONDS = 0.2

#: Fills a folder with an environment.
Make = Callable[[str], Awaitable[None]]


class EnvironmentCache:
    """The store of environments on the event loop."""

    def __init__(self, directory: str, threads: Threads) -> None:
        self._store = EnvironmentStore(directory)
        self._threads = threads
        self._making: dict[str, SharedTask] = {}
        self._opening = asyncio.Lock()
        self._is_open = False

    def __repr__(self) -> str:
        return f"<EnvironmentCache {self._store.directory}: {len(self._making)} are being made>"

    async def obtain(self, key: str, source: str, make: Make) -> Lease:
        """What is kept under a key; `make` fills a folder with it when it is not there.

        `source` says in messages what it is made from. Raises what `make` does, EnvironmentFailure
        when the store's folder cannot be had, and OSError when the disk refuses.
        """
        async with self._opening:
            if not self._is_open:
                await self._threads.run(self._store.open)
                self._is_open = True
        while (lease := await self._share(key)) is None:
            making = self._making.get(key)
            if making is None:
                making = SharedTask(
                    self._make(key, source, make), functools.partial(self._forget, key)
                )
                self._making[key] = making
            await making.wait()
        return lease

    async def _make(self, key: str, source: str, make: Make) -> None:
        """Have something in the store, whoever makes it."""
        construction = await self._construct(key)
        if construction is None:
            log.info("'%s' is being made by another server, which is waited for", source)
        while construction is None:
            lease = await self._share(key)
            if lease is not None:
                lease.release()
                return
            await asyncio.sleep(_LOOK_SECONDS)
            construction = await self._construct(key)
        try:
            await self._threads.run(construction.begin)
            await make(construction.tree)
            await self._threads.run(functools.partial(construction.finish, source))
        except BaseException:
            await self._threads.run(construction.abandon)
            raise

    async def _share(self, key: str) -> Lease | None:
        return await self._threads.run(
            functools.partial(self._store.share, key), undo=_release_lease
        )

    async def _construct(self, key: str) -> Construction | None:
        return await self._threads.run(
            functools.partial(self._store.construct, key), undo=_close_construction
        )

    def _forget(self, key: str) -> None:
        del self._making[key]


def _release_lease(lease: Lease | None) -> None:
    if lease is not None:
        lease.release()


def _close_construction(construction: Construction | None) -> None:
    if construction is not None:
        construction.close()
