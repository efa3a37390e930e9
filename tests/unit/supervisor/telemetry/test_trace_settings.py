"""What the command line and clients may ask of tracing, whose settings win, and who is sampled."""

from __future__ import annotations

from typing import Any

import pytest

from tritonpy.ipc.errors import InvalidArgumentError, StatusError, UnsupportedError
from tritonpy.supervisor.telemetry.trace_settings import (
    Sampler,
    TraceConfig,
    TraceSettings,
    TraceTable,
    parse_config,
)

ON = TraceSettings(levels=("TIMESTAMPS",), rate=1)


def test_nothing_is_traced_unless_asked() -> None:
    assert parse_config([]) == TraceConfig()
    assert not TraceTable(TraceConfig().settings).is_on


def test_the_command_line_is_read() -> None:
    config = parse_config(
        [
            "level=TENSORS",
            "level=TIMESTAMPS",
            "rate=5",
            "count=-1",
            "triton,file=/t.json",
            "triton,log-frequency=3",
        ]
    )
    assert config.settings == TraceSettings(
        levels=("TIMESTAMPS", "TENSORS"), rate=5, count=-1, log_frequency=3
    )
    assert config.constants() == [("trace_file", "/t.json"), ("trace_mode", "triton")]


def test_the_mode_opentelemetry_has_settings_of_its_own() -> None:
    config = parse_config(
        [
            "mode=opentelemetry",
            "rate=0",
            "level=TIMESTAMPS",
            "opentelemetry,url=http://c:4318/v1/traces",
            "opentelemetry,resource=a=b=c",
            "opentelemetry,resource=d=e",
            "opentelemetry,bsp_max_queue_size=10",
        ]
    )
    assert config.constants() == [
        ("trace_mode", "opentelemetry"),
        ("url", "http://c:4318/v1/traces"),
        ("resource", "a=b=c"),
        ("resource", "d=e"),
        ("bsp_max_queue_size", "10"),
        ("bsp_max_export_batch_size", "512"),
        ("bsp_schedule_delay", "5000"),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mode=zipkin", "expected triton or opentelemetry"),
        ("level=ALL", "expected OFF, TIMESTAMPS or TENSORS"),
        ("rate=x", "expected an integer from 0 to 4294967295"),
        ("rate=0", "one request in how many"),
        ("count=-2", "from -1 to"),
        ("triton,speed=3", "unknown setting"),
        ("opentelemetry,file=x", "unknown setting"),
        ("opentelemetry,resource=x", "expected <key>=<value>"),
        ("opentelemetry,bsp_schedule_delay=0", "from 1 to"),
        ("level=TIMESTAMPS", "needs a file"),
    ],
)
def test_a_command_line_that_is_wrong_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        parse_config([text])


def test_a_models_settings_win_over_the_global_ones_and_those_over_the_command_line() -> None:
    table = TraceTable(ON)
    table.update("", {"trace_rate": ["20"], "log_frequency": ["2"]}, "")
    table.update("m", {"trace_rate": ["7"]}, "")

    assert table.sampler("m").settings.rate == 7
    assert table.sampler("m").settings.log_frequency == 2
    assert table.sampler("other").settings.rate == 20

    table.update("", {"trace_level": ["OFF"], "log_frequency": ["3"]}, "")
    assert table.sampler("m").settings == TraceSettings(levels=(), rate=7, log_frequency=3)
    table.update("m", {"trace_rate": None}, "")
    assert table.sampler("m") is table.sampler("other")
    table.update("", {"trace_rate": None, "trace_level": None, "log_frequency": None}, "")
    assert table.sampler("m").settings == ON


def test_tracing_is_on_while_any_models_is() -> None:
    table = TraceTable(TraceSettings())
    table.update("m", {"trace_level": ["TIMESTAMPS"]}, "")
    assert table.is_on
    table.update("m", {"trace_level": ["OFF"]}, "")
    assert not table.is_on


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"trace_rate": ["ten"]}, InvalidArgumentError, "Unable to parse 'trace_rate', got: ten"),
        ({"trace_rate": ["0"]}, InvalidArgumentError, "sample rate must be non-zero"),
        ({"trace_rate": ["9" * 30]}, InvalidArgumentError, "value is out of range"),
        ({"trace_rate": ["-1"]}, InvalidArgumentError, "value is out of range"),
        ({"trace_rate": ["1", "2"]}, InvalidArgumentError, "expect only 1 value for 'trace_rate'"),
        ({"trace_count": ["-2"]}, InvalidArgumentError, "Expecting value >= -1, got:_-2"),
        ({"trace_count": ["0"]}, InvalidArgumentError, "invalid trace setting"),
        ({"trace_level": ["OFF", "TENSORS"]}, InvalidArgumentError, "only one trace level 'OFF'"),
        ({"trace_file": None}, UnsupportedError, "trace file location can not be updated"),
    ],
)
def test_a_change_that_is_wrong_changes_nothing(
    changes: dict[str, Any], kind: type[StatusError], message: str
) -> None:
    table = TraceTable(ON)
    with pytest.raises(kind, match=message):
        table.update("", {"log_frequency": ["9"], **changes}, "_")
    assert table.sampler("").settings == ON


def test_levels_that_nobody_knows_and_unknown_settings_are_ignored() -> None:
    table = TraceTable(ON)
    table.update("", {"trace_level": ["NOPE"], "nope": ["1"]}, "")
    assert table.sampler("").settings == ON


def test_one_request_in_so_many_is_traced_and_the_count_ends_it() -> None:
    sampler = Sampler(TraceSettings(levels=("TIMESTAMPS",), rate=3, count=2))
    taken = [number for number in range(1, 13) if sampler.takes(forced=False)]
    assert taken == [3, 6]
    assert sampler.left == 0


def test_a_clients_own_trace_goes_on_whatever_the_rate() -> None:
    sampler = Sampler(TraceSettings(levels=("TIMESTAMPS",), rate=0))
    assert not sampler.takes(forced=False)
    assert sampler.takes(forced=True)
    assert not Sampler(TraceSettings()).takes(forced=True)


def test_settings_of_other_models_leave_a_models_count_alone() -> None:
    table = TraceTable(ON)
    table.update("m", {"trace_count": ["5"]}, "")
    table.sampler("m").takes(forced=False)
    table.update("n", {"trace_rate": ["2"]}, "")
    assert table.sampler("m").left == 4
