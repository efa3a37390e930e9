"""The values of --metrics-config."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.telemetry.metrics_config import MetricsConfig, parse_metrics_config
from tritonpy.supervisor.telemetry.quantiles import Target


def test_counters_alone_are_on_unless_told_otherwise() -> None:
    assert parse_metrics_config([]) == MetricsConfig(
        counter_latencies=True, histogram_latencies=False, summary_latencies=False
    )
    assert parse_metrics_config([]).quantiles[-1] == Target(0.999, 0.001)


def test_every_setting_is_read() -> None:
    texts = [
        "counter_latencies=false",
        "histogram_latencies=true",
        "summary_latencies=true",
        "summary_quantiles=0.25:0.05,0.75:0.02",
    ]
    assert parse_metrics_config(texts) == MetricsConfig(
        counter_latencies=False,
        histogram_latencies=True,
        summary_latencies=True,
        quantiles=(Target(0.25, 0.05), Target(0.75, 0.02)),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("summary_latencies=maybe", "expected true or false"),
        ("summary_quantiles=0.5", "expected <quantile>:<error>"),
        ("summary_quantiles=0.5:x", "expected <quantile>:<error>"),
        ("summary_quantiles=1.5:0.1", "expected <quantile>:<error>"),
        ("summary_quantiles=0.5:0.1,nan:0.1", "expected <quantile>:<error>"),
        ("counter=true", "unknown setting: expected counter_latencies"),
        ("local,summary_latencies=true", "unknown setting"),
    ],
)
def test_a_wrong_one_is_refused_with_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(InvalidArgumentError, match=expected) as caught:
        parse_metrics_config([text])
    assert f"--metrics-config={text}" in caught.value.message
