"""Pure: which calls between models can never be answered.

An execution that waits for a call does not end before the call is answered; a call is answered when
it has been executed, for which others may have to end first. Where all of those wait, directly or
by other calls, for the call itself, nothing will ever move: it is stuck.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

HolderT = TypeVar("HolderT", bound=Hashable)

#: Whether something that a call needs is never to be had while these do not end. With more of them
#: it may become true, and never false.
Need = Callable[[Set[HolderT]], bool]


@dataclass(frozen=True, slots=True)
class Waiting(Generic[HolderT]):
    """An open call: what does not end before it is answered, and all that it needs for that."""

    holders: Collection[HolderT]
    needs: Sequence[Need[HolderT]]


def stuck(calls: Sequence[Waiting[HolderT]]) -> list[int]:
    """The indices of the calls that can never be answered.

    Assumes at first that none can, and lets go of those that can even so.
    """
    left = list(range(len(calls)))
    while True:
        blocked = {holder for index in left for holder in calls[index].holders}
        still = [index for index in left if any(need(blocked) for need in calls[index].needs)]
        if len(still) == len(left):
            return left
        left = still
