"""What is known of a Python: asked of itself, since it need not be like ours."""

from __future__ import annotations

import asyncio
import sysconfig
from collections.abc import Mapping, Sequence

import msgspec

from .failure import EnvironmentFailure
from .programs import ProgramError, Programs

#: Workers are written in this version of the language.
OLDEST = (3, 10)

#: So long it may take to say who it is (seconds): a slow disk, not a slow program.
_PATIENCE = 120.0

_MARK = "tritonpy-interpreter "

#: Understood by every Python 3; its arguments are names of distributions.
_QUESTION = """
import json, sys, sysconfig
packages = {}
try:
    from importlib import metadata, util
    for name in sys.argv[2:]:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    has_pip = util.find_spec("pip") is not None
except ImportError:
    has_pip = False
print(sys.argv[1] + json.dumps({
    "version": sys.version_info[:3],
    "abi": sysconfig.get_config_var("SOABI") or "",
    "executable": sys.executable,
    "packages": packages,
    "has_pip": has_pip,
}))
"""


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """A Python: its version, the kind of its compiled modules, and which packages it has."""

    version: tuple[int, int, int]
    abi: str
    executable: str
    packages: dict[str, str]
    has_pip: bool

    @property
    def is_like_ours(self) -> bool:
        """Whether it can import what was compiled for the server's own."""
        return bool(self.abi) and self.abi == sysconfig.get_config_var("SOABI")

    def check_version(self) -> None:
        """Raises EnvironmentFailure when it is too old for a worker."""
        if self.version[:2] < OLDEST:
            found, wanted = (".".join(map(str, each)) for each in (self.version, OLDEST))
            raise EnvironmentFailure(f"its Python is {found}, and a worker needs {wanted} or newer")


async def examine(
    programs: Programs, python: str, variables: Mapping[str, str], packages: Sequence[str]
) -> Interpreter:
    """Ask a Python who it is and in which versions it has these packages.

    Raises EnvironmentFailure when it does not answer.
    """
    lines: list[str] = []
    try:
        async with asyncio.timeout(_PATIENCE):
            # Not from a folder in which a module of the standard library's name may lie.
            await programs.run(
                [python, "-c", _QUESTION, _MARK, *packages], variables, "/", lines.append
            )
    except TimeoutError:
        raise EnvironmentFailure(
            f"its '{python}' did not say its version within {_PATIENCE:g} seconds"
        ) from None
    except ProgramError as error:
        raise EnvironmentFailure(f"its '{python}' cannot be run: {error}") from None
    for line in lines:
        if line.startswith(_MARK):
            return msgspec.json.decode(line.removeprefix(_MARK), type=Interpreter)
    raise EnvironmentFailure(f"its '{python}' is no Python: it did not say its version")
