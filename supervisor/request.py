"""An inference request and its response, in the one form that all parts of the server speak.

Frontends build an InferRequest, schedulers queue it, workers answer it, and nothing on the way asks
which frontend it came from. Both are data: the promise of a response lives in the shells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from msgspec import Struct, field

from ..ipc.errors import StatusError
from ..ipc.messages import Parameter
from ..ipc.tensor import ClientPlace, Span, Tensor

#: Why a request failed: refused before it ran, withdrawn by its client, failed in the backend, or
#: anything else. The words are those of Triton's failure counter.
FailureReason = Literal["REJECTED", "CANCELED", "BACKEND", "OTHER"]


def log_prefix(request_id: str) -> str:
    """How Triton begins messages about a request; its id may be empty."""
    return f"[request id: {request_id or '<id_unknown>'}] "


#: The size of a cudaIpcMemHandle_t.
HANDLE_BYTES = 64


class CudaHandle(NamedTuple):
    """Memory of a GPU as its owner lends it: the handle of its allocation, the server's number of
    the GPU, and how many bytes of it are meant.
    """

    raw: bytes
    device: int
    byte_size: int


class Hold(Protocol):
    """Memory that a request keeps until it is answered: a lease, or a client's region."""

    def release(self) -> None:
        """Give the memory back; a second time is harmless.

        Frontends call it only for a request that they never handed to the data plane.
        """
        ...


class Lease(Hold, Protocol):
    """Bytes of shared memory that a request holds until it is answered."""

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Copy bytes to `offset` of the lease, before the request goes to the data plane.

        Raises UnavailableError when the machine has no memory left.
        """
        ...

    def room(self, offset: int, size: int) -> memoryview:
        """The first of the `size` bytes at `offset`, at most a MiB, for the caller to write to
        before the request goes to the data plane.

        Raises UnavailableError when the machine has no memory left.
        """
        ...

    def span(self, offset: int, size: int) -> Span:
        """What to put into a Tensor for `size` bytes at `offset` of this lease."""
        ...


class ArenaReader(Protocol):
    """A worker, as somebody who is given arenas of others."""

    def attach_arena(self, number: int, descriptor: int, size: int) -> None:
        """Hand an arena over; the caller keeps its descriptor."""
        ...

    def detach_arena(self, number: int) -> None:
        """The arena is gone; a worker that has ended already need not care."""
        ...


class Loan(Hold, Protocol):
    """A span that is not in the arena of the request's own model."""

    span: Span

    def show_to(self, worker: ArenaReader) -> None:
        """Make sure that the worker has the arena."""
        ...

    def share(self) -> Loan:
        """The same span for another request."""
        ...

    def view(self) -> memoryview | None:
        """The bytes in place, valid while they are held; None when they cannot be had any more."""
        ...


class RegionReader(Protocol):
    """A worker, as somebody who is given clients' regions."""

    def attach_region(self, number: int, name: str, descriptor: int, end: int) -> None:
        """Hand a region over, which ends at byte `end`; the caller keeps its descriptor."""
        ...

    def attach_cuda_region(self, number: int, name: str, handle: CudaHandle) -> None:
        """Hand a region in a GPU's memory over."""
        ...

    def detach_region(self, number: int) -> None:
        """The region is gone; a worker that has ended already need not care."""
        ...


class RegionUse(Hold, Protocol):
    """The use of a region that a client has registered."""

    @property
    def number(self) -> int:
        """The region's, as tensors name it."""
        ...

    def share(self) -> RegionUse:
        """The use of the same region by another request."""
        ...

    def show_to(self, worker: RegionReader) -> None:
        """Make sure that the worker has the region."""
        ...


class RequestTrace(Protocol):
    """What is noted of a request on its way, where it is traced."""

    def stamp(self, name: str, ns: int = 0) -> None:
        """Note that something happened, at a moment of the monotonic clock or (0) now."""
        ...

    def accepted(
        self, model: str, version: int, request: InferRequest, read: Callable[[Span], bytes | None]
    ) -> None:
        """Note which version has taken the request, and its inputs."""
        ...

    def at_worker(self, there: bool) -> None:
        """The request has gone to a worker, or that is done with it: maybe after the last one."""
        ...

    def responded(self, response: InferResponse, *, first: bool) -> None:
        """Note a response and its outputs."""
        ...

    def propagated(self) -> str:
        """What a model passes on for others' spans, as JSON; "" if there is nothing."""
        ...

    def child(self) -> RequestTrace:
        """The trace of a request that is made to answer this one."""
        ...

    def end(self) -> None:
        """The last response has left for the client."""
        ...


