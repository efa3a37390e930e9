"""The sentinel outlives the supervisor, kills what it left, and removes its folder."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tritonpy.ipc import lifeline, sentinel
from tritonpy.supervisor.workers.sentinel import Sentinel

WAIT = "import signal; print('up', flush=True); signal.pause()"


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A runtime directory with something in it."""
    directory = tmp_path / "runtime"
    (directory / "w1").mkdir(parents=True)
    (directory / "w1" / "to-worker").touch()
    return directory


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        with process:
            process.wait(30)


def waiting(
    started: list[subprocess.Popen[bytes]],
    *,
    group: int | None = None,
    environment: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", WAIT],
        stdout=subprocess.PIPE,
        process_group=group,
        env={**os.environ, **(environment or {})},
    )
    started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


def test_groups_and_marked_processes_die_and_the_folder_goes(
    runtime: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    group = waiting(started, group=0)
    gone = waiting(started, group=0)
    marked = waiting(started, environment={lifeline.MARK: str(runtime)})
    of_another_server = waiting(started, environment={lifeline.MARK: f"{runtime}2"})
    guard = Sentinel(str(runtime))
    guard.start()
    guard.add_group(group.pid)
    guard.add_group(gone.pid)
    guard.remove_group(gone.pid)

    guard.stop()

    assert [group.wait(30), marked.wait(30)] == [-signal.SIGKILL] * 2
    assert [gone.poll(), of_another_server.poll()] == [None, None]
    assert not runtime.exists()


def test_it_acts_when_the_supervisor_is_killed(
    runtime: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    worker = waiting(started, group=0)
    code = f"""
import signal
from tritonpy.supervisor.workers.sentinel import Sentinel
guard = Sentinel({str(runtime)!r})
guard.start()
guard.add_group({worker.pid})
print(guard._process.pid, flush=True)
signal.pause()
"""
    supervisor = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE)
    started.append(supervisor)
    assert supervisor.stdout is not None
    guard = os.pidfd_open(int(supervisor.stdout.readline()))

    supervisor.kill()

    assert worker.wait(30) == -signal.SIGKILL
    _wait_for_end(guard)
    assert not runtime.exists()


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_signals_do_not_end_it(runtime: Path, number: str) -> None:
    program = Path(sentinel.__file__)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(program), str(runtime)], stdin=subprocess.PIPE
    )
    with process:
        _wait_until_it_reads(process)
        process.send_signal(signal.Signals[number])
        assert process.stdin is not None
        process.stdin.close()

        assert process.wait(30) == 0
    assert not runtime.exists()


def test_it_needs_no_other_file_once_it_runs(runtime: Path, tmp_path: Path) -> None:
    folder = tmp_path / "installed"
    folder.mkdir()
    for module in (sentinel, lifeline):
        shutil.copy(str(module.__file__), folder)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(folder / "sentinel.py"), str(runtime)],
        stdin=subprocess.PIPE,
    )
    with process:
        _wait_until_it_reads(process)
        shutil.rmtree(folder)
        assert process.stdin is not None
        process.stdin.close()

        assert process.wait(30) == 0
    assert not runtime.exists()


def test_telling_one_that_was_killed_is_no_error(runtime: Path) -> None:
    guard = Sentinel(str(runtime))
    guard.start()
    process = guard._process  # pyright: ignore[reportPrivateUsage]
    assert process is not None
    process.kill()
    process.wait(30)

    guard.add_group(1)
    guard.stop()


def test_a_stopped_one_is_told_nothing(runtime: Path) -> None:
    guard = Sentinel(str(runtime))
    guard.add_group(1)
    guard.stop()

    assert runtime.exists()


def _wait_for_end(pidfd: int) -> None:
    try:
        assert select.select([pidfd], [], [], 30)[0], "the process did not end"
    finally:
        os.close(pidfd)


def _wait_until_it_reads(process: subprocess.Popen[bytes]) -> None:
    """Tell it more than a pipe holds, about a group that it does not know."""
    assert process.stdin is not None
    process.stdin.write(b"-1\n" * 50_000)
    process.stdin.flush()
