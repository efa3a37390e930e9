"""What holds for all tests: no telemetry, no leftovers, no silent skips in CI, and generated
examples that are the same every time, however slow the machine is.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

settings.register_profile(
    "reproducible",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, as the server does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a process or a file in /dev/shm behind.

    Servers of a module's fixture outlive single tests; the module's last test is followed by their
    own check.
    """
    before = _leftovers()
    yield
    if not _has_shared_server(request):
        left = _leftovers() - before
        if left:  # what only a reference cycle keeps is not left behind
            gc.collect()
            left = _leftovers() - before
        assert not left, f"left behind: {sorted(left)}"


def _has_shared_server(request: pytest.FixtureRequest) -> bool:
    return any(name in request.fixturenames for name in ("server", "servers"))


def _leftovers() -> set[str]:
    found = {str(path) for path in Path("/dev/shm").glob("*tritonpy*")}
    if not any(map(_has_children, Path("/proc/self/task").iterdir())):
        return found  # the usual case, and a hundredth of the price of looking at all processes
    for child in psutil.Process().children(recursive=True):
        try:
            command = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if "tritonpy" in command and child.status() != psutil.STATUS_ZOMBIE:
            found.add(f"process {child.pid}: {command}")
    return found


def _has_children(thread: Path) -> bool:
    try:
        return bool((thread / "children").read_text())
    except OSError:  # the thread has ended meanwhile, and its children are others'
        return False


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI a skipped test is a failure, unless it needs what CI cannot have: a GPU."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if (
        report.skipped
        and os.environ.get("TRITONPY_TESTS_FAIL_ON_SKIP")
        and item.get_closest_marker("gpu") is None
        and not hasattr(report, "wasxfail")
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"
