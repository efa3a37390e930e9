"""Every message that crosses the line between the supervisor and a worker.

Two closed unions, one for each direction; a message is one frame of msgpack. Nothing here
is a method call and nothing is pickled: a new thing to say is a new struct.

Times are CLOCK_MONOTONIC nanoseconds, which all processes of a machine share.
"""

from __future__ import annotations

import msgspec

from .errors import StatusError
from .tensor import ClientPlace, Tensor

#: Sequence flags of a request, as Triton numbers them.
FLAG_SEQUENCE_START = 1
FLAG_SEQUENCE_END = 2

Parameter = bool | int | float | str


class Instance(msgspec.Struct, frozen=True, array_like=True):
    """Which instance of a model a worker is.

    `name` is Triton's (`digits_0_0`), `kind` is CPU, GPU or MODEL, `device` the number of the GPU
    as the worker sees it (0 when CUDA_VISIBLE_DEVICES shows it a single one). `threads` is the
    instance's share of the cores, which the configuration may override. `numa_node` is where it
    takes its memory from, -1 for anywhere.
    """

    name: str
    kind: str
    device: int
    threads: int
    numa_node: int = -1


class ModelFiles(msgspec.Struct, frozen=True, array_like=True):
    """Where a model lies: its name and version, its own folder and that of the version.

    `runtime` is the file of the python-based backend that runs it; "" for any other backend.
    """

    name: str
    version: int
    directory: str
    version_directory: str
    runtime: str = ""


class Error(msgspec.Struct, array_like=True, gc=False, omit_defaults=True):
    """A failure as it travels: the code of ipc.errors and a sentence for the client.

    `unread` says that the request could not be read, so that no model has seen it.
    """

    code: str
    message: str
    unread: bool = False


def error_of(error: StatusError) -> Error:
    """The error as it is sent; of its text, what is not Unicode (lone surrogates) is escaped."""
    text = error.message.encode("utf-8", "backslashreplace").decode()
    return Error(error.code, text, error.unread)


class Response(msgspec.Struct, array_like=True, gc=False, omit_defaults=True):
    """One response to the request `key`; without `final` more follow in Responded messages.

    A `deliberate` error is the model's own answer to this request, and no failure of the execution.
    """

    key: int
    outputs: list[Tensor]
    final: bool = True
    error: Error | None = None
    parameters: dict[str, Parameter] = {}
    deliberate: bool = False


# --- supervisor to worker -------------------------------------------------------------------------


class Describe(msgspec.Struct, tag="describe", array_like=True):
    """Complete this configuration (Triton's JSON) from the model itself; answered by Described."""

    files: ModelFiles
    config: str
    instance: Instance
    backend_config: dict[str, str]


class Load(msgspec.Struct, tag="load", array_like=True):
    """Load the model by its complete configuration; answered by Loaded or LoadFailed."""

    files: ModelFiles
    config: str
    instance: Instance
    backend_config: dict[str, str]


class AttachArena(msgspec.Struct, tag="attach", array_like=True):
    """The descriptor of an arena follows on the lifeline under this number.

    Number 0 is the worker's own output arena: it allocates there, the supervisor reads. Every
    other arena is written by the supervisor, or by the worker of another model whose outputs are
    inputs here; it is only read, or scribbled on where the model is the span's single reader.
    """

    number: int
    size: int


class DetachArena(msgspec.Struct, tag="detach", array_like=True):
    """Whoever wrote this arena is gone, and no request reads it any more: let go of it."""

    number: int


class AttachRegion(msgspec.Struct, tag="attach_region", array_like=True):
    """The descriptor of a client's region follows on the lifeline under this number.

    `name` is the client's, for messages to it; the region ends at byte `end` of the segment.
    """

    number: int
    name: str
    end: int


class AttachCudaRegion(msgspec.Struct, tag="attach_cuda_region", array_like=True):
    """Open the handle of a client's memory on a GPU; answered by CudaRegionAttached.

    `handle` are the 64 bytes of a cudaIpcMemHandle_t, `device` the server's number of the GPU, and
    `entry` how CUDA_VISIBLE_DEVICES names it. `visible` is the server's own CUDA_VISIBLE_DEVICES,
    for a worker that was started to see no GPU. The region is the allocation's first `byte_size`
    bytes.
    """

    number: int
    name: str
    handle: bytes
    device: int
    entry: str
    visible: str
    byte_size: int


