"""What tells the cached answers of one load of a model version from those of another."""

from __future__ import annotations

import hashlib
import os

from ... import __version__
from ..repository import poller

_READ_BYTES = 1024 * 1024


def of_this_load() -> bytes:
    """A generation that no other load has: after a reload nothing is left of the answers before."""
    return os.urandom(16)


def of_contents(directory: str, version: int, config: str) -> bytes:
    """The generation of every load of the same files with the same configuration, on any server.

    `directory` is the model's folder, `config` the complete configuration. Blocking: reads all the
    files. Raises OSError.
    """
    hash = hashlib.blake2b(digest_size=16)
    for part in (__version__, config):
        hash.update(b"%d:%b" % (len(part.encode()), part.encode()))
    seen = {os.path.join(directory, path): at for path, at in poller.fingerprint(directory).items()}
    for path in sorted(poller.of_version(seen, directory, version)):
        if os.path.isdir(path):
            continue  # an empty folder
        name = os.fsencode(os.path.relpath(path, directory))
        hash.update(b"%d:%b%d:" % (len(name), name, os.path.getsize(path)))
        with open(path, "rb") as file:
            while data := file.read(_READ_BYTES):
                hash.update(data)
    return hash.digest()
