"""What a response cache is, what it keeps, and what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ...ipc.messages import Parameter
from ...ipc.tensor import Tensor

#: Bytes by the thousand are hashed or copied on the event loop up to this size, beyond it on a
#: thread: nothing may hold up the loop for a millisecond.
THREAD_LIMIT_BYTES = 256 * 1024

#: What an answer costs beside its tensors' bytes: names, shapes, the key and Python's own.
_OVERHEAD_BYTES = 512


class CachedAnswer(msgspec.Struct, frozen=True, array_like=True):
    """The one response to a request, without what belongs to that request alone.

    The outputs' bytes are its own; views of them keep them alive after the answer was dropped.
    """

    outputs: Sequence[Tensor]
    parameters: dict[str, Parameter]

    @property
    def byte_size(self) -> int:
        """The memory that it takes, in bytes."""
        return _OVERHEAD_BYTES + sum(tensor.byte_size for tensor in self.outputs)


class CacheSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a cache at one moment. Times are the sums of nanoseconds."""

    size_bytes: int
    used_bytes: int
    entries: int
    lookups: int
    hits: int
    misses: int
    evictions: int
    lookup_ns: int
    insertion_ns: int


class ResponseCache(Protocol):
    """Keeps answers by keys that say everything about their requests.

    Calls never raise and never block the event loop: what cannot be looked up is a miss, and what
    cannot be kept is not kept.
    """

    #: Whether other servers see the answers too, and later runs of this one.
    is_shared: bool

    async def start(self) -> None:
        """Make it ready. Raises StatusError when the cache cannot be had."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...

    async def lookup(self, key: bytes) -> CachedAnswer | None:
        """The answer that is kept under a key, None without one."""
        ...

    async def insert(self, key: bytes, answer: CachedAnswer) -> None:
        """Keep a copy of an answer, whose outputs are borrowed."""
        ...

    def snapshot(self) -> CacheSnapshot | None:
        """What it holds and has counted; None of a cache that others change as well."""
        ...
