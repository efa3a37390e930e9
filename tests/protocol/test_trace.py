"""Traces of requests, from the client's call to the file."""

from __future__ import annotations

import json
import queue
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import post_json
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

MODEL = ["REQUEST_START", "QUEUE_START"]
COMPUTE = ["COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]
ENDS = ["INFER_RESPONSE_COMPLETE", "REQUEST_END"]
HTTP = [f"HTTP_{what}_{end}" for what in ("RECV", "SEND") for end in ("START", "END")]
GRPC = [f"GRPC_{what}_{end}" for what in ("WAITREAD", "SEND") for end in ("START", "END")]


def _arguments(path: Path, *more: str) -> list[str]:
    texts = [f"triton,file={path / 'traces.json'}", "rate=1", *more]
    return [f"--trace-config={text}" for text in texts]


def _infer(server: RunningServer, model: str = "plain", **more: Any) -> None:
    with httpclient.InferenceServerClient(server.http) as client:
        tensor = httpclient.InferInput("IN", [3], "FP32")
        tensor.set_data_from_numpy(np.array([1, 2.5, 3], np.float32))
        client.infer(model, [tensor], **more)


def _traces(path: Path) -> list[list[dict[str, Any]]]:
    """The entries of each trace, in the order of their numbers."""
    found: dict[int, list[dict[str, Any]]] = {}
    for file in sorted(path.glob("traces.json*")):
        for entry in json.loads(file.read_text()):
            found.setdefault(entry.pop("id"), []).append(entry)
    return [entries for _, entries in sorted(found.items())]


def _names(trace: list[dict[str, Any]]) -> list[str]:
    return [stamp["name"] for entry in trace for stamp in entry.get("timestamps", ())]


def _identities(trace: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in trace if "model_name" in entry]


def test_a_request_is_followed_over_http(tmp_path: Path) -> None:
    models.python_identity(tmp_path / "repository", "plain")
    arguments = _arguments(tmp_path, "level=TIMESTAMPS", "level=TENSORS")
    with serving(tmp_path / "repository", arguments=arguments) as server:
        _infer(server, request_id="r7")
    (trace,) = _traces(tmp_path)
    assert sorted(_names(trace)) == sorted([*HTTP, *MODEL, *COMPUTE, *ENDS])
    times = [stamp["ns"] for entry in trace for stamp in entry.get("timestamps", ())]
    by_name = dict(zip(_names(trace), times, strict=True))
    way = [*HTTP[:2], *MODEL, *COMPUTE, *ENDS, *HTTP[2:]]
    assert [by_name[name] for name in way] == sorted(times)
    assert _identities(trace) == [{"model_name": "plain", "model_version": 1, "request_id": "r7"}]
    assert [entry for entry in trace if "activity" in entry] == [
        {
            "activity": activity,
            "tensor": {"name": name, "data": "1,2.5,3", "shape": "3", "dtype": "FP32"},
        }
        for activity, name in (("TENSOR_QUEUE_INPUT", "IN"), ("TENSOR_BACKEND_OUTPUT", "OUT"))
    ]


def test_requests_are_followed_over_grpc_and_its_streams(tmp_path: Path) -> None:
    models.python_identity(tmp_path / "repository", "plain")
    models.repeat(tmp_path / "repository", "repeat")
    arguments = _arguments(tmp_path, "level=TIMESTAMPS", "triton,log-frequency=1")
    with (
        serving(tmp_path / "repository", arguments=arguments) as server,
        grpcclient.InferenceServerClient(server.grpc) as client,
    ):
        tensor = grpcclient.InferInput("IN", [1], "FP32")
        tensor.set_data_from_numpy(np.ones(1, np.float32))
        client.infer("plain", [tensor])
        answers: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        inputs = []
        for name, values in {"IN": [7, 8], "DELAY": [0, 0], "WAIT": [0]}.items():
            kind = "INT32" if name == "IN" else "UINT32"
            each = grpcclient.InferInput(name, [len(values)], kind)
            each.set_data_from_numpy(np.array(values, kind.lower()))
            inputs.append(each)
        client.async_stream_infer("repeat", inputs)
        assert [answers.get(timeout=30)[1] for _ in range(2)] == [None, None]
        client.stop_stream()
    assert sorted(file.name for file in tmp_path.glob("traces.json*")) == [
        "traces.json.0",
        "traces.json.1",
    ]
    once, repeated = _traces(tmp_path)
    assert sorted(_names(once)) == sorted([*GRPC, *MODEL, *COMPUTE, *ENDS])
    assert sorted(_names(repeated)) == sorted([*GRPC, *GRPC[2:], *MODEL, *COMPUTE, *ENDS])
    assert _identities(repeated)[0]["model_name"] == "repeat"


def test_large_inputs_are_traced_from_shared_memory(tmp_path: Path) -> None:
    models.python_identity(tmp_path / "repository", "plain")
    arguments = _arguments(tmp_path, "level=TENSORS")
    with (
        serving(tmp_path / "repository", arguments=arguments) as server,
        httpclient.InferenceServerClient(server.http) as client,
    ):
        tensor = httpclient.InferInput("IN", [100_000], "FP32")
        tensor.set_data_from_numpy(np.full(100_000, 2, np.float32))
        client.infer("plain", [tensor])
    (trace,) = _traces(tmp_path)
    data = [entry["tensor"]["data"] for entry in trace if "activity" in entry]
    assert [each == ",".join(["2"] * 100_000) for each in data] == [True, True]
    assert not _names(trace)


def test_clients_turn_tracing_on_for_one_model_and_as_many_requests_as_they_say(
    tmp_path: Path,
) -> None:
    for name in ("plain", "other"):
        models.python_identity(tmp_path / "repository", name)
    with (
        serving(tmp_path / "repository", arguments=_arguments(tmp_path)) as server,
        httpclient.InferenceServerClient(server.http) as client,
        grpcclient.InferenceServerClient(server.grpc) as grpc,
    ):
        _infer(server)
        changed = client.update_trace_settings(
            "plain", {"trace_level": ["TIMESTAMPS"], "trace_count": "2", "trace_rate": "1"}
        )
        assert changed["trace_count"] == "2"
        for _ in range(3):
            _infer(server, request_id="wanted")
            _infer(server, "other")
        assert client.get_trace_settings("plain")["trace_count"] == "0"
        assert client.get_trace_settings()["trace_level"] == ["OFF"]
        cleared = grpc.update_trace_settings(
            "plain", {"trace_level": None, "trace_count": None}, as_json=True
        )
        assert cleared["settings"]["trace_level"]["value"] == ["OFF"]
        _infer(server)
    assert [_identities(trace)[0].get("request_id") for trace in _traces(tmp_path)] == [
        "wanted",
        "wanted",
    ]


def test_requests_that_fail_are_traced_and_those_refused_are_not(tmp_path: Path) -> None:
    raising = """
        class TritonPythonModel:
            def execute(self, requests):
                raise ValueError("no")
    """
    models.python_model(tmp_path / "repository", "raising", raising, models.identity_config())
    arguments = _arguments(tmp_path, "level=TIMESTAMPS")
    with serving(tmp_path / "repository", arguments=arguments) as server:
        with pytest.raises(InferenceServerException, match="no"):
            _infer(server, "raising")
        wrong = {"name": "NOPE", "shape": [1], "datatype": "FP32", "data": [1]}
        assert post_json(server, "/v2/models/raising/infer", {"inputs": [wrong]}).status == 400
    (trace,) = _traces(tmp_path)
    assert sorted(_names(trace)) == sorted([*HTTP, *MODEL, *COMPUTE, *ENDS])


def test_generate_is_traced(tmp_path: Path) -> None:
    models.python_identity(tmp_path / "repository", "text", "TYPE_STRING", dims=[1])
    arguments = _arguments(tmp_path, "level=TIMESTAMPS")
    with serving(tmp_path / "repository", arguments=arguments) as server:
        url = f"http://{server.http}/v2/models/text/generate"
        with urllib.request.urlopen(url, b'{"IN": "a"}', 30) as answer:
            assert json.loads(answer.read())["OUT"] == "a"
    (trace,) = _traces(tmp_path)
    assert {*MODEL, *COMPUTE, *ENDS} <= {*_names(trace)}
