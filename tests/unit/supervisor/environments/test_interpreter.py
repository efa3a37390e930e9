"""Pythons are asked who they are, and programs are run to their end or ended."""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import msgspec
import psutil
import pytest
from support import environments
from support.fakes import until
from support.surroundings import real_surroundings

from tritonpy.supervisor.environments import interpreter as module
from tritonpy.supervisor.environments.failure import EnvironmentFailure
from tritonpy.supervisor.environments.interpreter import examine
from tritonpy.supervisor.environments.programs import ProgramError, Programs
from tritonpy.supervisor.environments.pythons import find_python

pytestmark = pytest.mark.anyio


@pytest.fixture
def programs() -> Iterator[Programs]:
    with real_surroundings() as surroundings:
        yield Programs(surroundings)


def script(folder: Path, text: str) -> str:
    """A program that is no Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_the_servers_own_python_says_who_it_is(programs: Programs) -> None:
    found = await examine(programs, sys.executable, os.environ, ["numpy", "no-such-package"])

    assert found.version == sys.version_info[:3]
    assert found.abi == sysconfig.get_config_var("SOABI")
    assert found.executable == sys.executable
    assert found.packages == {"numpy": metadata.version("numpy")}
    assert found.is_like_ours
    found.check_version()


@pytest.mark.parametrize("version", sorted(environments.interpreters()))
async def test_a_python_of_another_version_is_not_like_ours(
    programs: Programs, version: str
) -> None:
    python = environments.interpreters()[version]

    found = await examine(programs, python, os.environ, [])

    assert ".".join(map(str, found.version[:2])) == version
    assert found.is_like_ours == (version not in environments.foreign())
    found.check_version()


async def test_a_python_that_is_too_old_for_a_worker_is_refused(programs: Programs) -> None:
    found = await examine(programs, sys.executable, os.environ, [])
    found = msgspec.structs.replace(found, version=(3, 9, 18))

    with pytest.raises(EnvironmentFailure) as caught:
        found.check_version()

    assert str(caught.value) == "its Python is 3.9.18, and a worker needs 3.10 or newer"


async def test_what_is_no_python_is_told_with_its_last_words(
    programs: Programs, tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentFailure, match=r"cannot be run: .*No such file"):
        await examine(programs, str(tmp_path / "missing"), os.environ, [])
    with pytest.raises(EnvironmentFailure, match="it ended with status 3: wrong machine"):
        await examine(programs, script(tmp_path, "echo wrong machine; exit 3"), os.environ, [])
    with pytest.raises(EnvironmentFailure, match="is no Python"):
        await examine(programs, script(tmp_path, "echo hello"), os.environ, [])


async def test_a_python_that_does_not_answer_is_not_waited_for(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.01)

    with pytest.raises(EnvironmentFailure, match="did not say its version"):
        await examine(programs, script(tmp_path, "exec sleep 600"), os.environ, [])


async def test_what_a_program_says_is_handed_on(programs: Programs, tmp_path: Path) -> None:
    lines: list[str] = []
    program = script(tmp_path, 'echo "$GREETING"; pwd; echo to stderr >&2; printf unfinished')

    await programs.run([program], {"GREETING": "hello"}, str(tmp_path), lines.append)

    assert lines == ["hello", str(tmp_path), "to stderr", "unfinished"]


async def test_a_program_that_fails_is_told_with_its_last_lines(
    programs: Programs, tmp_path: Path
) -> None:
    program = script(tmp_path, "for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; kill -9 $$")

    with pytest.raises(ProgramError) as caught:
        await programs.run([program], {}, "/", lambda _line: None)

    lines = " | ".join(f"line {number}" for number in range(2, 10))
    assert str(caught.value) == f"it ended with signal 9: {lines}"


async def test_a_program_ends_with_all_that_it_started_when_nobody_waits_any_more(
    programs: Programs, tmp_path: Path
) -> None:
    lines: list[str] = []
    program = script(tmp_path, "sleep 600 & echo $!; wait")
    running = asyncio.create_task(programs.run([program], os.environ, "/", lines.append))
    await until(lambda: bool(lines))

    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    await until(lambda: _has_ended(int(lines[0])))


def _has_ended(process: int) -> bool:
    try:
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_python_is_found_by_its_path_or_version(tmp_path: Path) -> None:
    major, minor = sys.version_info[:2]

    assert find_python("") == sys.executable
    assert find_python(sys.executable) == sys.executable
    assert Path(find_python(f"{major}.{minor}")).name == f"python{major}.{minor}"


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ("3.99", r"there is no python3\.99 on the server's PATH"),
        ("python3", "must be a version, as 3.12, or the absolute path"),
        ("/nowhere/python", "must be a version, as 3.12, or the absolute path"),
        ("2.7", "must be a version, as 3.12, or the absolute path"),
    ],
)
def test_a_python_that_is_not_here_is_refused(wanted: str, complaint: str) -> None:
    with pytest.raises(EnvironmentFailure, match=complaint):
        find_python(wanted)
