"""From a place to a Python: what is made, shared, refused and given back."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from support import environments
from support.surroundings import real_surroundings

from tritonpy.ipc.errors import InternalError
from tritonpy.supervisor.environments import archive as archive_module
from tritonpy.supervisor.environments.environments import Environments
from tritonpy.supervisor.environments.interpreter import Interpreter
from tritonpy.supervisor.environments.place import Kind, Place
from tritonpy.supervisor.environments.programs import Programs
from tritonpy.supervisor.settings import EnvironmentSettings

pytestmark = pytest.mark.anyio


class Bench:
    """The environments of a server, and files to make some of."""

    def __init__(self, path: Path, made: Environments) -> None:
        self.path = path
        self.cache = path / "cache"
        self.wheels = path / "wheels"
        self.made = made

    def place(self, kind: Kind, path: Path) -> Place:
        """What a model names."""
        return Place("m", kind, str(path))

    def folder(self) -> Path:
        """A virtual environment."""
        return environments.environment(self.path / "env")

    def archive(self) -> Path:
        """A packed environment."""
        return environments.pack(environments.packable(self.path / "env"), self.path / "env.tar.gz")

    def requirements(self, text: str) -> Path:
        """A requirements file."""
        path = self.path / "requirements.txt"
        path.write_text(text)
        return path

    def in_cache(self) -> set[str]:
        """The folders of the cache."""
        return {path.name for path in self.cache.iterdir() if path.is_dir()}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    settings = EnvironmentSettings(
        cache_directory=str(tmp_path / "cache"), worker_wheels=str(tmp_path / "wheels")
    )
    with real_surroundings() as surroundings:
        made = Environments(settings, surroundings)
        yield Bench(tmp_path, made)
        await made.close()
        await made.close()


def replace(path: Path, text: bytes) -> None:
    """Put another file in the place of one."""
    path.with_suffix(".new").write_bytes(text)
    os.replace(path.with_suffix(".new"), path)


async def test_a_folder_is_used_where_it_lies(bench: Bench) -> None:
    folder = bench.folder()

    environment = await bench.made.prepare(bench.place(Kind.FOLDER, folder))

    assert environment.command[0] == str(folder / "bin" / "python")
    assert environment.variables({"PATH": "/bin"})["PATH"] == f"{folder}/bin:/bin"
    assert environment.leases == ()
    environment.release()


async def test_environments_that_lack_the_same_share_what_is_put_beside_them(bench: Bench) -> None:
    folder = bench.folder()
    one = await bench.made.prepare(bench.place(Kind.FOLDER, folder))
    two = await bench.made.prepare(bench.place(Kind.FOLDER, folder))

    assert one.command == two.command


async def test_an_archive_is_held_until_it_is_released(bench: Bench) -> None:
    environment = await bench.made.prepare(bench.place(Kind.ARCHIVE, bench.archive()))

    (lease,) = environment.leases
    assert environment.tree == lease.tree
    assert Path(environment.command[0]).is_relative_to(bench.cache)
    environment.release()


async def test_an_archive_that_is_replaced_meanwhile_is_not_taken_for_the_old_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = bench.archive()
    extract = archive_module.extract

    def replaced(*arguments: object) -> None:
        extract(*arguments)  # type: ignore[arg-type]
        replace(packed, b"another")

    monkeypatch.setattr(archive_module, "extract", replaced)

    with pytest.raises(InternalError, match="it was replaced while it was unpacked"):
        await bench.made.prepare(bench.place(Kind.ARCHIVE, packed))

    assert bench.in_cache() == set()


async def test_requirements_that_are_changed_meanwhile_are_not_taken_for_the_old_ones(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bench.requirements("one\n")
    run = Programs.run

    async def changed(
        self: Programs,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        directory: str,
        on_line: Callable[[str], None],
    ) -> None:
        if "pip" in arguments:
            replace(path, b"two\n")
        elif "venv" not in arguments:
            await run(self, arguments, variables, directory, on_line)

    monkeypatch.setattr(Programs, "run", changed)

    with pytest.raises(InternalError, match="it was changed while it was installed"):
        await bench.made.prepare(bench.place(Kind.REQUIREMENTS, path))

    assert bench.in_cache() == set()


async def test_what_is_no_environment_is_given_back_at_once(bench: Bench) -> None:
    (bench.path / "empty" / "bin").mkdir(parents=True)
    packed = environments.pack(bench.path / "empty", bench.path / "env.tar.gz")

    for _ in range(2):
        with pytest.raises(InternalError, match="The Python environment should contain an 'activ"):
            await bench.made.prepare(bench.place(Kind.ARCHIVE, packed))


async def test_a_python_that_is_too_old_or_broken_is_told_with_the_model(bench: Bench) -> None:
    folder = bench.path / "env"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "activate").write_text("")
    (folder / "bin" / "python").symlink_to("/bin/false")

    with pytest.raises(InternalError) as caught:
        await bench.made.prepare(bench.place(Kind.FOLDER, folder))

    assert caught.value.message == (
        f"the execution environment '{folder}' of model 'm' cannot be used: its "
        f"'{folder}/bin/python' cannot be run: it ended with status 1: it said nothing"
    )


async def test_what_a_worker_lacks_and_cannot_have_is_told_with_what_pip_said(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Interpreter, "is_like_ours", False)
    bench.wheels.mkdir()

    with pytest.raises(InternalError) as caught:
        await bench.made.prepare(bench.place(Kind.FOLDER, bench.folder()))

    told = caught.value.message
    assert "needs there (msgspec, numpy, ml-dtypes for Python 3." in told
    assert "No matching distribution found for msgspec" in told
    assert "--worker-wheels names a folder" in told
    assert bench.in_cache() == set()


async def test_an_environment_that_has_all_that_a_worker_needs_is_given_nothing(
    bench: Bench,
) -> None:
    folder = bench.folder()
    packages = Path(np.__file__).parents[1]
    (environments.site_packages(folder) / "more.pth").write_text(f"{packages}\n")

    environment = await bench.made.prepare(bench.place(Kind.FOLDER, folder))

    assert environment.command[2] == ""
