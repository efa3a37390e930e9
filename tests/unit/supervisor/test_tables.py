"""The tables of the start-up log."""

from __future__ import annotations

from textwrap import dedent

from tritonpy.supervisor import tables
from tritonpy.supervisor.settings import (
    CacheSettings,
    ModelControlSettings,
    Settings,
    WorkerSettings,
)


def text(drawn: str) -> str:
    return dedent(drawn).strip()


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    drawn = tables.models([("digits", "1", "READY"), ("a_longer_name", "12", "READY")])
    assert drawn == text(
        """
        +---------------+---------+--------+
        | Model         | Version | Status |
        +---------------+---------+--------+
        | digits        | 1       | READY  |
        | a_longer_name | 12      | READY  |
        +---------------+---------+--------+
        """
    )


def test_a_reason_of_several_lines_stays_in_its_column() -> None:
    drawn = tables.models([("m", "1", "UNAVAILABLE: Internal: one\ntwo"), ("n", "1", "READY")])
    assert drawn == text(
        """
        +-------+---------+----------------------------+
        | Model | Version | Status                     |
        +-------+---------+----------------------------+
        | m     | 1       | UNAVAILABLE: Internal: one |
        |       |         | two                        |
        | n     | 1       | READY                      |
        +-------+---------+----------------------------+
        """
    )


def test_a_table_without_rows_shows_its_headings() -> None:
    assert tables.repository_agents([]) == text(
        """
        +------------------+------+
        | Repository Agent | Path |
        +------------------+------+
        +------------------+------+
        """
    )


def test_backends_are_shown_with_path_and_configuration() -> None:
    drawn = tables.backends([("python", "tritonpy.worker.python", '{"cmdline":{}}')])
    assert drawn.split("\n")[1] == "| Backend | Path                   | Config         |"
    assert drawn.split("\n")[3] == '| python  | tritonpy.worker.python | {"cmdline":{}} |'


def test_options_have_the_names_that_tritonserver_gives_them() -> None:
    settings = Settings(
        server_id="left",
        repositories=("/a", "/b"),
        models=ModelControlSettings(mode="explicit", startup=("m",), strict_config=True),
        workers=WorkerSettings(
            arena_byte_size=2 << 20,
            rate_limit="execution_count",
            rate_limit_resources=("R:8:1", "R:4"),
        ),
        cache=CacheSettings(config={"local": {"size": "1"}}),
    )
    rows = [
        tuple(cell.strip() for cell in line.split("|")[1:3])
        for line in tables.options(settings, "1.2", ["classification", "statistics"]).split("\n")
        if line.startswith("|")
    ]
    assert rows == [
        ("Option", "Value"),
        ("server_id", "left"),
        ("server_version", "1.2"),
        ("server_extensions", "classification statistics"),
        ("model_repository_path[0]", "/a"),
        ("model_repository_path[1]", "/b"),
        ("model_control_mode", "MODE_EXPLICIT"),
        ("startup_models_0", "m"),
        ("strict_model_config", "1"),
        ("model_config_name", ""),
        ("rate_limit", "EXEC_COUNT"),
        ("rate_limit_resource[0]", '{"name":"R", "count":4 "device":-1}'),
        ("rate_limit_resource[1]", '{"name":"R", "count":8 "device":1}'),
        ("pinned_memory_pool_byte_size", "0"),
        ("min_supported_compute_capability", "6.0"),
        ("strict_readiness", "1"),
        ("exit_timeout", "30"),
        ("cache_enabled", "1"),
        ("arena_byte_size", "2097152"),
    ]
