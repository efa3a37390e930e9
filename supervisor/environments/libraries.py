"""The few compiled packages that a worker needs, and where it has them from in an environment.

An environment that has a package uses its own: what else it has was built against that. What it has
not is put on the path behind everything of the environment's, out of a folder that holds nothing
else. The packages of the server itself serve where they fit.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata

from .failure import EnvironmentFailure
from .interpreter import Interpreter

#: The distributions that worker/ and ipc/ import, with the oldest versions that do.
NEEDED: Mapping[str, str] = {
    "msgspec": "0.19",
    "numpy": "1.23",
    "ml-dtypes": "0.1",
}


def missing(interpreter: Interpreter) -> tuple[str, ...]:
    """What an environment has not. Raises EnvironmentFailure for what it has and is too old."""
    for name, oldest in NEEDED.items():
        version = interpreter.packages.get(name)
        if version is not None and _numbers(version) < _numbers(oldest):
            raise EnvironmentFailure(
                f"it has {name} {version}, and a worker needs {oldest} or newer; upgrade it there"
            )
    return tuple(name for name in NEEDED if name not in interpreter.packages)


def link_own(names: Iterable[str], folder: str) -> bool:
    """Make a folder of links to the server's own packages; False when one is installed in a way
    that does not tell its files. Blocking.
    """
    os.mkdir(folder, 0o700)
    for name in names:
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            return False
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        if not tops:
            return False
        for top in sorted(tops):
            os.symlink(str(distribution.locate_file(top)), os.path.join(folder, top))
    return True


def pip_of(interpreter: Interpreter, python: str) -> list[str]:
    """The command that installs for a Python. Raises EnvironmentFailure when there is none."""
    if interpreter.has_pip:
        return [python, "-m", "pip"]
    try:
        metadata.distribution("pip")
    except metadata.PackageNotFoundError:
        raise EnvironmentFailure(
            "a worker's packages cannot be installed for it: neither it nor the server's Python "
            "has pip"
        ) from None
    return [sys.executable, "-m", "pip", "--python", python]


def install_arguments(names: Sequence[str], folder: str, wheels: str) -> list[str]:
    """What pip is told to put packages into a folder; from the folder `wheels` alone, if named."""
    offline = ["--no-index", "--find-links", wheels] if wheels else []
    # Python compiles what a worker imports, which is a small part of numpy.
    how = ("--no-deps", "--only-binary", ":all:", "--no-compile", "--target", folder)
    return [
        *("install", *how, *offline),
        *(f"{name}>={NEEDED[name]}" for name in names),
    ]


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()
