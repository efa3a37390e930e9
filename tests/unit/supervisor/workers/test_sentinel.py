"""The supervisor's side of the sentinel."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tritonpy.supervisor.workers.sentinel import Sentinel


def _child() -> subprocess.Popen[bytes]:
    """A process that leads a group and does nothing until it is killed."""
    return subprocess.Popen(
        [sys.executable, "-S", "-c", "import signal; signal.pause()"], process_group=0
    )


def test_stopping_it_ends_the_groups_that_are_left_and_removes_the_folder(tmp_path: Path) -> None:
    directory = tmp_path / "runtime"
    directory.mkdir()
    (directory / "socket").touch()
    sentinel = Sentinel(str(directory))
    sentinel.start()
    gone, left = _child(), _child()
    sentinel.add_group(gone.pid)
    sentinel.add_group(left.pid)
    sentinel.remove_group(gone.pid)

    sentinel.stop()

    assert not directory.exists()
    assert left.wait(10) == -signal.SIGKILL
    assert gone.poll() is None
    gone.kill()
    gone.wait()


def test_it_hears_no_signal_that_is_meant_for_us_and_its_death_is_no_drama(tmp_path: Path) -> None:
    sentinel = Sentinel(str(tmp_path))
    before = {child.pid for child in psutil.Process().children()}
    sentinel.start()
    (process,) = (child for child in psutil.Process().children() if child.pid not in before)
    assert process.status() != psutil.STATUS_ZOMBIE

    process.kill()
    psutil.wait_procs([process], 10)
    sentinel.add_group(1 << 22)
    sentinel.remove_group(1 << 22)
    sentinel.stop()
    sentinel.stop()


def test_one_that_never_started_has_nothing_to_do(tmp_path: Path) -> None:
    sentinel = Sentinel(str(tmp_path))
    sentinel.add_group(1 << 22)
    sentinel.stop()
    assert tmp_path.exists()
