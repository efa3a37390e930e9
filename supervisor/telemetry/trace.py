"""The trace of one request: what happened to it when, and the tensors on its way."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import NamedTuple, Protocol

from ...ipc.tensor import Span, Tensor
from ..request import InferRequest, InferResponse
from .trace_settings import TraceConfig, TraceSettings, TraceTable

log = logging.getLogger(__name__)

#: The W3C header of a request whose client traces it; a transport without headers at hand sets it.
TRACEPARENT: ContextVar[str] = ContextVar("traceparent", default="")

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-([0-9a-f]{2})")


class Stamp(NamedTuple):
    """That something happened at a moment of the monotonic clock."""

    name: str
    ns: int


class Identity(NamedTuple):
    """Which model the request came to."""

    model: str
    version: int
    request_id: str
    #: The trace of the ensemble's request, where a step of one made this request; else 0.
    parent_id: int = 0


class TracedTensor(NamedTuple):
    """A tensor as it was at some stage; without data when they lie where we cannot read."""

    activity: str
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview | None


Entry = Stamp | Identity | TracedTensor


class Sink(Protocol):
    """Where traces go."""

    def add(self, trace: Trace) -> None:
        """Take a trace that is complete; returns at once."""
        ...

    def close(self) -> None:
        """Bring everything to its place; blocks until that is done."""
        ...


class Trace:
    """What is known of one request, in the order in which it became known.

    Whoever began it calls `end` once, when the request's last response has left.
    """

    __slots__ = (
        "_at_worker",
        "_begin",
        "_end",
        "_ended",
        "children",
        "context",
        "entries",
        "frequency",
        "id",
        "levels",
        "parent",
        "span_id",
        "trace_id",
        "within",
    )

    def __init__(
        self,
        number: int,
        settings: TraceSettings,
        parent: str,
        end: Callable[[Trace], None],
        begin: Callable[[Trace], Trace],
    ) -> None:
        self.id = number
        self.levels = settings.levels
        #: How many traces a file should hold.
        self.frequency = settings.log_frequency
        #: The client's own trace that this one belongs to, as in the header; "" for none.
        self.parent = parent
        #: Under which hexadecimal ids the model's span is going to be exported; "" if it is not.
        self.trace_id = self.span_id = ""
        #: The trace of the ensemble's request that this one is made for.
        self.within: Trace | None = None
        #: For the sink: where the spans of children belong, and children that ended before that.
        self.context: object = None
        self.children: list[Trace] = []
        self.entries: list[Entry] = []
        self._end = end
        self._begin = begin
        self._at_worker = self._ended = False

    def stamp(self, name: str, ns: int = 0) -> None:
        """Note that something happened, at a moment of the monotonic clock or (0) now."""
        if "TIMESTAMPS" in self.levels:
            self.entries.append(Stamp(name, ns or time.monotonic_ns()))

    def accepted(
        self, model: str, version: int, request: InferRequest, read: Callable[[Span], bytes | None]
    ) -> None:
        """Note which version has taken the request, and its inputs; `read` copies a span."""
        parent_id = self.within.id if self.within is not None else 0
        self.entries.append(Identity(model, version, request.id, parent_id))
        self.stamp("REQUEST_START")
        self.stamp("QUEUE_START")
        if "TENSORS" in self.levels:
            for tensor in request.inputs:
                data = tensor.data
                # A copy: the memory is used again as soon as the request is answered. A client's
                # region is its own business, and not read.
                copied = read(data) if isinstance(data, Span) else None
                found = request.lent(data) if isinstance(data, Span) and copied is None else data
                if isinstance(found, memoryview):
                    copied = bytes(found)
                self._tensor("TENSOR_QUEUE_INPUT", tensor, copied)

    def propagated(self) -> str:
        """What a model passes on for others' spans, as JSON; "" if there is nothing."""
        if not self.span_id:
            return ""
        parent = f"00-{self.trace_id}-{self.span_id}-01"
        return f'{{"traceparent":"{parent}","tracestate":""}}'

    def child(self) -> Trace:
        """The trace of a request that is made to answer this one. Whoever makes it ends it."""
        return self._begin(self)

    def at_worker(self, there: bool) -> None:
        """The request has gone to a worker, or that is done with it.

        A model that sends its responses by itself may do so before its execution ends: the trace
        waits for that.
        """
        self._at_worker = there
        if self._ended and not there:
            self._hand_on()

    def responded(self, response: InferResponse, *, first: bool) -> None:
        """Note a response and its outputs."""
        if first:
            self.stamp("INFER_RESPONSE_COMPLETE")
        if "TENSORS" in self.levels:
            for tensor in response.outputs:
                data = tensor.data
                known = data if isinstance(data, memoryview) else None
                self._tensor("TENSOR_BACKEND_OUTPUT", tensor, known)

    def end(self) -> None:
        """The last response has left: hand the trace on; a second time is harmless.

        A trace that no model saw is dropped.
        """
        self._ended = True
        if not self._at_worker:
            self._hand_on()

    def _hand_on(self) -> None:
        end, self._end = self._end, _nothing
        if any(isinstance(entry, Identity) for entry in self.entries):
            end(self)

    def _tensor(self, activity: str, tensor: Tensor, data: bytes | memoryview | None) -> None:
        self.entries.append(
            TracedTensor(activity, tensor.name, tensor.datatype, tuple(tensor.shape), data)
        )


