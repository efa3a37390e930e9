"""Copies of a request for versions whose answers nobody waits for.

Tensors are not copied: small ones ride in each message, large ones stay in the lease of the version
that answers, which is given back when all are done. The other version's workers are shown that
arena as they are shown a client's region, and read it only; so does then the version that answers,
as a model that writes to its inputs must not change what the others read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ...ipc.errors import StatusError
from ...ipc.tensor import Region, Span, Tensor
from ..memory.buffers import InputArena, InputLease
from ..memory.regions import RegionUse
from ..request import Hold, InferRequest, InferResponse, RequestedOutput, ShadowCount
from .model import ServedVersion

Find = Callable[[str, int | None], ServedVersion]


class _SharedHold:
    """One of several requests' holds on the same memory, which goes back with the last."""

    __slots__ = ("_left", "_others")

    def __init__(self, hold: Hold, holders: list[Hold]) -> None:
        self._left: Hold | None = hold
        #: Shared among all of them: an item for each that still holds.
        self._others = holders
        holders.append(self)

    def release(self) -> None:
        """Give the memory back; a second time is harmless."""
        hold, self._left = self._left, None
        if hold is not None:
            self._others.remove(self)
            if not self._others:
                hold.release()


class ShadowCopy:
    """One copy, until it has its final response."""

    def __init__(self, request: InferRequest, served: ServedVersion, count: ShadowCount) -> None:
        self.request = request
        self._served = served
        self._count = count
        self._failed = False

    def send(self) -> None:
        """Submit it; whatever comes of it is counted and nothing else."""
        try:
            self._served.submit(self.request, self._take)
        except StatusError:
            self._count.ended(0, failed=True)

    def drop(self) -> None:
        """The request itself was refused: nobody needs the copy."""
        for hold in self.request.leases:
            hold.release()
        self._count.dropped()

    def _take(self, response: InferResponse) -> None:
        self._failed |= response.error is not None
        if response.final:
            took = time.monotonic_ns() - self.request.received_ns
            self._count.ended(took, failed=self._failed)


def copies(request: InferRequest, find: Find) -> list[ShadowCopy]:
    """The copies of a request that is about to be submitted, and shares its memory with them.

    A request with tensors in a client's region has none: the client may change them when it has
    its answer.
    """
    wanted: list[tuple[ServedVersion, ShadowCount]] = []
    for version, count in request.shadows:
        if not count.takes():
            continue
        try:
            if request.regions:
                count.dropped()
            else:
                wanted.append((find(request.model, version), count))
        except StatusError:
            count.dropped()
    if not wanted:
        return []
    arena = _arena(request.leases)
    if arena is not None:
        request.inputs = [_shown(tensor, arena) for tensor in request.inputs]
    made = [ShadowCopy(_copy(request, served.version), served, count) for served, count in wanted]
    sharing = [request, *(copy.request for copy in made)]
    leases, request.leases = request.leases, []
    for lease in leases:
        holders: list[Hold] = []
        for each in sharing:
            each.leases.append(_SharedHold(lease, holders))
    if request.loans:  # they are among the leases, which all hold now
        lent = [tensor.name for tensor in request.inputs if isinstance(tensor.data, Span)]
        for each in sharing:
            each.loans, each.shared = list(request.loans), lent
    if arena is not None:
        for each in sharing:
            use = RegionUse(arena.region())
            each.leases.append(use)
            each.regions.append(use)
    return made


def _arena(leases: Sequence[Hold]) -> InputArena | None:
    """Where the large tensors of a request lie."""
    for lease in leases:
        if isinstance(lease, InputLease):
            return lease.arena
    return None


def _shown(tensor: Tensor, arena: InputArena) -> Tensor:
    """The tensor as other versions' workers find it."""
    data = tensor.data
    if not isinstance(data, Span):
        return tensor
    place = Region(arena.region().number, data.offset, data.size)
    return Tensor(tensor.name, tensor.datatype, tensor.shape, place)


def _copy(request: InferRequest, version: int) -> InferRequest:
    return InferRequest(
        request.model,
        version,
        list(request.inputs),
        [RequestedOutput(output.name) for output in request.outputs],
        request.id,
        dict(request.parameters),
        request.correlation_id,
        request.flags,
        request.priority,
        request.timeout_us,
    )
