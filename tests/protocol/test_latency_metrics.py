"""Histograms and summaries of latencies, memory of models: what only some servers are asked for."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping
from email.message import Message

import pytest
from support import models
from support.clients import ask, metrics, post_json
from support.servers import RunningServer, serving

_HISTOGRAM = "nv_inference_first_response_histogram_ms"
_PARTS = ("request", "queue", "compute_input", "compute_infer", "compute_output")
_GREEDY = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def initialize(self, args):
            self.weights = np.ones(64 << 20, np.uint8)

        def execute(self, requests):
            return [pb_utils.InferenceResponse([]) for _ in requests]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    buckets = f"""
        model_metrics {{
          metric_control {{
            metric_identifier {{ family: "{_HISTOGRAM}" }}
            histogram_options {{ buckets: [ 0.001, 600000 ] }}
          }}
        }}
    """
    models.identity(repository, "plain", max_batch_size=4)
    models.square(repository, "square", buckets)
    models.square(repository, "default_buckets")
    models.python_model(repository, "greedy", _GREEDY, models.identity_config())
    arguments = [
        "--metrics-config=summary_latencies=true",
        "--metrics-config=histogram_latencies=true",
        "--metrics-config=summary_quantiles=0.5:0.05,0.9:0.01",
    ]
    with serving(repository, arguments=arguments) as running:
        yield running


def _infer(server: RunningServer) -> None:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [2, 1], "data": [1, 2]}
    assert post_json(server, "/v2/models/plain/infer", {"inputs": [tensor]}).status == 200


def _stream(
    server: RunningServer, model: str, number: int, headers: Mapping[str, str] | None = None
) -> tuple[Message, bytes]:
    """The headers and the events of a stream of as many responses."""
    url = f"http://{server.http}/v2/models/{model}/generate_stream"
    body = json.dumps({"IN": number}).encode()
    request = urllib.request.Request(url, body, dict(headers or {}))
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers, answer.read()


def test_every_part_of_a_request_has_its_summary(server: RunningServer) -> None:
    _infer(server)
    _infer(server)
    found = metrics(server)
    labels = '{model="plain",version="1"}'
    for part in _PARTS:
        name = f"nv_inference_{part}_summary_us"
        assert found[f"{name}_count{labels}"] == 2
        counter = f"nv_inference_{part}_duration_us{labels}"
        assert abs(found[f"{name}_sum{labels}"] - found[counter]) <= 2  # parts of microseconds
        for quantile in ("0.5", "0.9"):
            series = f'{name}{{model="plain",quantile="{quantile}",version="1"}}'
            assert 0 <= found[series] <= found[f"{name}_sum{labels}"]


def test_the_first_response_of_a_decoupled_model_has_its_histogram(server: RunningServer) -> None:
    for model in ("square", "default_buckets"):
        assert _stream(server, model, 3)[1].count(b"data:") == 3
    found = metrics(server)
    labels = 'model="square",version="1"'
    assert found[f"{_HISTOGRAM}_count{{{labels}}}"] == 1
    assert found[f'{_HISTOGRAM}_bucket{{le="0.001",{labels}}}'] == 0
    assert found[f'{_HISTOGRAM}_bucket{{le="600000",{labels}}}'] == 1
    assert found[f'{_HISTOGRAM}_bucket{{le="+Inf",{labels}}}'] == 1
    assert found[f"{_HISTOGRAM}_sum{{{labels}}}"] > 0
    for bound in ("100", "500", "2000", "5000", "+Inf"):
        default = f'{_HISTOGRAM}_bucket{{le="{bound}",model="default_buckets",version="1"}}'
        assert default in found
    assert not any(_HISTOGRAM in name and '"plain"' in name for name in found)


def test_a_models_memory_is_what_its_worker_grew_by(server: RunningServer) -> None:
    answer = ask(server, "GET", "/v2/models/greedy/stats").json
    (usage,) = answer["model_stats"][0]["memory_usage"]
    assert (usage["type"], usage["id"]) == ("CPU", 0)
    assert 64 << 20 <= usage["byte_size"] < 256 << 20


def test_a_load_report_needs_metrics_that_only_language_models_have(server: RunningServer) -> None:
    headers, _ = _stream(server, "square", 1, {"endpoint-load-metrics-format": "text"})
    assert "endpoint-load-metrics" not in headers
    server.wait_for_line("One or more of the kv metrics was not found or invalid")


def test_without_counters_nothing_is_counted_and_statistics_are(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "plain", max_batch_size=4)
    arguments = ["--metrics-config=counter_latencies=false"]
    with serving(repository, arguments=arguments) as server:
        _infer(server)
        found = metrics(server)
        labels = '{model="plain",version="1"}'
        assert found[f"nv_inference_request_success{labels}"] == 0
        assert f"nv_inference_request_duration_us{labels}" not in found
        stats = ask(server, "GET", "/v2/models/plain/stats").json["model_stats"][0]
        assert stats["inference_count"] == 2
