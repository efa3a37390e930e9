"""What a requirements file asks for, as far as it lies on this machine."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

_COMMENT = re.compile(r"(^|\s)#.*$")
_OPTION = re.compile(r"(--requirement|--constraint|--find-links|--editable|-r|-c|-f|-e)[\s=]*(.+)")

_INCLUDES = ("-r", "--requirement", "-c", "--constraint")
_EDITABLE = ("-e", "--editable")


def digest(path: str) -> str:
    """A hash of a requirements file, and of the local files that it names. Blocking.

    Those that are on an index are not looked at: a file that leaves versions open asks for what was
    the newest when it was installed first. Raises OSError when something cannot be read.
    """
    found = hashlib.sha256()
    for piece in _pieces(path, os.path.dirname(path), set()):
        found.update(hashlib.sha256(piece).digest())
    return found.hexdigest()


def _pieces(path: str, folder: str, seen: set[str]) -> Iterator[bytes]:
    """What a file holds, and what those hold that it names; pip runs in `folder`."""
    if path in seen:
        return
    seen.add(path)
    with open(path, "rb") as file:
        content = file.read()
    yield content
    text = content.decode(errors="surrogateescape")
    for option, value in _entries(text):
        beside = os.path.normpath(os.path.join(os.path.dirname(path), value))
        if option in _INCLUDES:
            if "://" not in value:
                yield from _pieces(beside, folder, seen)
        elif (local := _local(value, beside, os.path.join(folder, value))) is not None:
            yield from _contents(local)
            if option in _EDITABLE:
                yield os.fsencode(local)  # what is installed refers to it


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """The options that name files, with their values; other requirements with the option ""."""
    for whole in re.sub(r"\\\n", "", text).splitlines():
        line = _COMMENT.sub("", whole).strip()
        option = _OPTION.fullmatch(line)
        if option is not None:
            yield option[1], option[2].strip()
        elif line and not line.startswith("-"):
            requirement = line.split(";")[0].split(" --")[0].strip()
            yield "", requirement.partition(" @ ")[2].strip() or requirement


def _local(value: str, *paths: str) -> str | None:
    """The local file or folder that a value means, None when it means something else."""
    if value.startswith("file:"):
        return unquote(urlsplit(value).path)
    if "://" in value:
        return None
    without_extras = [re.sub(r"\[[^]]*\]$", "", path) for path in paths]
    return next((path for path in without_extras if os.path.exists(path)), None)


def _contents(path: str) -> Iterator[bytes]:
    """What stands for a file, or for all that is in a folder."""
    if not os.path.isdir(path):
        yield _hash(path)
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(each for each in folders if each not in ("__pycache__", ".git"))
        for name in sorted(files):
            inner = os.path.join(folder, name)
            yield os.fsencode(os.path.relpath(inner, path))
            if os.path.isfile(inner):
                yield _hash(inner)


def _hash(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
