"""Settings: what contradicts itself is refused, and derived values are right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.settings import (
    GrpcSettings,
    HttpSettings,
    MetricsSettings,
    Settings,
    WorkerSettings,
    check,
    usable_memory_bytes,
)


def settings(http: str, grpc: str, metrics: str, **changes: Any) -> Settings:
    """Settings whose three services listen at these address:port pairs."""

    def at(place: str) -> dict[str, Any]:
        address, _, port = place.rpartition(":")
        return {"address": address, "port": int(port)}

    return Settings(
        repositories=("/models",),
        http=HttpSettings(**at(http), **changes),
        grpc=GrpcSettings(**at(grpc)),
        metrics=MetricsSettings(**at(metrics)),
    )


@pytest.mark.parametrize(
    ("http", "grpc", "metrics", "clash"),
    [
        ("0.0.0.0:1", "0.0.0.0:1", "0.0.0.0:2", "HTTP requests and GRPC requests"),
        ("0.0.0.0:1", "0.0.0.0:2", "0.0.0.0:1", "HTTP requests and metrics requests"),
        ("0.0.0.0:3", "0.0.0.0:1", "127.0.0.1:1", "GRPC requests and metrics requests"),
        (":::1", ":::1", ":::2", "HTTP requests and GRPC requests"),
    ],
)
def test_two_services_at_one_address_and_port_are_refused(
    http: str, grpc: str, metrics: str, clash: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"cannot listen to {clash} at the same address"):
        check(settings(http, grpc, metrics))


@pytest.mark.parametrize(
    ("http", "grpc", "metrics"),
    [
        ("0.0.0.0:0", "0.0.0.0:0", "0.0.0.0:0"),
        ("127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"),
        ("0.0.0.0:1", ":::1", "0.0.0.0:2"),
    ],
)
def test_services_that_do_not_meet_are_accepted(http: str, grpc: str, metrics: str) -> None:
    check(settings(http, grpc, metrics))


def test_a_service_that_is_off_takes_no_port() -> None:
    check(settings("0.0.0.0:1", "0.0.0.0:1", "0.0.0.0:2", enabled=False))


def test_an_arena_is_half_of_the_memory_unless_told_otherwise() -> None:
    grain = 2 * 1024 * 1024
    memory = usable_memory_bytes()
    assert memory // 2 - grain < WorkerSettings().arena_bytes <= memory // 2


@pytest.mark.parametrize(
    ("limit", "usable"), [("1073741824\n", 1 << 30), ("max\n", None), (None, None)]
)
def test_usable_memory_is_the_machines_or_what_the_control_group_allows(
    tmp_path: Path, limit: str | None, usable: int | None
) -> None:
    (tmp_path / "cgroup").write_text("4:memory:/old\n0::/system.slice/t.service\n")
    group = tmp_path / "fs" / "system.slice" / "t.service"
    group.mkdir(parents=True)
    if limit is not None:
        (group / "memory.max").write_text(limit)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    assert usable_memory_bytes(str(tmp_path / "cgroup"), str(tmp_path / "fs")) == (
        usable or machine
    )


@pytest.mark.parametrize(("size", "arena"), [(1, 2 << 20), (5 << 20, 4 << 20), (8 << 20, 8 << 20)])
def test_an_arena_is_whole_huge_pages(size: int, arena: int) -> None:
    assert WorkerSettings(arena_byte_size=size).arena_bytes == arena
