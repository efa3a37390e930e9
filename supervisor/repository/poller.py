"""What was added, changed and removed in a repository since the last look.

A fingerprint is what one look at a model's folder saw; everything else compares fingerprints.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

#: Of every file below a model's folder, by its path relative to it: mtime in ns, and size.
#: An empty folder is there too, as (0, 0): an empty version folder is still a version.
Fingerprint = Mapping[str, tuple[int, int]]

#: Python writes these when a model's code is imported; a reload for them would never end.
_WRITTEN_BY_PYTHON = "__pycache__"


class Changes(NamedTuple):
    """Names of models, each list sorted."""

    added: list[str]
    changed: list[str]
    removed: list[str]

    def __bool__(self) -> bool:
        """Whether anything happened at all."""
        return bool(self.added or self.changed or self.removed)


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


def changed_files(old: Fingerprint, new: Fingerprint) -> set[str]:
    """The files that are not the same in two looks at one model."""
    return {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}


def diff(old: Mapping[str, Fingerprint], new: Mapping[str, Fingerprint]) -> Changes:
    """Compare two looks at a repository: model names to their fingerprints."""
    return Changes(
        added=sorted(new.keys() - old.keys()),
        changed=sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
        removed=sorted(old.keys() - new.keys()),
    )


def _file(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