class ComputeTimes(Protocol):
    """Who wants to know how long the execution of a request takes."""

    def began(self) -> None:
        """The request has gone to a worker."""
        ...

    def ended(self, input_ns: int = 0, infer_ns: int = 0, output_ns: int = 0) -> None:
        """Its execution has ended, or was lost with the worker; maybe after its last response."""
        ...


class ShadowCount(Protocol):
    """Decides and counts which requests one version gets a copy of."""

    def takes(self) -> bool:
        """Whether the next request is copied; if so, one of the others follows."""
        ...

    def ended(self, total_ns: int, *, failed: bool) -> None:
        """A copy was answered, after so long."""
        ...

    def dropped(self) -> None:
        """A copy was not sent after all."""
        ...


class RequestedOutput(Struct):
    """An output that the client asked for.

    `classification` is how many classes, 0 for none; `place` where in a client's region the output
    is to be written, None where it is to be returned.
    """

    name: str
    classification: int = 0
    place: ClientPlace | None = None


class InferRequest(Struct, eq=False):
    """One inference request.

    `version` is None for the latest ready one. `outputs` is empty when the client wants all of
    them. The data plane owns `leases` from the moment it is handed the request, whatever becomes
    of it. Times are CLOCK_MONOTONIC nanoseconds; `timeout_us` and `priority` are Triton's.
    """

    model: str
    version: int | None
    inputs: list[Tensor]
    outputs: list[RequestedOutput] = []
    id: str = ""
    parameters: dict[str, Parameter] = {}
    correlation_id: int | str = 0
    flags: int = 0
    priority: int = 0
    timeout_us: int = 0
    leases: list[Hold] = []
    #: The clients' regions that tensors are in; `leases` has them too.
    regions: list[RegionUse] = []
    #: The spans of other models' arenas that tensors are in; `leases` has them too.
    loans: list[Loan] = []
    #: The inputs that somebody else reads as well: no model may scribble on them.
    shared: list[str] = []
    received_ns: int = field(default_factory=time.monotonic_ns)
    #: The call of a model that it answers, directly or as a step of an ensemble; None for others.
    call: object = None
    #: Where what happens to the request is noted; None if it is not traced.
    trace: RequestTrace | None = None
    #: Where its execution is counted in; None where nobody asks.
    times: ComputeTimes | None = None
    #: The versions that may get a copy, and who decides. Set by the data plane.
    shadows: Sequence[tuple[int, ShadowCount]] = ()
    #: Rows of the batch dimension, 1 where the model does not batch. Set by the data plane.
    batch_size: int = 1
    #: The names that the worker is told, in order. Set by the data plane.
    wanted: list[str] = []
    #: Equal for requests that may share a batch. Set by the data plane.
    signature: object = None

    def lent(self, span: Span) -> memoryview | None:
        """The bytes of an input that lies in the arena of another model; None for any other."""
        return next((loan.view() for loan in self.loans if loan.span == span), None)

    @property
    def log_prefix(self) -> str:
        """How Triton begins messages about this request."""
        return log_prefix(self.id)


class InferResponse(Struct, eq=False):
    """One response. Its tensors' data are memoryviews that keep their memory alive by themselves,
    or the places in clients' regions where the worker has written them.

    `final` is False while more responses to the same request follow (decoupled models). A final
    response without outputs may follow the last real one: it only says that there are no more.
    """

    model: str
    version: int
    id: str
    outputs: list[Tensor] = []
    parameters: dict[str, Parameter] = {}
    error: StatusError | None = None
    final: bool = True
    #: Somebody else reads the outputs as well, and goes on when this was delivered.
    kept: bool = False
    #: The request's.
    trace: RequestTrace | None = None
