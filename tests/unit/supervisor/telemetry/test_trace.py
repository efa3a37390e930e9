"""The trace of one request: when it is complete, and what begins one."""

from __future__ import annotations

import pytest

from tritonpy.ipc.tensor import Tensor
from tritonpy.supervisor.request import InferRequest
from tritonpy.supervisor.telemetry.trace import Stamp, Trace, Traces
from tritonpy.supervisor.telemetry.trace_settings import TraceConfig, TraceSettings

ON = TraceSettings(levels=("TIMESTAMPS",), rate=1)
SAMPLED = f"00-{'a' * 32}-{'b' * 16}-01"


class Sink:
    """Keeps the traces that it is given."""

    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def add(self, trace: Trace) -> None:
        self.traces.append(trace)

    def close(self) -> None:
        """Nothing is left to do."""


def _begun(sink: Sink) -> Trace:
    trace = Traces(TraceConfig(settings=ON), sink).begin("m")
    assert trace is not None
    trace.accepted("m", 1, InferRequest("m", None, []), lambda span: None)
    return trace


def test_a_trace_is_handed_on_once_when_its_last_response_has_left() -> None:
    sink = Sink()
    trace = _begun(sink)
    assert not sink.traces
    trace.end()
    trace.end()
    assert sink.traces == [trace]


def test_a_trace_waits_for_the_end_of_an_execution_that_has_sent_its_last_response() -> None:
    sink = Sink()
    trace = _begun(sink)
    trace.at_worker(True)
    trace.end()
    assert not sink.traces
    trace.stamp("COMPUTE_END", 9)
    trace.at_worker(False)
    assert sink.traces[0].entries[-1] == Stamp("COMPUTE_END", 9)


def test_a_trace_that_no_model_saw_is_dropped() -> None:
    sink = Sink()
    trace = Traces(TraceConfig(settings=ON), sink).begin("m")
    assert trace is not None
    trace.stamp("HTTP_RECV_START")
    trace.end()
    assert not sink.traces


def test_a_trace_that_ends_when_the_server_has_stopped_is_dropped() -> None:
    sink = Sink()
    traces = Traces(TraceConfig(settings=ON), sink)
    trace = traces.begin("m")
    assert trace is not None
    trace.accepted("m", 1, InferRequest("m", None, []), lambda span: None)
    traces.close()
    trace.end()
    assert not sink.traces
    assert not traces.on


def test_without_a_file_traces_are_dropped_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    traces = Traces(TraceConfig(settings=ON))
    for _ in range(2):
        trace = traces.begin("m")
        assert trace is not None
        trace.accepted("m", 1, InferRequest("m", None, []), lambda span: None)
        trace.end()
    assert caplog.text.count("there is no file for the traces") == 1


def test_inputs_are_copied_before_their_memory_is_used_again() -> None:
    sink = Sink()
    settings = TraceSettings(levels=("TENSORS",), rate=1)
    trace = Traces(TraceConfig(settings=settings), sink).begin("m")
    assert trace is not None
    memory = bytearray(b"12345678")
    tensor = Tensor("x", "INT64", (1,), memoryview(memory))
    trace.accepted("m", 1, InferRequest("m", None, [tensor]), lambda span: None)
    memory[:] = bytes(8)
    assert trace.entries[-1].data == b"12345678"  # type: ignore[union-attr]


def test_only_the_mode_opentelemetry_heeds_a_clients_own_trace() -> None:
    settings = TraceSettings(levels=("TIMESTAMPS",), rate=1000)
    assert Traces(TraceConfig(settings=settings)).begin("m", SAMPLED) is None
    heeding = Traces(TraceConfig(settings=settings, mode="opentelemetry"))
    assert heeding.begin("m", SAMPLED[:-1] + "0") is None
    trace = heeding.begin("m", SAMPLED)
    assert trace is not None
    assert trace.parent == SAMPLED


def test_nothing_is_on_by_default_and_changes_turn_it_on_and_off() -> None:
    traces = Traces()
    assert not traces.on
    traces.update({"trace_level": ["TIMESTAMPS"]}, "m")
    assert traces.on
    traces.update({"trace_level": None}, "m")
    assert not traces.on
