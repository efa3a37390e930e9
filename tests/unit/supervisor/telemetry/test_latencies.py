"""How latencies are distributed: what is observed, and the families that show it."""

from __future__ import annotations

import math

from tritonpy.supervisor.config.schema import (
    HistogramOptions,
    MetricControl,
    MetricIdentifier,
    ModelConfig,
    ModelMetrics,
    ModelResponseCache,
    ModelTransactionPolicy,
)
from tritonpy.supervisor.telemetry.latencies import FIRST_RESPONSE, Latencies
from tritonpy.supervisor.telemetry.latency_families import latency_families
from tritonpy.supervisor.telemetry.metrics_config import MetricsConfig
from tritonpy.supervisor.telemetry.quantiles import Target

PLAIN = ModelConfig(name="m")
DECOUPLED = ModelConfig(name="m", model_transaction_policy=ModelTransactionPolicy(decoupled=True))
ALL = MetricsConfig(
    histogram_latencies=True, summary_latencies=True, quantiles=(Target(0.5, 0.01),)
)
HISTOGRAM = MetricsConfig(histogram_latencies=True)
MS = 1_000_000


def made(config: ModelConfig, metrics: MetricsConfig = ALL) -> Latencies:
    latencies = Latencies.of(metrics, config)
    assert latencies is not None
    return latencies


def lines(*latencies: Latencies) -> list[str]:
    return list(latency_families([((("model", "m"),), each.snapshot()) for each in latencies]))


def test_nobody_pays_who_does_not_ask() -> None:
    assert Latencies.of(MetricsConfig(), DECOUPLED) is None
    assert Latencies.of(HISTOGRAM, PLAIN) is None


def test_a_first_response_falls_into_the_bucket_whose_bound_it_does_not_exceed() -> None:
    latencies = made(DECOUPLED, HISTOGRAM)
    for milliseconds in (1, 100, 100.5, 9000):
        latencies.responded_first(int(milliseconds * MS))
    name = FIRST_RESPONSE
    assert lines(latencies)[2:] == [
        f'{name}_count{{model="m"}} 4',
        f'{name}_sum{{model="m"}} 9201.5',
        f'{name}_bucket{{le="100",model="m"}} 2',
        f'{name}_bucket{{le="500",model="m"}} 3',
        f'{name}_bucket{{le="2000",model="m"}} 3',
        f'{name}_bucket{{le="5000",model="m"}} 3',
        f'{name}_bucket{{le="+Inf",model="m"}} 4',
    ]


def test_a_model_has_the_buckets_that_it_configures() -> None:
    control = MetricControl(
        metric_identifier=MetricIdentifier(family=FIRST_RESPONSE),
        histogram_options=HistogramOptions(buckets=[0.5, 8]),
    )
    other = MetricControl(
        metric_identifier=MetricIdentifier(family="nv_other"),
        histogram_options=HistogramOptions(buckets=[1, 2, 3]),
    )
    config = ModelConfig(
        model_transaction_policy=ModelTransactionPolicy(decoupled=True),
        model_metrics=ModelMetrics(metric_control=[other, control]),
    )
    latencies = made(config, HISTOGRAM)
    latencies.responded_first(2 * MS)
    assert [line.rsplit(" ", 1)[1] for line in lines(latencies) if "_bucket" in line] == [
        "0",
        "1",
        "1",
    ]


def test_every_part_of_a_request_is_summarized_in_microseconds() -> None:
    latencies = made(PLAIN)
    latencies.executed([1_000, 3_999], input_ns=5_000, infer_ns=70_000, output_ns=900)
    latencies.succeeded(100_000)
    shown = lines(latencies)
    for part, count, total, median in (
        ("request", 1, 100, 100),
        ("queue", 2, 4, 1),
        ("compute_input", 2, 10, 5),
        ("compute_infer", 2, 140, 70),
        ("compute_output", 2, 0, 0),
    ):
        name = f"nv_inference_{part}_summary_us"
        at = shown.index(f"# TYPE {name} summary")
        assert shown[at + 1 : at + 4] == [
            f'{name}_count{{model="m"}} {count}',
            f'{name}_sum{{model="m"}} {total}',
            f'{name}{{model="m",quantile="0.5"}} {median}',
        ]
    assert not any(FIRST_RESPONSE in line for line in shown)


def test_a_summary_of_nothing_has_no_quantiles() -> None:
    summary = made(PLAIN).snapshot().summaries["queue"]
    assert (summary.count, summary.total) == (0, 0)
    assert math.isnan(summary.quantiles[0][1])


def test_where_a_cache_answers_whole_requests_are_not_summarized() -> None:
    latencies = made(ModelConfig(response_cache=ModelResponseCache(enable=True)))
    latencies.succeeded(1)
    assert "request" not in latencies.snapshot().summaries
    assert "queue" in latencies.snapshot().summaries


def test_look_ups_are_summarized_of_models_that_use_the_cache() -> None:
    latencies = made(ModelConfig(response_cache=ModelResponseCache(enable=True)))
    latencies.looked_up("cache_hit", 5_000)
    latencies.looked_up("cache_miss", 7_000)
    latencies.looked_up("cache_miss", 8_000)
    shown = lines(latencies)
    for name, count, total in (("hit", 1, 5), ("miss", 2, 15)):
        name = f"nv_cache_{name}_summary_per_model"
        at = shown.index(f"# TYPE {name} summary")
        assert shown[at + 1 : at + 3] == [
            f'{name}_count{{model="m"}} {count}',
            f'{name}_sum{{model="m"}} {total}',
        ]
    plain = made(PLAIN)
    plain.looked_up("cache_hit", 5_000)
    assert not any("cache" in line for line in lines(plain))


def test_two_generations_of_a_version_are_one_series() -> None:
    old, new = made(DECOUPLED), made(DECOUPLED)
    for latencies, milliseconds in ((old, 1), (old, 1), (new, 9000)):
        latencies.responded_first(milliseconds * MS)
        latencies.succeeded(milliseconds * MS)
    shown = lines(old, new)
    assert f'{FIRST_RESPONSE}_bucket{{le="100",model="m"}} 2' in shown
    assert f'{FIRST_RESPONSE}_count{{model="m"}} 3' in shown
    assert 'nv_inference_request_summary_us_count{model="m"} 3' in shown
    assert 'nv_inference_request_summary_us{model="m",quantile="0.5"} 9000000' in shown
