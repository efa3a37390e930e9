"""Restricted groups of calls: Triton's shared secrets, by which a call needs a header to be heard.

A restriction is written `<group>[,<group>...]:<key>=<value>`; every group of calls has at most one.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args

from ..ipc.errors import InvalidArgumentError

#: The groups of calls, under Triton's names for them.
Category = Literal[
    "health",
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
]

CATEGORIES: tuple[str, ...] = get_args(Category)


class Secret(NamedTuple):
    """The header that calls of a group must carry, as it was spelt, and its value."""

    header: str
    value: str

    def is_in(self, headers: Iterable[tuple[str, str]]) -> bool:
        """Whether the first header of this name has the value; names ignore case."""
        wanted = self.header.lower()
        for name, value in headers:
            if name.lower() == wanted:
                return hmac.compare_digest(_bytes(value), _bytes(self.value))
        return False


Restrictions = Mapping[str, Secret]


def parse(texts: Iterable[str], noun: Literal["api", "protocol"], prefix: str = "") -> Restrictions:
    """The secret of each restricted group; `prefix` is put before the keys to name the headers.

    Raises InvalidArgumentError when a group is unknown, or stands in more than one place.
    """
    restrictions: dict[str, Secret] = {}
    for text in texts:
        groups, _, secret = text.partition(":")
        key, _, value = secret.partition("=")
        for group in groups.split(","):
            if group not in CATEGORIES:
                raise InvalidArgumentError(
                    f"unknown restricted {noun} '{group}': the groups are {', '.join(CATEGORIES)}"
                )
            if group in restrictions:
                raise InvalidArgumentError(
                    f"restricted {noun} '{group}' can not be specified in multiple config groups"
                )
            restrictions[group] = Secret(prefix + key, value)
    return restrictions


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
