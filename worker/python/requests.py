"""A request as models see it: one that they received, or one that they make."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from enum import IntEnum

from ...ipc import messages
from ...ipc.messages import Parameter
from ..backend import Request, Response
from ..peers import Outgoing
from . import bls
from . import parameters as parameter_rules
from .answer import Answer
from .errors import TritonModelException
from .sender import InferenceResponseSender
from .tensors import Tensor, host_array, wrap

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = messages.FLAG_SEQUENCE_START
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = messages.FLAG_SEQUENCE_END
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2


class MemoryType(IntEnum):
    """Where a model wants the outputs of a request that it makes."""

    TRITONSERVER_MEMORY_GPU = 0
    TRITONSERVER_MEMORY_CPU = 1


class PreferredMemory:
    """The kind of memory, and the device, that a model wants outputs in."""

    __slots__ = ("preferred_device_id", "preferred_memory_type")

    def __init__(self, preferred_memory_type: MemoryType, preferred_device_id: int = 0) -> None:
        if not isinstance(preferred_memory_type, MemoryType):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                "PreferredMemory expects a type such as TRITONSERVER_MEMORY_CPU, got "
                f"{preferred_memory_type!r}"
            )
        self.preferred_memory_type = preferred_memory_type
        self.preferred_device_id = preferred_device_id


class InferenceTrace:
    """The trace that a request belongs to."""

    __slots__ = ("_context", "_key")

    def __init__(self, context: str | None = None, key: int = 0) -> None:
        self._context = context
        #: The request whose trace this is, as the server knows it; 0 for none.
        self._key = key

    def get_context(self) -> str | None:
        """The propagated OpenTelemetry context as JSON, or None without one."""
        return self._context


def key_of(trace: InferenceTrace | None) -> int:
    """The request whose trace this is, as the server knows it; 0 for none."""
    return 0 if trace is None else trace._key  # pyright: ignore[reportPrivateUsage]


class InferenceRequest:
    """A request that a model makes, to be answered by another model."""

    __slots__ = (
        "_correlation_id",
        "_flags",
        "_inputs",
        "_model_name",
        "_model_version",
        "_output_names",
        "_parameters",
        "_preferred_memory",
        "_request_id",
        "_timeout",
        "_trace",
    )

    def __init__(
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Sequence[Tensor] | None = None,
        requested_output_names: Sequence[str] | None = None,
        model_name: str | None = None,
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,
        trace: InferenceTrace | None = None,
        parameters: Mapping[str, bool | int | str] | None = None,
    ) -> None:
        """Make a request; inputs, requested_output_names and model_name are required.

        `timeout` is in microseconds, `model_version` -1 the latest. Raises TritonModelException
        for an input that is None, an empty output name, and a correlation id or a parameter of
        the wrong type, and TypeError for anything else of a wrong type.
        """
        if inputs is None or requested_output_names is None or model_name is None:
            raise TypeError(
                "InferenceRequest requires inputs, requested_output_names and model_name"
            )
        for what, text in (("request_id", request_id), ("model_name", model_name)):
            _require(what, text, str)
        for what, number in (("model_version", model_version), ("timeout", timeout)):
            _require(what, number, int)
        if timeout < 0:
            raise TypeError(f"InferenceRequest expects its timeout to be positive, got {timeout}")
        whose = f"request with id '{request_id}' and model name '{model_name}'"
        for tensor in inputs:
            if tensor is None:  # pyright: ignore[reportUnnecessaryComparison]
                raise TritonModelException(f"Input tensor for {whose} should not be empty.")
            _require("inputs", tensor, Tensor)
        for name in requested_output_names:
            _require("requested_output_names", name, str)
        if "" in requested_output_names:
            raise TritonModelException(f"Requested output name for {whose} should not be empty.")
        self._request_id = request_id
        self._correlation_id = _identity(correlation_id)
        self._inputs: list[Tensor] | None = list(inputs)
        self._output_names = tuple(dict.fromkeys(requested_output_names))
        self._model_name = model_name
        self._model_version = model_version
        self._flags = _flags(flags)
        self._timeout = timeout
        self._preferred_memory = preferred_memory
        self._trace = trace
        self._parameters: dict[str, Parameter] = parameter_rules.checked(parameters)

    def inputs(self) -> list[Tensor]:
        """The input tensors, in the client's order."""
        return list(self._inputs or ())

    def request_id(self) -> str:
        """The client's name for the request, empty without one."""
        return self._request_id

    def correlation_id(self) -> int | str:
        """Which sequence the request belongs to; 0 or empty for none."""
        return self._correlation_id

    def flags(self) -> int:
        """The sequence flags: bit 1 for the start, bit 2 for the end."""
        return self._flags

    def set_flags(self, flags: int) -> None:
        """Set the sequence flags."""
        self._flags = _flags(flags)

    def timeout(self) -> int:
        """How long the request may take, in microseconds; 0 for no limit."""
        return self._timeout

    def requested_output_names(self) -> set[str]:
        """The outputs that are wanted: all of them when the client named none."""
        return set(self._output_names)

    def parameters(self) -> str:
        """The request's parameters as JSON."""
        return parameter_rules.as_json(self._parameters)

    def trace(self) -> InferenceTrace:
        """The trace that the request belongs to."""
        return self._trace or InferenceTrace()

    def is_cancelled(self) -> bool:
        """Whether the client has withdrawn the request."""
        return False

    def get_response_sender(self) -> InferenceResponseSender:
        """The sender of a received request. Raises TritonModelException for one that was made."""
        raise TritonModelException(
            "Unable to send response. Response sender has no reference to the decoupled state of "
            "the model."
        )

    def set_release_flags(self, flags: int) -> None:
        """Say what becomes of a received request when execute returns; others are not released."""

    def exec(self, decoupled: bool = False) -> bls.Answer:
        """Have the named model answer the request, and wait for its response.

        With `decoupled` the model may answer many times, and the result is a ResponseIterator. An
        error is a response that has one. Raises TritonModelException outside of execute.
        """
        return bls.execute(self._outgoing(decoupled))

    def async_exec(self, decoupled: bool = False) -> asyncio.Future[bls.Answer]:
        """As `exec`, to be awaited; the request is sent at once.

        Raises RuntimeError where no event loop runs.
        """
        return bls.execute_async(self._outgoing(decoupled))

    def _outgoing(self, decoupled: bool) -> Outgoing:
        return Outgoing(
            self._model_name,
            self._model_version,
            [(tensor.name(), host_array(tensor)) for tensor in self._inputs or ()],
            self._output_names,
            self._request_id,
            self._parameters,
            self._correlation_id,
            self._flags,
            self._timeout,
            bool(decoupled),
            key_of(self._trace),
        )


