"""The local copy of what was downloaded, by content; it outlives the server.

    <cache>/blobs/<sha256 of the content>          each content once, read-only
    <cache>/known/<sha256 of object, etag, size>   holds the sha256 of that object's content
    <cache>/servers/<random>/                      one running server's folders: hard links to blobs

Several servers may share it: files appear by rename, complete; a blob that vanishes before it is
linked is downloaded again. A server's folders are its own while it holds the lock in them; the
next start removes those of servers that are gone, and blobs that no server has used for
`KEEP_SECONDS`.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable

from ...ipc.errors import InternalError

log = logging.getLogger(__name__)

#: A month: what was not linked for so long is hardly needed again.
KEEP_SECONDS = 30 * 24 * 3600

_LOCK = ".lock"


class BlobCache:
    """The cache as one server uses it, with a folder for its models that ends with it."""

    def __init__(self, directory: str) -> None:
        self._directory = os.path.abspath(directory)
        self._lock = -1
        self.folder = ""

    def __repr__(self) -> str:
        return f"<BlobCache {self._directory}>"

    def open(self) -> None:
        """Make the folders and clear what is left over. Blocking.

        Raises InternalError when the disk does not allow it.
        """
        try:
            for name in ("blobs", "known", "servers"):
                os.makedirs(os.path.join(self._directory, name), mode=0o700, exist_ok=True)
            # Under a lock of all servers: a folder without a held lock is a dead server's.
            every = os.open(os.path.join(self._directory, _LOCK), os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(every, fcntl.LOCK_EX)
                self._clear()
                self.folder = tempfile.mkdtemp(dir=os.path.join(self._directory, "servers"))
                self._lock = os.open(
                    os.path.join(self.folder, _LOCK), os.O_CREAT | os.O_RDWR, 0o600
                )
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            finally:
                os.close(every)
        except OSError as error:
            raise InternalError(
                f"the model cache {self._directory} cannot be used: {error.strerror or error}; "
                "name another folder by --model-cache-directory"
            ) from None

    def close(self) -> None:
        """Remove this server's folder; the blobs stay. Blocking."""
        if self._lock >= 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def link(self, key: str, target: str) -> bool:
        """Put what is known under a key at a path; False when it is not here."""
        known = os.path.join(self._directory, "known", _digest(key))
        try:
            with open(known, encoding="ascii") as file:
                blob = os.path.join(self._directory, "blobs", file.read())
            self._place(blob, target)
        except FileNotFoundError:
            return False
        os.utime(blob)
        os.utime(known)
        return True

    def store(self, key: str, parts: Iterable[memoryview]) -> None:
        """Keep a content under a key; nothing is left when its parts fail to come."""
        digest = hashlib.sha256()
        path = self._write_new(parts, digest.update)
        os.chmod(path, 0o444)
        os.replace(path, os.path.join(self._directory, "blobs", digest.hexdigest()))
        note = self._write_new([memoryview(digest.hexdigest().encode())])
        os.replace(note, os.path.join(self._directory, "known", _digest(key)))

    def _write_new(
        self, parts: Iterable[memoryview], seen: Callable[[memoryview], object] = id
    ) -> str:
        # In this server's own folder, so that a crash leaves it where the next start removes it.
        number, path = tempfile.mkstemp(prefix=".new-", dir=self.folder)
        try:
            with open(number, "wb") as file:
                for part in parts:
                    seen(part)
                    file.write(part)
        except BaseException:
            os.unlink(path)
            raise
        return path

    def _place(self, blob: str, target: str) -> None:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        fresh = f"{target}.{os.getpid()}.new"
        os.link(blob, fresh)
        # rename() of two links to one file does nothing and leaves both.
        os.replace(fresh, target)
        if os.path.lexists(fresh):
            os.unlink(fresh)

    def _clear(self) -> None:
        servers = os.path.join(self._directory, "servers")
        for name in os.listdir(servers):
            folder = os.path.join(servers, name)
            if _is_left(os.path.join(folder, _LOCK)):
                shutil.rmtree(folder, ignore_errors=True)
        oldest = time.time() - KEEP_SECONDS
        for kind in ("blobs", "known"):
            with os.scandir(os.path.join(self._directory, kind)) as entries:
                for entry in entries:
                    status = entry.stat()
                    if status.st_nlink == 1 and status.st_mtime < oldest:
                        os.unlink(entry.path)


def _is_left(lock: str) -> bool:
    try:
        number = os.open(lock, os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(number)
    return True


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
