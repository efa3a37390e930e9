"""What a backend is: the four things that every framework must be able to do.

A backend runs in the worker's main thread, one call at a time. It comes in one of two kinds: a
TensorBackend computes one batch of tensors and never sees a request (ONNX Runtime, PyTorch); a
RequestBackend is handed the requests themselves and may answer them later or many times (python).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt
from msgspec import Struct

from ..ipc.errors import StatusError
from ..ipc.messages import Instance, Parameter
from .peers import Server

Array = npt.NDArray[Any]

#: Gives the answers of an execution that is over, as `RequestBackend.execute` returns them.
Finish = Callable[[], "Sequence[Response | None]"]


@dataclass(frozen=True, slots=True)
class Model:
    """The model that a worker was started for.

    `config` is the configuration in Triton's JSON form (proto field names; maps as objects; 64-bit
    integers as numbers), complete when `Backend.load` sees it. `directory` is the model's folder,
    `version_directory` that of the version; both are absolute. `backend_config` holds the values
    of `--backend-config` for this backend. `runtime` is the file of a python-based backend, which
    runs the model; "" for any other backend.
    """

    name: str
    version: int
    directory: str
    version_directory: str
    config: dict[str, Any]
    instance: Instance
    backend_config: Mapping[str, str]
    runtime: str = ""

    def parameter(self, key: str) -> str | None:
        """The string value of one of the configuration's `parameters`, or None when absent."""
        value = self.config.get("parameters", {}).get(key)
        return None if value is None else str(value.get("string_value", ""))


class Response(Struct):
    """What a backend answers to one request: outputs in order, or an error.

    A `deliberate` error is one that the model made for this request, rather than its failure.
    """

    outputs: dict[str, Array] = {}
    parameters: dict[str, Parameter] = {}
    error: StatusError | None = None
    deliberate: bool = False


class Request(Struct, eq=False):
    """One inference request as a backend sees it.

    `inputs` are numpy arrays in the client's order, BYTES as object arrays of bytes, BF16 as
    ml_dtypes.bfloat16. They alias shared memory and are valid until the request is answered for
    the last time. `outputs` names what the client wants, never empty.
    """

    key: int
    id: str
    inputs: dict[str, Array]
    outputs: list[str]
    parameters: dict[str, Parameter]
    correlation_id: int | str
    flags: int
    priority: int
    timeout_us: int
    #: Sends a response outside of execute's result, from any thread; None only ends the request.
    respond: Callable[[Response | None, bool], None]
    #: Whether the client has gone; a model may ask from any thread and stop early.
    is_cancelled: Callable[[], bool]
    #: Set by the backend, with None in place of the response: the request is to be executed again.
    reschedule: bool = False
    #: Outputs that may be DeviceTensors, since their client wants them in a GPU's memory.
    on_device: Collection[str] = ()
    #: The OpenTelemetry context of the request as JSON; "" without one.
    trace_context: str = ""


class Backend(ABC):
    """One model, loaded by one framework. The worker makes one backend in its life."""

    #: Whether the same inputs give the same outputs and nothing else happens, so that a request
    #: lost with its worker may simply be run again.
    pure: ClassVar[bool] = False

    #: Whether the model may write to its input arrays. Where False they are read-only.
    writes_inputs: ClassVar[bool] = False

    #: Whether inputs that have to be copied out of clients' memory may be Deferred where others are
    #: arrays, so that what nobody looks at is not copied.
    defers_inputs: ClassVar[bool] = False

    @property
    def takes_device_tensors(self) -> bool:
        """Whether, once loaded, it takes inputs in its GPU's memory as DeviceTensors where others
        are arrays; asked once, after `load`.
        """
        return False

    @property
    def concurrency(self) -> int:
        """How many batches it executes at once, once loaded; more than one only by
        `RequestBackend.begin`.
        """
        return 1

    def describe(self, model: Model) -> dict[str, Any]:
        """Return the configuration, completed from the model itself where it is incomplete.

        Called before `load`, only when auto-completion is on. Raises InvalidArgumentError when the
        configuration contradicts the model.
        """
        return model.config

    @abstractmethod
    def load(self, model: Model) -> None:
        """Load the model. Raises StatusError with a sentence that names what is wrong."""

    @abstractmethod
    def unload(self) -> None:
        """Let the model finalize itself. The process exits afterwards, memory is not freed here."""


class TensorBackend(Backend):
    """A backend that computes outputs from inputs, a whole batch at once."""

    #: Outputs of the next run that may be DeviceTensors. Set where the backend takes such inputs.
    on_device: Collection[str] = ()

    @abstractmethod
    def run(self, inputs: dict[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Compute the named outputs.

        Arrays have the shapes that the graph has: with batching, the first axis is the batch.
        Absent optional inputs are absent. Outputs that nobody asked for may be left out.
        """


class RequestBackend(Backend):
    """A backend that is handed the requests of a batch one by one."""

    #: The way to the server and its other models. Set before anything else is called.
    server: Server | None = None

    @property
    def readiness(self) -> Callable[[], bool] | None:
        """Asks the model whether it is ready, and raises nothing; None where it has no opinion.

        Called from a thread of its own, also while the model executes; looked at once, after
        `load`.
        """
        return None

    @abstractmethod
    def execute(self, requests: Sequence[Request]) -> Sequence[Response | None]:
        """Answer the requests: as many elements as requests, in the same order.

        None means that the request is, or will be, answered by `Request.respond`, or that it is to
        be executed again. A null request of a sequence model is answered as any other, and nobody
        hears of it.
        """

    def begin(self, requests: Sequence[Request], done: Callable[[], None]) -> Finish:
        """Begin an execution that goes on by itself while others begin, and call `done`, from any
        thread, when it is over; what is returned then gives the answers, on the main thread.

        Called in place of `execute` where `concurrency` is more than 1.
        """
        raise NotImplementedError(f"{type(self).__name__} executes one batch at a time")