class ReceivedRequest(InferenceRequest):
    """A request that the model is to answer. What it holds is read only when it is asked for."""

    __slots__ = ("_received", "answer", "wants_rescheduling")

    def __init__(self, request: Request, answer: Answer) -> None:
        # InferenceRequest's attributes but this one stay unset: every getter is overridden, and a
        # model that looks at one input should not pay for the other nine.
        self._inputs = None
        self._received = request
        self.answer = answer
        #: The model has said so, and execute has not returned yet.
        self.wants_rescheduling = False

    def __repr__(self) -> str:
        request = self._received
        return f"<InferenceRequest '{request.id}' {self.answer.state.value} {list(request.inputs)}>"

    def inputs(self) -> list[Tensor]:
        """The input tensors, in the client's order."""
        inputs = self._inputs
        if inputs is None:
            received = self._received.inputs
            inputs = self._inputs = [wrap(name, array) for name, array in received.items()]
        return inputs

    def request_id(self) -> str:
        """The client's name for the request, empty without one."""
        return self._received.id

    def correlation_id(self) -> int | str:
        """Which sequence the request belongs to; 0 or empty for none."""
        return self._received.correlation_id

    def flags(self) -> int:
        """The sequence flags: bit 1 for the start, bit 2 for the end."""
        return self._received.flags

    def set_flags(self, flags: int) -> None:
        """Set the sequence flags."""
        self._received.flags = _flags(flags)

    def set_release_flags(self, flags: int) -> None:
        """Say what becomes of the request when execute returns.

        With RELEASE_ALL it is done, with RELEASE_RESCHEDULE it comes again in a later execute.
        """
        self.wants_rescheduling = _flags(flags) == TRITONSERVER_REQUEST_RELEASE_RESCHEDULE

    def reschedule(self) -> Response | None:
        """Have the request executed again, unless the model has answered it: then return that."""
        response = self.answer.release()
        self._received.reschedule = response is None
        return response

    def timeout(self) -> int:
        """How long the request may take, in microseconds; 0 for no limit."""
        return self._received.timeout_us

    def requested_output_names(self) -> set[str]:
        """The outputs that are wanted: all of them when the client named none."""
        return set(self._received.outputs)

    def parameters(self) -> str:
        """The request's parameters as JSON."""
        return parameter_rules.as_json(self._received.parameters)

    def trace(self) -> InferenceTrace:
        """The trace that the request belongs to."""
        return InferenceTrace(self._received.trace_context or None, self._received.key)

    def _outgoing(self, decoupled: bool) -> Outgoing:
        raise TritonModelException(
            "A request that a model has received cannot be sent on: make an InferenceRequest of "
            "its inputs."
        )

    def is_cancelled(self) -> bool:
        """Whether the client has withdrawn the request."""
        return self._received.is_cancelled()

    def get_response_sender(self) -> InferenceResponseSender:
        """A sender for this request. All of them share one state."""
        return InferenceResponseSender(self.answer, self._received.is_cancelled)


def _flags(flags: int) -> int:
    if not isinstance(flags, int) or not 0 <= flags < 1 << 32:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"flags are expected as an unsigned number of 32 bits, got {flags!r}")
    return flags


def _require(what: str, value: object, kind: type) -> None:
    """Raise TypeError for what the server could not read."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(
            f"InferenceRequest expects {what} to be of type {kind.__name__}, got "
            f"{type(value).__name__}"
        )


def _identity(correlation_id: int | str) -> int | str:
    if isinstance(correlation_id, str):
        return correlation_id
    if not isinstance(correlation_id, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TritonModelException("Correlation ID must be integer or string")
    if not 0 <= correlation_id < 1 << 64:
        raise TritonModelException(
            f"Correlation ID must be an unsigned integer of 64 bits, got {correlation_id}"
        )
    return int(correlation_id)


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    """The input of this name, or None when the request has none."""
    for tensor in inference_request.inputs():
        if tensor.name() == name:
            return tensor
    return None
