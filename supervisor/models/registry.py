"""The models that somebody has asked for, and which of them a name means."""

from __future__ import annotations

from collections.abc import Iterator

from ...ipc.errors import InvalidArgumentError, NotFoundError, StatusError
from .entry import Entry
from .identifier import ModelIdentifier, meant


class Registry:
    """Finds models by name. With namespacing several may have the same, and a name is not enough.

    The wording of what cannot be found is Triton's, which has other words with namespacing.
    """

    def __init__(self, namespacing: bool) -> None:
        self._namespacing = namespacing
        self._entries: dict[ModelIdentifier, Entry] = {}
        self._by_name: dict[str, list[Entry]] = {}

    def __repr__(self) -> str:
        return f"<Registry of {len(self._entries)} models>"

    def __iter__(self) -> Iterator[Entry]:
        """In the order of the index: by namespace, then by name."""
        return (entry for _identifier, entry in sorted(self._entries.items()))

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, identifier: ModelIdentifier) -> Entry | None:
        """A model that was asked for, None for any other."""
        return self._entries.get(identifier)

    def enter(self, identifier: ModelIdentifier) -> Entry:
        """A model that is asked for now, be it for the first time."""
        entry = self._entries.get(identifier)
        if entry is None:
            entry = self._entries[identifier] = Entry(identifier)
            self._by_name.setdefault(identifier.name, []).append(entry)
        return entry

    def named(self, name: str) -> list[Entry]:
        """All models that were asked for and have this name."""
        return self._by_name.get(name, [])

    def find(self, name: str, home: str = "") -> Entry:
        """The model that is meant by a name, by a client or by a model in the namespace `home`.

        Raises NotFoundError for none, and with namespacing InvalidArgumentError for one that nobody
        has asked for yet, and for a name that several models have that are wanted.
        """
        entries = self._by_name.get(name, [])
        if not self._namespacing:
            if not entries or entries[0].is_blank:
                raise NotFoundError(f"Request for unknown model: '{name}' is not found")
            return entries[0]
        if all(entry.is_blank for entry in entries):
            raise InvalidArgumentError(f"Request for unknown model: '{name}' is not found")
        wanted = {entry.identifier: entry for entry in entries if entry.is_wanted}
        if not wanted:
            raise NotFoundError(f"Identifier of model '{name}' is not found in global map")
        candidates = meant(list(wanted), home)
        if len(candidates) > 1:
            raise InvalidArgumentError(
                f"There are {len(candidates)} identifiers of model '{name}' in global map, model "
                f"namespace must be provided to resolve ambiguity."
            )
        return wanted[candidates[0]]

    def seek(self, name: str, home: str = "") -> Entry | None:
        """The model that is meant by a name, None when there is none or not one alone."""
        try:
            return self.find(name, home)
        except StatusError:
            return None
