"""Processes end with their parents, in groups, and by the mark in their environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tritonpy.ipc.lifeline import kill_group, kill_marked

MARK = "TRITONPY_TEST_MARK"

#: Says that it runs, then waits to be killed.
WAIT = "import signal; print('up', flush=True); signal.pause()"

#: Says who it is and waits to be killed.
SAY_AND_WAIT = """
import os, signal
print(os.getpid(), flush=True)
signal.pause()
"""

#: Asks to die with its parent, says whether the parent lives, and waits.
DIE_WITH_PARENT = """
import os, signal, sys
from tritonpy.ipc.lifeline import die_with_parent
print(os.getpid(), die_with_parent(int(sys.argv[1]) or os.getppid()), flush=True)
signal.pause()
"""

#: Starts a program, passes on what it says, and ends when its standard input does.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-P", "-c", sys.argv[1], "0"])
sys.stdin.read()
"""


def start(
    *arguments: str,
    stdin: int | None = None,
    environment: dict[str, str] | None = None,
    group: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start python, with its standard output in a pipe."""
    return subprocess.Popen(
        [sys.executable, "-P", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        process_group=group,
    )


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are killed afterwards, if the test did not."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        with process:
            process.wait(30)


def waiting(
    started: list[subprocess.Popen[bytes]], *, mark: str | None = None, group: int | None = None
) -> subprocess.Popen[bytes]:
    """A process that runs until it is killed."""
    environment = {} if mark is None else {MARK: mark}
    process = start("-c", WAIT, environment=environment, group=group)
    started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


def test_a_child_dies_when_its_parent_does(started: list[subprocess.Popen[bytes]]) -> None:
    parent = start("-c", PARENT, DIE_WITH_PARENT, stdin=subprocess.PIPE)
    started.append(parent)
    assert parent.stdout is not None
    _, parent_lives = parent.stdout.readline().split()
    assert parent_lives == b"True"

    parent.kill()

    # The pipe ends when nobody holds its other end: the child is gone too.
    assert parent.stdout.read() == b""


def test_a_child_learns_that_its_parent_died_before_it_could_ask(
    started: list[subprocess.Popen[bytes]],
) -> None:
    orphan = start("-c", DIE_WITH_PARENT, "1")
    started.append(orphan)
    assert orphan.stdout is not None

    _, parent_lives = orphan.stdout.readline().split()

    assert parent_lives == b"False"


def test_a_group_is_killed_whole(started: list[subprocess.Popen[bytes]]) -> None:
    leader = waiting(started, group=0)
    member = waiting(started, group=leader.pid)
    bystander = waiting(started)

    kill_group(leader.pid)

    assert [leader.wait(30), member.wait(30)] == [-signal.SIGKILL, -signal.SIGKILL]
    assert bystander.poll() is None


def test_killing_a_group_that_is_gone_is_no_error(
    started: list[subprocess.Popen[bytes]],
) -> None:
    leader = waiting(started, group=0)
    leader.kill()
    leader.wait(30)

    kill_group(leader.pid)


def test_exactly_those_who_carry_the_mark_are_killed(
    started: list[subprocess.Popen[bytes]],
) -> None:
    marked = [waiting(started, mark="/run/a"), waiting(started, mark="/run/a", group=0)]
    others = [waiting(started, mark="/run/ab"), waiting(started, mark="/run/"), waiting(started)]

    assert kill_marked(MARK, "/run/a") == 2

    assert [process.wait(30) for process in marked] == [-signal.SIGKILL] * 2
    assert [process.poll() for process in others] == [None] * 3


def test_who_inherited_the_mark_is_killed_too(started: list[subprocess.Popen[bytes]]) -> None:
    environment = {MARK: "/run/b"}
    parent = start("-c", PARENT, SAY_AND_WAIT, stdin=subprocess.PIPE, environment=environment)
    started.append(parent)
    assert parent.stdout is not None
    parent.stdout.readline()

    assert kill_marked(MARK, "/run/b") == 2

    assert parent.stdout.read() == b""


def test_nobody_is_killed_for_a_mark_that_nobody_carries() -> None:
    assert kill_marked(MARK, "/run/nobody") == 0


def test_the_caller_itself_is_spared() -> None:
    code = f"from tritonpy.ipc.lifeline import kill_marked;print(kill_marked({MARK!r}, '/run/c'))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, MARK: "/run/c"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert (done.returncode, done.stdout) == (0, "0\n")


def test_a_mark_that_is_no_text_is_looked_for() -> None:
    assert kill_marked(MARK, "/run/\udcff") == 0