class DetachRegion(msgspec.Struct, tag="detach_region", array_like=True):
    """No request uses this region any more, nor will one: let go of it."""

    number: int


class AttachClaims(msgspec.Struct, tag="attach_claims", array_like=True):
    """The descriptor of the pipe of claims.py follows on the lifeline under this number."""

    number: int


class AttachReadiness(msgspec.Struct, tag="attach_readiness", array_like=True):
    """The descriptor of the pipe of readiness.py follows on the lifeline under this number."""

    number: int


class Request(msgspec.Struct, array_like=True, gc=False, omit_defaults=True):
    """One inference request of a batch; `key` names it in every answer."""

    key: int
    inputs: list[Tensor]
    #: The outputs that the client wants, never empty.
    outputs: list[str]
    id: str = ""
    parameters: dict[str, Parameter] = {}
    correlation_id: int | str = 0
    flags: int = 0
    priority: int = 0
    timeout_us: int = 0
    #: The outputs that go into clients' regions, by name; the others are sent.
    places: dict[str, ClientPlace] = {}
    #: The inputs that somebody else reads as well: a model that writes to its inputs gets a copy.
    shared: list[str] = []
    #: Where the instance keeps the state of the request's sequence; -1 if it has none.
    slot: int = -1
    #: What its trace is to others' spans, as JSON; "" if there is none.
    trace_context: str = ""
    #: Fills a row that no sequence has anything for: its inputs are zeros like those of the others
    #: in the batch, beside the ones that it has, and it is not answered.
    null: bool = False


class Execute(msgspec.Struct, tag="execute", array_like=True, gc=False, omit_defaults=True):
    """Run these requests as one batch; answered by one Executed.

    One that is sent `ahead` while another batch runs is run only if it can be claimed (claims.py);
    otherwise it was taken back, and is skipped without an answer.
    """

    batch: int
    requests: list[Request]
    ahead: bool = False


class Release(msgspec.Struct, tag="release", array_like=True, gc=False):
    """The supervisor is done with the spans at these offsets of the worker's output arena."""

    offsets: list[int]


class Cancel(msgspec.Struct, tag="cancel", array_like=True, gc=False):
    """The clients of these requests are gone; the model may ask and stop early."""

    keys: list[int]


class Answer(msgspec.Struct, tag="answer", array_like=True, gc=False, omit_defaults=True):
    """A response to a Call, whose number is its key.

    Outputs in an arena are lent, under the numbers in `loans`, until a Returned names them. Those
    that are `shared` are read by others too: a model that may write to them gets a copy.
    """

    response: Response
    loans: dict[str, int] = {}
    shared: list[str] = []


class Done(msgspec.Struct, tag="done", array_like=True):
    """What has come of a LoadModel, an UnloadModel, an AskReady or a DeclareFamily."""

    call: int
    ready: bool = False
    error: Error | None = None


class Trim(msgspec.Struct, tag="trim", array_like=True):
    """Give back pages of the output arena that lie idle; sent now and then."""


class Stop(msgspec.Struct, tag="stop", array_like=True):
    """Finalize the model, answer Stopped, and exit."""


ToWorker = (
    Describe
    | Load
    | AttachArena
    | DetachArena
    | AttachRegion
    | AttachCudaRegion
    | DetachRegion
    | AttachClaims
    | AttachReadiness
    | Execute
    | Release
    | Cancel
    | Answer
    | Done
    | Trim
    | Stop
)


# --- worker to supervisor -------------------------------------------------------------------------


class Started(msgspec.Struct, tag="started", array_like=True):
    """The worker is up and listens."""


class Described(msgspec.Struct, tag="described", array_like=True):
    """The configuration as the backend completed it (Triton's JSON)."""

    config: str


class MemoryUsage(msgspec.Struct, frozen=True, array_like=True):
    """Memory of type CPU or GPU that a model has taken; `id` is the GPU's as the worker sees it."""

    type: str
    id: int
    byte_size: int


class Loaded(msgspec.Struct, tag="loaded", array_like=True):
    """The model is ready to execute. A `pure` backend may be asked to run a request again.

    `memory` is by how much the worker has grown while it loaded the model. So many batches as
    `concurrency` says may be executed at once; they may be answered in any order.
    """

    pure: bool
    memory: list[MemoryUsage] = []
    concurrency: int = 1
    #: Whether the model is to be asked whether it is ready, when somebody wants to know.
    has_readiness: bool = False


