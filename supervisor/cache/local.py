"""The response cache in the server's own memory."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import numpy as np

from ...ipc.tensor import Tensor
from .cache import THREAD_LIMIT_BYTES, CachedAnswer, CacheSnapshot
from .lru import LruAnswers


class LocalCache:
    """Keeps copies of answers up to a number of bytes, and drops those that were used longest ago.

    A view of a dropped answer's output keeps its bytes until it is sent.
    """

    is_shared = False

    def __init__(self, size_bytes: int) -> None:
        self._answers = LruAnswers(size_bytes)
        self._hits = self._misses = 0
        self._lookup_ns = self._insertion_ns = 0

    def __repr__(self) -> str:
        return f"<LocalCache {self._answers!r}>"

    async def start(self) -> None:
        """Nothing is needed."""

    async def close(self) -> None:
        """Drop all answers."""
        self._answers.clear()

    async def lookup(self, key: bytes) -> CachedAnswer | None:
        """The answer that is kept under a key, None without one."""
        begun = time.monotonic_ns()
        found = self._answers.use(key)
        if found is None:
            self._misses += 1
        else:
            self._hits += 1
        self._lookup_ns += time.monotonic_ns() - begun
        return found

    async def insert(self, key: bytes, answer: CachedAnswer) -> None:
        """Keep a copy of an answer; one that would not fit, or is there already, is not copied."""
        size = answer.byte_size
        if key in self._answers or not self._answers.fits(size):
            return
        begun = time.monotonic_ns()
        if size <= THREAD_LIMIT_BYTES:
            copy = _copy(answer)
        else:
            copy = await asyncio.get_running_loop().run_in_executor(None, _copy, answer)
        self._answers.keep(key, copy)
        self._insertion_ns += time.monotonic_ns() - begun

    def snapshot(self) -> CacheSnapshot:
        """What it holds and has counted."""
        return CacheSnapshot(
            size_bytes=self._answers.limit_bytes,
            used_bytes=self._answers.used_bytes,
            entries=len(self._answers),
            lookups=self._hits + self._misses,
            hits=self._hits,
            misses=self._misses,
            evictions=self._answers.evictions,
            lookup_ns=self._lookup_ns,
            insertion_ns=self._insertion_ns,
        )


def _copy(answer: CachedAnswer) -> CachedAnswer:
    outputs = [
        Tensor(each.name, each.datatype, each.shape, _copied(cast("memoryview", each.data)))
        for each in answer.outputs
    ]
    return CachedAnswer(outputs, answer.parameters)


def _copied(data: memoryview) -> memoryview:
    """The bytes, read-only; numpy copies without holding the interpreter."""
    copy = np.frombuffer(data, np.uint8).copy()
    copy.flags.writeable = False
    return copy.data
