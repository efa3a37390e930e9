"""What tells models apart: their name and, with namespacing, the repository that they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class ModelIdentifier(NamedTuple):
    """A model, told apart from all others of the server.

    `namespace` is the repository as the command line names it. It is "" without namespacing, and
    for a model whose files came with a load request.
    """

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}::{self.name}" if self.namespace else self.name


def meant(candidates: Sequence[ModelIdentifier], home: str) -> Sequence[ModelIdentifier]:
    """Those of the models of one name that whoever lives in the namespace `home` can mean.

    That is the model next to it, if there is one; else all of them, of which only one alone is
    clear. A client lives nowhere: "".
    """
    at_home = [one for one in candidates if home and one.namespace == home]
    return at_home or candidates