class LoadFailed(msgspec.Struct, tag="load_failed", array_like=True):
    """Describe or Load failed; the worker exits by itself."""

    error: Error


class Executed(msgspec.Struct, tag="executed", array_like=True, gc=False):
    """The batch is executed and the instance free again.

    Requests that are not among the responses answer later, by Responded (decoupled models).
    """

    batch: int
    start_ns: int
    input_end_ns: int
    output_start_ns: int
    end_ns: int
    responses: list[Response]
    #: Requests that are not answered and want to be executed again.
    rescheduled: list[int] = []


class Responded(msgspec.Struct, tag="responded", array_like=True, gc=False):
    """A response sent outside of execute's result; a final one may hold nothing but the end.

    The times are those of decoupled models, 0 for others: when the request was handed to the
    model, when the model sent the response, and when its outputs were in place.
    """

    response: Response
    started_ns: int = 0
    output_start_ns: int = 0
    end_ns: int = 0


class Log(msgspec.Struct, tag="log", array_like=True):
    """A line that the model or its backend wants in the server's log (INFO, WARNING, ERROR...)."""

    level: str
    message: str
    file: str
    line: int


class DeclareFamily(msgspec.Struct, tag="declare_family", array_like=True):
    """The model makes a metric family of this kind; answered by Done with this `call`.

    `kind` is Prometheus' word for it: counter, gauge or histogram.
    """

    call: int
    name: str
    description: str
    kind: str


class MetricChange(msgspec.Struct, array_like=True, omit_defaults=True):
    """How one of the model's metrics has changed since it was last told; labels are in order.

    A gauge was set to `base`, unless that is None. After that it, or a counter, was raised by
    `added`; a histogram was given `counts` values in its buckets, the last of which is above all
    `bounds`, and `added` is their sum. With `dropped` the model holds it no more.
    """

    family: str
    labels: list[tuple[str, str]]
    added: float = 0.0
    base: float | None = None
    bounds: list[float] = []
    counts: list[int] = []
    dropped: bool = False


class MetricChanges(msgspec.Struct, tag="metric_changes", array_like=True):
    """What became of the model's own metrics, in order; then of these families, once for each
    declaration, that the model let go of.
    """

    changes: list[MetricChange]
    released: list[str] = []


class CudaRegionAttached(msgspec.Struct, tag="cuda_region_attached", array_like=True):
    """The handle of this region is open, or why it cannot be."""

    number: int
    error: Error | None = None


class Call(msgspec.Struct, tag="call", array_like=True, gc=False, omit_defaults=True):
    """Have a model answer a request that this model makes; answered by Answers.

    The request's key is the number of the call in this worker, version -1 the latest. Without
    `decoupled` there is one Answer; with it there may be many, the last of which is final. `within`
    and `traced` are keys of requests, or 0: the one for which it is made, whose execution `waits`
    for it or does not, and the one whose trace it belongs to.
    """

    model: str
    version: int
    request: Request
    decoupled: bool = False
    within: int = 0
    waits: bool = False
    traced: int = 0


class Withdraw(msgspec.Struct, tag="withdraw", array_like=True, gc=False):
    """The model wants no more answers to a call; the final one still comes."""

    call: int


class Returned(msgspec.Struct, tag="returned", array_like=True, gc=False):
    """The model reads these outputs of Answers no more."""

    loans: list[int]


class LoadModel(msgspec.Struct, tag="load_model", array_like=True):
    """Load a model, by this configuration and these files where there are any."""

    call: int
    model: str
    config: str
    files: dict[str, bytes]


class UnloadModel(msgspec.Struct, tag="unload_model", array_like=True):
    """Unload a model, and with `dependents` what only it needed."""

    call: int
    model: str
    dependents: bool


class AskReady(msgspec.Struct, tag="ask_ready", array_like=True):
    """Whether a version of a model is ready; \"\" is any."""

    call: int
    model: str
    version: str


class Readiness(msgspec.Struct, tag="readiness", array_like=True):
    """What the model says when it is asked whether it is ready."""

    ready: bool


class Stopped(msgspec.Struct, tag="stopped", array_like=True):
    """The model is finalized; the process exits now."""


FromWorker = (
    Started
    | Described
    | Loaded
    | LoadFailed
    | Executed
    | Responded
    | CudaRegionAttached
    | Call
    | Withdraw
    | Returned
    | LoadModel
    | UnloadModel
    | AskReady
    | DeclareFamily
    | MetricChanges
    | Readiness
    | Log
    | Stopped
)
