"""Unpacks an environment, as conda-pack wrote it, and nothing beside it.

The rules are those of tarfile's data filter, which not every Python that we run on has: names stay
inside, links lead to places inside, there are no devices, and nobody gets more rights than the
owner. Two things are stricter: nothing is written through a link, and there is a bound on what
comes out of the compressed file.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import posixpath
import shutil
import tarfile
import threading
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol, cast

from .failure import EnvironmentFailure

#: An environment is 3 to 5 times the size of its archive. One that claims more than this many times
#: is refused, unless it is small.
MOST_TIMES_LARGER = 50
ALWAYS_ALLOWED_BYTES = 1 << 30

#: More than any environment has; each costs an inode.
MOST_MEMBERS = 1_000_000

#: The longest header that is read at once: names and the like.
_MOST_HEADER_BYTES = 1 << 20

_COPY_BYTES = 1 << 20

_OPENERS: dict[bytes, Callable[[BinaryIO], object]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}

_ZSTANDARD = b"\x28\xb5\x2f\xfd"


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class BoundedReader:
    """What a decompressor gives, read forward, up to a limit in bytes.

    Raises EnvironmentFailure beyond the limit, and when `stop` is set.
    """

    def __init__(self, source: _Readable, limit: int, stop: threading.Event) -> None:
        self._source = source
        self._limit = limit
        self._stop = stop
        self._position = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        if size < 0 or size > max(_COPY_BYTES, _MOST_HEADER_BYTES):
            raise EnvironmentFailure(f"one of its headers claims to have {size} bytes")
        if self._stop.is_set():
            raise EnvironmentFailure("the server does not need it any more")
        data = self._source.read(size)
        self._position += len(data)
        if self._position > self._limit:
            raise EnvironmentFailure(
                f"unpacked it has more than {self._limit} bytes, {MOST_TIMES_LARGER} times its "
                "size as a file: no environment is packed that well"
            )
        return data

    def tell(self) -> int:
        """How many bytes were read."""
        return self._position

    def seek(self, position: int) -> int:
        """Skip to a later position."""
        if position < self._position:
            raise EnvironmentFailure("its headers contradict each other")
        while self._position < position:
            if not self.read(min(position - self._position, _COPY_BYTES)):
                break
        return self._position


def extract(path: str, target: str, stop: threading.Event) -> None:
    """Unpack an archive into a folder that is empty and nobody else's. Blocking.

    Raises EnvironmentFailure for what is no archive, or not a proper one, and OSError when the disk
    refuses; what was unpacked until then stays.
    """
    with open(path, "rb") as file:
        magic = file.read(6)
        file.seek(0)
        limit = max(os.fstat(file.fileno()).st_size * MOST_TIMES_LARGER, ALWAYS_ALLOWED_BYTES)
        if magic.startswith(_ZSTANDARD):
            raise EnvironmentFailure(
                "it is compressed by zstd, which Python cannot read everywhere; pack it as .tar.gz"
            )
        source: object = file
        for start, opener in _OPENERS.items():
            if magic.startswith(start):
                source = opener(file)
        reader = BoundedReader(cast(_Readable, source), limit, stop)
        try:
            with tarfile.open(fileobj=cast(BinaryIO, reader), mode="r:") as archive:
                _Unpacking(archive, os.path.realpath(target)).run()
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise EnvironmentFailure(f"it is no tar archive, or a broken one: {error}") from None
        except OSError as error:
            if error.errno is None:  # a decompressor's
                raise EnvironmentFailure(f"it is broken: {error}") from None
            raise


class _Unpacking:
    """One archive on its way into a folder."""

    def __init__(self, archive: tarfile.TarFile, root: str) -> None:
        self._archive = archive
        self._root = root
        #: What has been written, by the names of the archive.
        self._folders: set[str] = set()
        self._files: set[str] = set()
        self._links: set[str] = set()

    def run(self) -> None:
        count = 0
        while (member := self._archive.next()) is not None:
            self._archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            count += 1
            if count > MOST_MEMBERS:
                raise EnvironmentFailure(f"it holds more than {MOST_MEMBERS} files")
            name = _inner_name(member.name)
            if name:
                self._write(member, name)
            elif not member.isdir():
                raise EnvironmentFailure(f"it holds '{member.name}', which is no name of a file")
        for name in self._links:
            self._check_link(name)

    def _write(self, member: tarfile.TarInfo, name: str) -> None:
        path = self._make_room(name, member.isdir())
        if member.isdir():
            if name not in self._folders:
                os.mkdir(path, 0o755)
                self._folders.add(name)
        elif member.issym():
            _refuse_absolute(member)
            os.symlink(member.linkname, path)
            self._links.add(name)
        elif member.islnk():
            _refuse_absolute(member)
            target = _inner_name(member.linkname)
            if target not in self._files:
                raise EnvironmentFailure(
                    f"'{member.name}' is a link to '{member.linkname}', which is no file that came "
                    "before it"
                )
            os.link(os.path.join(self._root, target), path)
            self._files.add(name)
        elif member.isreg():
            self._write_file(member, path)
            self._files.add(name)
        else:
            raise EnvironmentFailure(f"'{member.name}' is a device or something as special")

    def _make_room(self, name: str, is_folder: bool) -> str:
        """Make the folders above a member, and remove what it replaces; returns its path."""
        parts = name.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if above in self._folders:
                continue
            if above in self._links or above in self._files:
                raise EnvironmentFailure(f"'{name}' lies below '{above}', which is no folder")
            os.mkdir(os.path.join(self._root, above), 0o755)
            self._folders.add(above)
        path = os.path.join(self._root, name)
        if name in self._folders and not is_folder:
            raise EnvironmentFailure(f"'{name}' is a folder and something else as well")
        if name in self._files or name in self._links:
            if is_folder:
                raise EnvironmentFailure(f"'{name}' is a folder and something else as well")
            os.unlink(path)
            self._files.discard(name)
            self._links.discard(name)
        return path

    def _write_file(self, member: tarfile.TarInfo, path: str) -> None:
        source = self._archive.extractfile(member)
        assert source is not None
        mode = 0o755 if member.mode & 0o100 else 0o644
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with source, open(descriptor, "wb") as file:
            shutil.copyfileobj(source, file, _COPY_BYTES)
        # Compiled modules are known by the times of their sources.
        try:
            os.utime(path, (member.mtime, member.mtime))
        except (OverflowError, ValueError):
            pass  # no time at all

    def _check_link(self, name: str) -> None:
        path = os.path.join(self._root, name)
        real = os.path.realpath(path)
        if os.path.commonpath((real, self._root)) != self._root:
            raise _leads_out(name, os.readlink(path))


def _refuse_absolute(member: tarfile.TarInfo) -> None:
    if member.linkname.startswith("/"):
        raise _leads_out(member.name, member.linkname)


def _leads_out(name: str, target: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"the link '{name}' leads out of it, to '{target}'; an environment that is not packed by "
        "conda-pack can be given as a folder"
    )


def _inner_name(name: str) -> str:
    """A member's name without what means nothing, "" for the root itself.

    Raises EnvironmentFailure when it leads out.
    """
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise EnvironmentFailure(f"it holds '{name}', which leads out of its folder")
    normal = posixpath.normpath(name)
    return "" if normal == "." else normal