def _nothing(_: Trace) -> None:
    """What is left to do at the second end."""


class Traces:
    """Begins traces as the settings want, and hands those that are complete to a sink."""

    def __init__(self, config: TraceConfig = TraceConfig(), sink: Sink | None = None) -> None:  # noqa: B008 - frozen
        self.config = config
        self._table = TraceTable(config.settings)
        self._sink = sink
        self._created = 0
        #: Whether any request may be traced: the one thing that is asked of every request.
        self.on = self._table.is_on

    def __repr__(self) -> str:
        return f"<Traces {'on' if self.on else 'off'}, {self._created} so far>"

    def begin(self, model: str, traceparent: str = "") -> Trace | None:
        """A trace of the next request to a model, or None if this one is not traced."""
        parent = ""
        if self.config.mode == "opentelemetry":
            parent = traceparent or TRACEPARENT.get()
        found = _TRACEPARENT.match(parent)
        sampler = self._table.sampler(model)
        if not sampler.takes(found is not None and bool(int(found[1], 16) & 1)):
            return None
        settings = sampler.settings
        return self._new(settings, parent if found else "")

    def _new(self, settings: TraceSettings, parent: str, within: Trace | None = None) -> Trace:
        def child(trace: Trace) -> Trace:
            return self._new(settings, "", trace)

        self._created += 1
        trace = Trace(self._created, settings, parent, self._ended, child)
        trace.within = within
        if self.config.mode == "opentelemetry":
            given = parent.split("-")[1] if parent else secrets.token_hex(16)
            trace.trace_id = given if within is None else within.trace_id
            trace.span_id = secrets.token_hex(8)
        return trace

    def update(
        self, changes: Mapping[str, list[str] | None], model: str = "", space: str = ""
    ) -> None:
        """Change the settings of a model, or the global ones; None clears one.

        Raises InvalidArgumentError, UnsupportedError; then nothing is changed.
        """
        self._table.update(model, changes, space)
        self.on = self._table.is_on

    def described(self, model: str = "") -> list[tuple[str, str | list[str]]]:
        """The settings in force as clients know them; a name may come more than once."""
        sampler = self._table.sampler(model)
        settings = sampler.settings
        shown: list[tuple[str, str | list[str]]] = [
            ("trace_level", list(settings.levels) or ["OFF"]),
            ("trace_rate", str(settings.rate)),
            ("trace_count", str(sampler.left)),
        ]
        if self.config.mode == "triton":
            shown.append(("log_frequency", str(settings.log_frequency)))
        return [*shown, *self.config.constants()]

    def close(self) -> None:
        """Bring all traces to their place, which blocks; those that end later are dropped."""
        self.on = False
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    def _ended(self, trace: Trace) -> None:
        sink = self._sink
        if sink is not None:
            sink.add(trace)
        elif trace.id == 1 and self.config.mode == "triton" and not self.config.file:
            log.warning(
                "there is no file for the traces, they are dropped: start the server with "
                "--trace-config=triton,file=<file>"
            )
