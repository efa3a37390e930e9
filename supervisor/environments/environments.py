"""From the place that a model names to a Python that its workers are started in.

    folder        ──────────────────────────────────────┐
    archive       ── unpacked once into the cache ──────┤── examined ── what it lacks of a worker's
    requirements  ── installed once into the cache ─────┘               packages is put beside it

Everything slow happens in threads or in programs of their own.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from ...ipc.errors import InternalError
from ..settings import EnvironmentSettings
from ..workers.process import Surroundings
from . import archive, libraries, requirements
from .activation import activated
from .cache import EnvironmentCache
from .failure import EnvironmentFailure
from .interpreter import Interpreter, examine
from .place import Kind, Place
from .programs import ProgramError, Programs
from .pythons import find_python
from .store import Lease, default_directory
from .threads import Threads
from .view import make_view

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the workers of a model version run. Held until it is released."""

    #: The program that runs a worker, before the arguments that each worker is given.
    command: tuple[str, ...]
    tree: str
    is_conda: bool
    leases: tuple[Lease, ...]

    def variables(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """What a process in it has of the variables that it would have elsewhere."""
        return activated(inherited, self.tree, is_conda=self.is_conda)

    def release(self) -> None:
        """No worker will be started in it any more."""
        for lease in self.leases:
            lease.release()


class Environments:
    """The environments of a server's models. Lives on the event loop."""

    def __init__(self, settings: EnvironmentSettings, surroundings: Surroundings) -> None:
        self._wheels = settings.worker_wheels
        self._programs = Programs(surroundings)
        self._threads = Threads()
        directory = settings.cache_directory or default_directory()
        self._cache = EnvironmentCache(directory, self._threads)
        self._scratch = os.path.join(surroundings.runtime_directory, "environments")
        #: Held while something is made in the scratch folder.
        self._scratching = asyncio.Lock()
        self._view = ""
        #: Folders with links to the server's own packages, by what is in them.
        self._links: dict[tuple[str, ...], str] = {}
        #: What archives hold, by what the file system says of them.
        self._digests: dict[tuple[int, ...], str] = {}

    def __repr__(self) -> str:
        return f"<Environments in {self._cache!r}>"

    async def prepare(self, place: Place) -> Environment:
        """Have an environment ready. Raises InternalError that says why it cannot be."""
        leases: list[Lease] = []
        try:
            await self._open()
            tree = place.path
            if place.kind is not Kind.FOLDER:
                leases.append(await self._made(place))
                tree = leases[0].tree
            environment = await self._environment(tree, leases)
        except BaseException as error:
            for lease in leases:
                lease.release()
            if isinstance(error, EnvironmentFailure | OSError):
                raise InternalError(
                    f"the execution environment '{place.path}' of model '{place.model}' cannot be "
                    f"used: {error}"
                ) from None
            raise
        log.info("model '%s' runs in the execution environment '%s'", place.model, place.path)
        return environment

    async def close(self) -> None:
        """Remove what only this server needs; what was made stays in the cache.

        A second time is harmless.
        """
        if self._view:
            self._view = ""
            await self._threads.run(
                functools.partial(shutil.rmtree, self._scratch, ignore_errors=True)
            )
        self._threads.close()

    async def _open(self) -> None:
        """Have the worker's code ready, when the first model asks."""
        async with self._scratching:
            if not self._view:
                self._view = await self._threads.run(functools.partial(make_view, self._scratch))

    # --- what is made -----------------------------------------------------------------------------

    async def _made(self, place: Place) -> Lease:
        """The environment that is made from an archive or from requirements."""
        path = place.path
        if place.kind is Kind.ARCHIVE:
            held = await self._threads.run(functools.partial(self._digest, path))
            unpack = functools.partial(self._unpack, path, held)
            return await self._cache.obtain(f"archive-{held}", path, unpack)
        base = await examine(self._programs, find_python(place.python), os.environ, ())
        base.check_version()
        asked = await self._threads.run(functools.partial(requirements.digest, path))
        key = _short(asked, base.executable, str(base.version), base.abi)
        install = functools.partial(self._install, path, asked, base.executable)
        return await self._cache.obtain(f"requirements-{key}", path, install)

    async def _unpack(self, path: str, held: str, tree: str) -> None:
        log.info("unpacking the execution environment '%s'", path)
        stop = threading.Event()
        await self._threads.run(functools.partial(archive.extract, path, tree, stop), stop=stop)
        if await self._threads.run(functools.partial(self._digest, path)) != held:
            raise EnvironmentFailure("it was replaced while it was unpacked; load the model again")
        log.info("unpacked the execution environment '%s' into '%s'", path, tree)

    async def _install(self, path: str, asked: str, python: str, tree: str) -> None:
        log.info("installing the execution environment '%s' for '%s'", path, python)
        say = functools.partial(_say, f"execution environment '{path}'")
        folder, variables = os.path.dirname(path), _for_pip()
        pip = [os.path.join(tree, "bin", "python"), "-m", "pip", "install", "--requirement", path]
        try:
            await self._programs.run([python, "-m", "venv", tree], variables, folder, say)
            await self._programs.run(pip, variables, folder, say)
        except ProgramError as error:
            raise EnvironmentFailure(f"it cannot be installed: {error}") from None
        if await self._threads.run(functools.partial(requirements.digest, path)) != asked:
            raise EnvironmentFailure("it was changed while it was installed; load the model again")
        log.info("installed the execution environment '%s' into '%s'", path, tree)

    def _digest(self, path: str) -> str:
        """A hash of what a file holds, remembered while the file stays the same. Blocking."""
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            times = found.st_mtime_ns, found.st_ctime_ns
            known = (found.st_dev, found.st_ino, found.st_size, *times)
            if known not in self._digests:
                self._digests[known] = hashlib.file_digest(file, "sha256").hexdigest()[:32]
            return self._digests[known]

    # --- what is used -----------------------------------------------------------------------------

    async def _environment(self, tree: str, leases: list[Lease]) -> Environment:
        """The environment in a folder. What else it needs joins the leases."""
        is_conda, python = await self._threads.run(functools.partial(_look, tree))
        variables = activated(os.environ, tree, is_conda=is_conda)
        interpreter = await examine(self._programs, python, variables, tuple(libraries.NEEDED))
        interpreter.check_version()
        missing = libraries.missing(interpreter)
        folder = ""
        if missing and interpreter.is_like_ours:
            folder = await self._own_libraries(missing)
        if missing and not folder:
            lease = await self._foreign_libraries(missing, interpreter, python)
            leases.append(lease)
            folder = lease.tree
        return Environment((python, self._view, folder), tree, is_conda, tuple(leases))

    async def _own_libraries(self, missing: tuple[str, ...]) -> str:
        """A folder with the server's own packages, "" when they cannot be told from others."""
        async with self._scratching:
            if missing not in self._links:
                folder = os.path.join(self._scratch, "-".join(missing))
                linked = await self._threads.run(
                    functools.partial(libraries.link_own, missing, folder)
                )
                self._links[missing] = folder if linked else ""
            return self._links[missing]

    async def _foreign_libraries(
        self, missing: tuple[str, ...], interpreter: Interpreter, python: str
    ) -> Lease:
        """A folder with a worker's packages for another Python than the server's."""
        version = ".".join(map(str, interpreter.version[:2]))
        source = f"{', '.join(missing)} for Python {version}"
        pip = libraries.pip_of(interpreter, python)

        async def install(tree: str) -> None:
            log.info("installing what a worker needs: %s", source)
            arguments = libraries.install_arguments(missing, tree, self._wheels)
            say = functools.partial(_say, source)
            try:
                await self._programs.run([*pip, *arguments], _for_pip(), "/", say)
            except ProgramError as error:
                raise EnvironmentFailure(
                    f"what a worker needs there ({source}) cannot be installed: {error}; where no "
                    "index can be reached, --worker-wheels names a folder that holds the wheels"
                ) from None

        wanted = (f"{name}>={libraries.NEEDED[name]}" for name in missing)
        key = f"libraries-{_short(interpreter.abi, *wanted)}"
        return await self._cache.obtain(key, source, install)


def _look(tree: str) -> tuple[bool, str]:
    """Whether a folder is an environment of conda's, and its Python. Blocking.

    Raises InternalError, in Triton's words, when it is no environment.
    """
    activate = os.path.join(tree, "bin", "activate")
    if not os.path.exists(activate):
        raise InternalError(
            f"Path {activate} does not exist. The Python environment should contain an 'activate' "
            "script."
        )
    for name in ("python", "python3"):
        python = os.path.join(tree, "bin", name)
        if os.path.exists(python):
            return os.path.isdir(os.path.join(tree, "conda-meta")), python
    raise InternalError(
        f"Path {os.path.join(tree, 'bin', 'python')} does not exist. The Python environment should "
        "contain the interpreter that its models run in."
    )


def _say(what: str, line: str) -> None:
    """Log what a program says of the environment that it makes."""
    log.info("%s: %s", what, line)


def _for_pip() -> dict[str, str]:
    """The server's variables, so that pip finds its index, with what would lead it elsewhere."""
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONHOME"},
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_PROGRESS_BAR": "off",
        "PIP_USER": "0",
        "PYTHONUNBUFFERED": "1",
    }


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:32]
