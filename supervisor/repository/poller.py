"""What a look at a model's folder saw: two looks that are equal mean that nothing has changed."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: Of every file below a model's folder, by its path relative to it: mtime in ns, and size.
#: An empty folder is there too, as (0, 0): an empty version folder is still a version.
Fingerprint = Mapping[str, tuple[int, int]]

#: Python writes these when a model's code is imported; a reload for them would never end.
_WRITTEN_BY_PYTHON = "__pycache__"


def fingerprint(directory: str) -> Fingerprint:
    """Look at a model's folder, links followed. Blocking.

    What vanishes while it is looked at, or cannot be read, counts as absent; a folder that is gone
    altogether has an empty fingerprint.
    """
    seen: dict[str, tuple[int, int]] = {}
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        folder, parents = waiting.pop()
        try:
            status = os.stat(os.path.join(directory, folder))
            identity = (status.st_dev, status.st_ino)
            if identity in parents:  # a link that leads back up
                continue
            names = os.listdir(os.path.join(directory, folder))
        except OSError:
            continue
        if folder and not names:
            seen[folder] = (0, 0)
        for name in names:
            path = os.path.join(folder, name)
            if name == _WRITTEN_BY_PYTHON:
                continue
            if os.path.isdir(os.path.join(directory, path)):
                waiting.append((path, parents | {identity}))
            elif (found := _file(os.path.join(directory, path))) is not None:
                seen[path] = found
    return seen


def same_version(before: Fingerprint, after: Fingerprint, directory: str, version: int) -> bool:
    """Whether two looks saw the same files for a version: its own and those for all versions.

    The paths begin with the model's folder. Configuration files do not count: they are read and
    compared by what they say.
    """
    return of_version(before, directory, version) == of_version(after, directory, version)


def of_version(seen: Fingerprint, directory: str, version: int) -> Fingerprint:
    """Of the files of a model those that a version may read: its own and those for all versions.

    The paths begin with the model's folder. Configuration files are not among them.
    """
    found: dict[str, tuple[int, int]] = {}
    for path, state in seen.items():
        first, *rest = os.path.relpath(path, directory).split(os.sep)
        is_config = (first == "config.pbtxt" and not rest) or first == "configs"
        is_other_version = first.isdecimal() and first != str(version)
        if not is_config and not is_other_version:
            found[path] = state
    return found


def _file(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
