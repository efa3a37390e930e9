"""API keys: a file says which keys there are and which groups of calls each of them opens.

The file is TOML: a table `[[key]]` for each key, with its `name`, its `scopes`, and either the
`sha256` of the key in hexadecimal digits or the `key` itself; and, if something is open to callers
without a key, a table `[anonymous]` with its `scopes`. A scope is a group of calls, `metrics`, or
`all`; with `:read` behind it, it opens only the calls of the group that change nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
import tomllib

import msgspec

from ..ipc.errors import InvalidArgumentError
from .restricted import CATEGORIES

_SCOPES = (*CATEGORIES, "metrics", "all")
_READ = ":read"
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{64}")
#: What can stand behind `Bearer` in a header.
_TOKEN = re.compile(r"[\x21-\x7e]+")


class _Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    scopes: list[str]
    sha256: str = ""
    key: str = ""


class _Anonymous(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scopes: list[str] = []


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: list[_Key] = []
    anonymous: _Anonymous = _Anonymous()


class Grant:
    """What one caller may do: the name that the file gives him, and his scopes."""

    __slots__ = ("_scopes", "name")

    def __init__(self, name: str, scopes: frozenset[str]) -> None:
        self.name = name
        self._scopes = scopes

    def __repr__(self) -> str:
        return f"<Grant {self.name!r}: {', '.join(sorted(self._scopes)) or 'nothing'}>"

    def opens(self, category: str, changes: bool) -> bool:
        """Whether a call of this group is allowed, one that changes something or one that reads."""
        if not self._scopes.isdisjoint((category, "all")):
            return True
        return not changes and not self._scopes.isdisjoint((category + _READ, "all" + _READ))


class ApiKeys:
    """The keys of a file, as digests; the keys themselves are not kept."""

    def __init__(self, grants: list[tuple[bytes, Grant]], anonymous: Grant) -> None:
        self._grants = grants
        self.anonymous = anonymous

    def __repr__(self) -> str:
        return f"<ApiKeys of {len(self._grants)} callers>"

    def find(self, key: str) -> Grant | None:
        """The grant of a key, None for one that the file does not know.

        How long it takes tells nothing about the keys of the file.
        """
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found: Grant | None = None
        for other, grant in self._grants:
            if hmac.compare_digest(digest, other):
                found = grant
        return found


def read(path: str) -> ApiKeys:
    """Read the file of keys. Raises InvalidArgumentError that names the file and what is wrong."""
    try:
        with open(path, "rb") as file:
            everybody_reads = bool(os.fstat(file.fileno()).st_mode & stat.S_IROTH)
            content = file.read()
    except OSError as error:
        raise InvalidArgumentError(
            f"--api-keys-file: cannot read '{path}': {error.strerror or error}"
        ) from error
    try:
        parsed = msgspec.convert(tomllib.loads(content.decode()), _File)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        # What the parsers say holds places and types, never a value.
        raise InvalidArgumentError(f"--api-keys-file: '{path}': {error}") from None
    if everybody_reads and any(entry.key for entry in parsed.key):
        raise InvalidArgumentError(
            f"--api-keys-file: '{path}' holds keys as they are, and everybody can read it: "
            f"run chmod o-r '{path}', or store the keys' sha256 instead"
        )
    grants: list[tuple[bytes, Grant]] = []
    for entry in parsed.key:
        where = f"--api-keys-file: '{path}', key '{entry.name}'"
        grants.append((_digest(entry, where), Grant(entry.name, _scopes(entry.scopes, where))))
    digests = [digest for digest, _ in grants]
    for index, (digest, grant) in enumerate(grants):
        if digest in digests[:index]:
            first = grants[digests.index(digest)][1].name
            raise InvalidArgumentError(
                f"--api-keys-file: '{path}': '{first}' and '{grant.name}' have the same key"
            )
    where = f"--api-keys-file: '{path}', anonymous"
    return ApiKeys(grants, Grant("anonymous", _scopes(parsed.anonymous.scopes, where)))


def _digest(entry: _Key, where: str) -> bytes:
    if bool(entry.sha256) == bool(entry.key):
        raise InvalidArgumentError(f"{where}: give either sha256 or key")
    if entry.sha256:
        if _HEXADECIMAL.fullmatch(entry.sha256) is None:
            raise InvalidArgumentError(f"{where}: sha256 must be 64 hexadecimal digits")
        return bytes.fromhex(entry.sha256)
    if _TOKEN.fullmatch(entry.key) is None:
        raise InvalidArgumentError(f"{where}: key must be printable ASCII without spaces")
    return hashlib.sha256(entry.key.encode()).digest()


def _scopes(scopes: list[str], where: str) -> frozenset[str]:
    for scope in scopes:
        if scope.removesuffix(_READ) not in _SCOPES:
            raise InvalidArgumentError(
                f"{where}: unknown scope '{scope}': the scopes are {', '.join(_SCOPES)}, "
                f"each also with {_READ} behind it"
            )
    return frozenset(scopes)
