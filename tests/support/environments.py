"""Build execution environments: folders, archives as conda-pack writes them, wheels."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from tritonpy.supervisor.environments.libraries import NEEDED

#: The versions that workers run in.
VERSIONS = ("3.10", "3.11", "3.12", "3.13")


@cache
def interpreters() -> dict[str, str]:
    """The Pythons of this machine, by version; the one that runs the tests is among them."""
    found = {_version(sys.executable): sys.executable}
    pyenv = Path("~/.pyenv/versions").expanduser()
    for version in VERSIONS:
        named = [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]
        on_path = shutil.which(f"python{version}")
        for candidate in (*named, *([on_path] if on_path else [])):
            if version not in found and _version(candidate) == version:
                found[version] = candidate
    return found


def foreign() -> list[str]:
    """The versions other than that of the server."""
    return sorted(set(interpreters()) - {_version(sys.executable)})


def _version(python: str) -> str:
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run(
        [python, "-c", question], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.strip()


def environment(folder: Path, python: str = sys.executable, *arguments: str) -> Path:
    """A virtual environment without anything in it; returns its folder."""
    subprocess.run(
        [python, "-m", "venv", "--without-pip", *arguments, str(folder)], check=True, timeout=100
    )
    return folder


def site_packages(folder: Path) -> Path:
    """Where the packages of an environment are."""
    return next((folder / "lib").glob("python3.*/site-packages"))


def add_module(folder: Path, name: str, text: str) -> None:
    """Install a module that consists of one text: `TEXT`."""
    (site_packages(folder) / f"{name}.py").write_text(f"TEXT = {text!r}\n")


def packable(folder: Path) -> Path:
    """An environment with files where others have links to the Python that made it."""
    environment(folder, sys.executable, "--copies")
    for name in ("conda-unpack", "activate.fish"):
        (folder / "bin" / name).write_text("#!/bin/sh\n")
    return folder


def pack(folder: Path, archive: Path) -> Path:
    """An archive with what conda-pack puts into it, which has no folder around it."""
    unfinished = archive.with_name(f"{archive.name}.part")
    with tarfile.open(unfinished, "w:gz", compresslevel=1) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    os.replace(unfinished, archive)
    return archive


def wheel(folder: Path, name: str, text: str, version: str = "1.0") -> Path:
    """A wheel with one module, which consists of one text: `TEXT`."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"TEXT = {text!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(inner, content)
    return path


def worker_wheels() -> Path:
    """A folder with what a worker needs in each of the other Pythons, fetched once for good.

    Skips the test where that cannot be fetched.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    names = [f"{name}>={oldest}" for name, oldest in sorted(NEEDED.items())]
    folder = Path(caches, "tritonpy-tests", "worker-wheels")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes of tests may want them at once
        for version in foreign():
            mark = folder / f"complete-{version}-{zlib.crc32(' '.join(names).encode()):x}"
            if not mark.exists():
                _fetch(folder, version, names)
                mark.touch()
    return folder


def _fetch(folder: Path, version: str, names: Sequence[str]) -> None:
    wanted = ("--python-version", version, "--only-binary", ":all:", "--no-deps")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *wanted, "--dest", str(folder), *names],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    if done.returncode:
        pytest.skip(f"wheels for Python {version} cannot be fetched: {done.stderr[-500:]}")


def kept(cache: Path, kind: str) -> list[Path]:
    """The complete environments of a kind in a cache."""
    return [
        path
        for path in sorted(cache.iterdir())
        if re.match(f"{kind}-[0-9a-f]+$", path.name) and (path / "complete").exists()
    ]
