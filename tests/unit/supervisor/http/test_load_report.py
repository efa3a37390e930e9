"""The header that tells how full a language model's cache is."""

from __future__ import annotations

import logging

import pytest

from tritonpy.supervisor.http.load_report import header_line, no_metrics


def metrics(tokens: float = 64, used: float = 5, most: float = 20) -> str:
    family = "nv_trt_llm_kv_cache_block_metrics"
    return "".join(
        f'{family}{{kv_cache_block_type="{kind}",model="llm",version="1"}} {value}\n'
        for kind, value in (("tokens_per", tokens), ("used", used), ("max", most), ("free", 15))
    )


@pytest.mark.parametrize(
    ("form", "line"),
    [
        (
            "text",
            b"TEXT named_metrics.kv_cache_utilization=0.25, named_metrics.max_token_capacity=1280",
        ),
        (
            "json",
            b'JSON {"named_metrics":{"kv_cache_utilization":0.25,"max_token_capacity":1280}}',
        ),
    ],
)
def test_the_report_is_made_of_the_models_own_metrics(form: str, line: bytes) -> None:
    assert header_line(form, metrics) == b"endpoint-load-metrics: " + line + b"\r\n"


def test_a_cache_without_blocks_is_not_used() -> None:
    assert b"utilization=0.0," in header_line("text", lambda: metrics(used=0, most=0))


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("xml", metrics(), "set to an invalid type: xml"),
        ("text", "nv_inference_count 1\n", "One or more of the kv metrics was not found"),
        ("json", metrics(used=-1), "One or more of the kv metrics was not found"),
    ],
)
def test_without_what_it_takes_there_is_no_header_and_the_log_says_why(
    form: str, text: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert header_line(form, lambda: text) == b""
    assert said in caplog.text


def test_a_server_without_metrics_has_no_text() -> None:
    assert no_metrics() == ""
