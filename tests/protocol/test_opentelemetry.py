"""Traces as OpenTelemetry spans, from the client's call to the collector."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import get
from support.ensembles import ensemble, step
from support.servers import RunningServer, launch, serving

pytest.importorskip("opentelemetry.sdk")

from support.collector import Collector, collecting

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
NOT_SAMPLED = f"00-{TRACE}-{SPAN}-00"


#: Answers with the context of its trace.
TOLD = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [self.answer(request.trace().get_context()) for request in requests]

        def answer(self, context):
            output = pb_utils.Tensor("OUT", np.array([str(context)], np.object_))
            return pb_utils.InferenceResponse([output])
"""
TOLD_CONFIG = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] } ]
"""


@contextmanager
def _tracing(path: Path, *more: str) -> Iterator[tuple[RunningServer, Collector]]:
    """A server that exports; when the block ends, everything has been exported."""
    models.python_identity(path, "plain")
    models.python_model(path, "told", TOLD, TOLD_CONFIG)
    with collecting() as collector:
        texts = ["mode=opentelemetry", "level=TIMESTAMPS", f"opentelemetry,url={collector.url}"]
        arguments = [f"--trace-config={text}" for text in (*texts, *more)]
        server = launch(path, arguments=arguments)
        try:
            server.wait_until_up()
            yield server, collector
        finally:
            server.stop()
            server.runtime_directory.rmdir()


def _http(
    server: RunningServer,
    headers: dict[str, str] | None = None,
    model: str = "plain",
    **more: Any,
) -> None:
    with httpclient.InferenceServerClient(server.http) as client:
        tensor = httpclient.InferInput("IN", [1], "FP32")
        tensor.set_data_from_numpy(np.ones(1, np.float32))
        client.infer(model, [tensor], headers=headers, **more)


def _grpc(server: RunningServer, headers: dict[str, str] | None = None) -> None:
    with grpcclient.InferenceServerClient(server.grpc) as client:
        tensor = grpcclient.InferInput("IN", [1], "FP32")
        tensor.set_data_from_numpy(np.ones(1, np.float32))
        client.infer("plain", [tensor], headers=headers)


def _attributes(span: Any) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }


def test_a_request_is_a_span_around_its_models_around_the_computation(tmp_path: Path) -> None:
    more = ("rate=1", "opentelemetry,resource=a=b")
    with _tracing(tmp_path, *more) as (server, collector):
        _http(server, request_id="r7")
    (root,) = collector.named("InferRequest")
    (model,) = collector.named("plain")
    (compute,) = collector.named("compute")
    assert len(collector.spans) == 3
    assert (root.kind, root.parent_span_id) == (root.SPAN_KIND_SERVER, b"")
    assert (model.parent_span_id, compute.parent_span_id) == (root.span_id, model.span_id)
    assert root.trace_id == model.trace_id == compute.trace_id
    assert [event.name for event in root.events] == [
        "HTTP_RECV_START",
        "HTTP_RECV_END",
        "HTTP_SEND_START",
        "HTTP_SEND_END",
    ]
    assert [event.name for event in model.events] == [
        "REQUEST_START",
        "QUEUE_START",
        "INFER_RESPONSE_COMPLETE",
        "REQUEST_END",
    ]
    assert [event.name for event in compute.events] == [
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_OUTPUT_START",
        "COMPUTE_END",
    ]
    starts = [span.start_time_unix_nano for span in (root, model, compute)]
    ends = [span.end_time_unix_nano for span in (compute, model, root)]
    assert [*starts, *ends] == sorted([*starts, *ends])
    assert _attributes(model) == {
        "triton.model_name": "plain",
        "triton.model_version": 1,
        "triton.trace_id": 1,
        "triton.trace_parent_id": 0,
        "triton.request_id": "r7",
    }
    assert collector.resources[0] == {"service.name": "triton-inference-server", "a": "b"}


@pytest.mark.parametrize("call", [_http, _grpc], ids=["HTTP", "gRPC"])
def test_a_clients_sampled_trace_goes_on_whatever_the_rate(tmp_path: Path, call: Any) -> None:
    with _tracing(tmp_path, "rate=0") as (server, collector):
        call(server)
        call(server, {"traceparent": NOT_SAMPLED})
        call(server, {"traceparent": "nonsense"})
        call(server, {"traceparent": SAMPLED})
    (root,) = collector.named("InferRequest")
    assert root.trace_id.hex() == TRACE
    assert root.parent_span_id.hex() == SPAN


def test_the_settings_are_those_of_the_mode(tmp_path: Path) -> None:
    more = ("rate=1", "opentelemetry,resource=a=b", "opentelemetry,bsp_schedule_delay=100")
    with _tracing(tmp_path, *more) as (server, collector):
        assert get(server, "/v2/trace/setting").json == {
            "trace_level": ["TIMESTAMPS"],
            "trace_rate": "1",
            "trace_count": "-1",
            "trace_mode": "opentelemetry",
            "url": collector.url,
            "resource": "a=b",
            "bsp_max_queue_size": "2048",
            "bsp_max_export_batch_size": "512",
            "bsp_schedule_delay": "100",
        }


@pytest.mark.slow
def test_a_server_whose_collector_is_gone_serves_and_stops(tmp_path: Path) -> None:
    models.python_identity(tmp_path, "plain")
    texts = ["mode=opentelemetry", "level=TIMESTAMPS", "rate=1"]
    texts.append("opentelemetry,url=http://127.0.0.1:9/v1/traces")
    with serving(tmp_path, arguments=[f"--trace-config={text}" for text in texts]) as server:
        _http(server)
        _grpc(server)
        assert server.stop() == 0


def test_a_missing_sdk_is_named_at_the_start(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden" / "opentelemetry"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError('no', name='opentelemetry')")
    models.python_identity(tmp_path / "repository", "plain")
    server = launch(
        tmp_path / "repository",
        arguments=["--trace-config=mode=opentelemetry"],
        environment=_first_on_path(hidden.parent),
    )
    try:
        server.wait_for_line(r"pip install 'tritonpy-supervisor\[otel\]'")
        assert server.process.wait(60) == 1
    finally:
        server.stop()
        server.runtime_directory.rmdir()


def _first_on_path(folder: Path) -> dict[str, str]:
    import os

    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def test_the_steps_of_an_ensemble_are_spans_inside_of_its_own(tmp_path: Path) -> None:
    steps = [step("plain", {"IN": "IN"}, {"OUT": "x"}), step("plain", {"IN": "x"}, {"OUT": "OUT"})]
    ensemble(tmp_path, "pair", ["IN FP32 -1"], ["OUT FP32 -1"], steps)
    with _tracing(tmp_path, "rate=1") as (server, collector):
        _http(server, model="pair")
    (root,) = collector.named("InferRequest")
    (whole,) = collector.named("pair")
    parts = collector.named("plain")
    assert whole.parent_span_id == root.span_id
    assert [part.parent_span_id for part in parts] == [whole.span_id] * 2
    assert {span.trace_id for span in collector.spans} == {root.trace_id}
    assert len(collector.spans) == 6  # with the two computations
    parents = {_attributes(part)["triton.trace_parent_id"] for part in parts}
    assert parents == {_attributes(whole)["triton.trace_id"]}


def _context(server: RunningServer, headers: dict[str, str] | None = None) -> str:
    with httpclient.InferenceServerClient(server.http) as client:
        tensor = httpclient.InferInput("IN", [1], "FP32")
        tensor.set_data_from_numpy(np.ones(1, np.float32))
        found = client.infer("told", [tensor], headers=headers).as_numpy("OUT")
    assert found is not None
    return str(found[0].decode())


@pytest.mark.parametrize("headers", [None, {"traceparent": SAMPLED}])
def test_a_model_is_told_the_span_that_stands_for_it(
    tmp_path: Path, headers: dict[str, str] | None
) -> None:
    with _tracing(tmp_path, "rate=1") as (server, collector):
        context = json.loads(_context(server, headers))

    (span,) = (span for span in collector.spans if span.name == "told")
    trace_id, span_id = span.trace_id.hex(), span.span_id.hex()
    assert context == {"traceparent": f"00-{trace_id}-{span_id}-01", "tracestate": ""}
    assert {each.trace_id for each in collector.spans} == {span.trace_id}
    assert (trace_id == TRACE) is (headers is not None)


def test_a_model_whose_request_is_not_traced_is_told_nothing(tmp_path: Path) -> None:
    with _tracing(tmp_path, "rate=0") as (server, _collector):
        assert _context(server) == "None"
