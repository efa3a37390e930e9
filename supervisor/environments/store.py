"""The cache of environments that were made, which outlives the server.

    <cache>/<key>.lock         held shared by who uses the environment, alone by who makes it
    <cache>/<key>/tree/        the environment
    <cache>/<key>/complete     appears when the tree is whole; says what it was made from

Several servers may share it. What is not complete is never used: who finds it, with the lock, makes
it anew. What no server has used for `KEEP_SECONDS` goes when a server starts to use the cache.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import time

from .failure import EnvironmentFailure

log = logging.getLogger(__name__)

#: A month: what was not used for so long is hardly needed again.
KEEP_SECONDS = 30 * 24 * 3600

_LOCK = ".lock"
_TREE = "tree"
_COMPLETE = "complete"


class Lease:
    """A complete environment that is in use, and stays until it is released."""

    def __init__(self, tree: str, descriptor: int) -> None:
        self.tree = tree
        self._descriptor = descriptor

    def __repr__(self) -> str:
        return f"<Lease of {self.tree}>"

    def release(self) -> None:
        """It is not needed any more; a second time is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Construction:
    """An environment that is being made; nobody else can see or make it meanwhile."""

    def __init__(self, directory: str, descriptor: int) -> None:
        self._directory = directory
        self._descriptor = descriptor
        self.tree = os.path.join(directory, _TREE)

    def __repr__(self) -> str:
        return f"<Construction of {self.tree}>"

    def begin(self) -> None:
        """Clear what somebody has left unfinished, and make the folder of the tree. Blocking."""
        shutil.rmtree(self._directory, ignore_errors=True)
        os.mkdir(self._directory, 0o700)
        os.mkdir(self.tree, 0o700)

    def finish(self, source: str) -> None:
        """The tree is whole: from now on anybody may use it. Blocking."""
        complete = os.path.join(self._directory, _COMPLETE)
        with open(f"{complete}.part", "w", encoding="utf-8") as file:
            file.write(source + "\n")
        os.rename(f"{complete}.part", complete)
        self.close()

    def abandon(self) -> None:
        """It cannot be made: leave nothing. Blocking."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let others in; a second time is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class EnvironmentStore:
    """The cache as one server uses it. Everything here blocks."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)

    def __repr__(self) -> str:
        return f"<EnvironmentStore {self.directory}>"

    def open(self) -> None:
        """Make the folder, and clear what has not been used for long or is not complete.

        Raises EnvironmentFailure when the folder cannot be had, or others may write to it: they
        could have models run what they like.
        """
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            found = os.stat(self.directory)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from None
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise self._unusable(
                f"it belongs to user {found.st_uid} with the permissions "
                f"{stat.S_IMODE(found.st_mode):o}, and must be ours and writable by nobody else"
            )
        self._clear()

    def share(self, key: str) -> Lease | None:
        """Use an environment; None when it is not complete, or is being made or removed."""
        descriptor = self._lock(key, fcntl.LOCK_SH)
        if descriptor < 0:
            return None
        if not self._is_complete(key):
            os.close(descriptor)
            return None
        os.utime(descriptor)  # what it was used last
        return Lease(os.path.join(self.directory, key, _TREE), descriptor)

    def construct(self, key: str) -> Construction | None:
        """Make an environment; None when somebody else does, or has done so."""
        descriptor = self._lock(key, fcntl.LOCK_EX)
        if descriptor < 0:
            return None
        if self._is_complete(key):
            os.close(descriptor)
            return None
        return Construction(os.path.join(self.directory, key), descriptor)

    def _is_complete(self, key: str) -> bool:
        return os.path.exists(os.path.join(self.directory, key, _COMPLETE))

    def _lock(self, key: str, how: int) -> int:
        """A descriptor that holds the lock of a key, negative when somebody else has it."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)  # somebody may have cleared it
        path = os.path.join(self.directory, key + _LOCK)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            # Whoever cleared the cache meanwhile has taken the file away that is locked now.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return -1

    def _clear(self) -> None:
        oldest = time.time() - KEEP_SECONDS
        for entry in os.listdir(self.directory):
            if not entry.endswith(_LOCK):
                continue
            key = entry.removesuffix(_LOCK)
            descriptor = self._lock(key, fcntl.LOCK_EX)
            if descriptor < 0:
                continue  # in use
            if os.fstat(descriptor).st_mtime < oldest or not self._is_complete(key):
                directory = os.path.join(self.directory, key)
                if os.path.exists(directory):
                    log.info("removing '%s' from the cache of environments", directory)
                    shutil.rmtree(directory, ignore_errors=True)
                os.unlink(os.path.join(self.directory, entry))
            os.close(descriptor)

    def _unusable(self, reason: str) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"the cache of environments '{self.directory}' cannot be used: {reason}; name another "
            "folder by --environment-cache-directory"
        )


def default_directory() -> str:
    """Where the user's caches are."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(caches, "tritonpy-environments")
