"""The metrics service: Triton's families, counted as they should be."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support import models
from support.clients import ask, eventually, metrics, post_json
from support.servers import RunningServer, serving

COUNTERS = [
    "nv_inference_request_success",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
]
SERIES = '{_team="vision",model="plain",version="1"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    tags = 'metric_tags { key: "team" value: "vision" }'
    models.identity(repository, "plain", max_batch_size=4, more=tags)
    models.identity(repository, "gone")
    arguments = ["--model-control-mode=explicit", "--load-model=*"]
    with serving(repository, arguments=arguments) as running:
        yield running


def infer(server: RunningServer, model: str, shape: list[int]) -> int:
    count = shape[0] * shape[-1] if len(shape) > 1 else shape[0]
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": shape, "data": [1] * count}
    return post_json(server, f"/v2/models/{model}/infer", {"inputs": [tensor]}).status


def test_the_text_is_what_prometheus_reads(server: RunningServer) -> None:
    for path in ("/metrics", "/metrics/"):
        answer = ask(server, "GET", path, service="metrics")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        lines = answer.body.decode().splitlines()
        assert answer.body.endswith(b"\n")
        for line in lines:
            assert re.fullmatch(r"# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[^}]*\})? [0-9.e+-]+", line), (
                line
            )
        for name in COUNTERS:
            assert f"# TYPE {name} counter" in lines
        for name in ("nv_inference_pending_request_count", "nv_cpu_utilization"):
            assert f"# TYPE {name} gauge" in lines


def test_only_metrics_are_there(server: RunningServer) -> None:
    answer = ask(server, "GET", "/nope", service="metrics")
    assert (answer.status, answer.body) == (200, b"")
    answer = ask(server, "POST", "/metrics", service="metrics")
    assert (answer.status, answer.error) == (405, "Method Not Allowed")


def test_counters_move_with_requests(server: RunningServer) -> None:
    before = metrics(server)
    assert infer(server, "plain", [3, 2]) == 200
    assert infer(server, "plain", [1, 2]) == 200
    after = metrics(server)
    moved = {name: after[name + SERIES] - before[name + SERIES] for name in COUNTERS}
    assert moved["nv_inference_request_success"] == 2
    assert moved["nv_inference_count"] == 4
    assert moved["nv_inference_exec_count"] == 2
    assert moved["nv_inference_request_duration_us"] > 0
    assert moved["nv_inference_request_duration_us"] >= moved["nv_inference_queue_duration_us"]
    assert after[f"nv_inference_pending_request_count{SERIES}"] == 0


def test_every_failure_has_its_reason(server: RunningServer) -> None:
    found = metrics(server)
    for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER"):
        series = f'{{_team="vision",model="plain",reason="{reason}",version="1"}}'
        assert found[f"nv_inference_request_failure{series}"] == 0
    assert infer(server, "plain", [9, 2]) == 400  # refused at the door: counts nowhere
    assert (
        metrics(server)[f"nv_inference_request_success{SERIES}"]
        == (found[f"nv_inference_request_success{SERIES}"])
    )


def test_a_model_that_is_unloaded_has_only_its_failures_left(server: RunningServer) -> None:
    assert infer(server, "gone", [2]) == 200
    assert metrics(server)['nv_inference_count{model="gone",version="1"}'] == 1
    assert metrics(server)['nv_model_load_duration_secs{model="gone",version="1"}'] > 0
    ask(server, "POST", "/v2/repository/models/gone/unload")
    eventually(
        lambda: (
            {name.split("{")[0] for name in metrics(server) if '"gone"' in name}
            == {"nv_inference_request_failure"}
        ),
        "the series of the model are gone",
    )


def test_the_machine_is_measured(server: RunningServer) -> None:
    found = metrics(server)
    assert 0 <= found["nv_cpu_utilization"] <= 1
    assert 0 < found["nv_cpu_memory_used_bytes"] < found["nv_cpu_memory_total_bytes"]
