"""Pure: which models need which others, in what order they are loaded, and who goes with whom.

An ensemble needs the models of its steps, which may be ensembles themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from ...ipc.errors import InvalidArgumentError
from .identifier import ModelIdentifier

#: The models of each ensemble's steps; what is not there is no ensemble.
Needs = Mapping[ModelIdentifier, Collection[ModelIdentifier]]


def load_order(
    model: ModelIdentifier, needs: Callable[[ModelIdentifier], Collection[ModelIdentifier]]
) -> list[ModelIdentifier]:
    """Everything that a model needs, each after what it needs itself; without the model.

    Raises InvalidArgumentError, in Triton's words, when an ensemble is a part of itself.
    """
    order: list[ModelIdentifier] = []
    done: set[ModelIdentifier] = set()
    path: list[ModelIdentifier] = []

    def visit(one: ModelIdentifier) -> None:
        if one in path:
            raise InvalidArgumentError(
                f"circular dependency between ensembles: {one} -> ... -> {path[-1]} -> {one}"
            )
        if one in done:
            return
        path.append(one)
        for needed in needs(one):
            visit(needed)
        path.pop()
        done.add(one)
        order.append(one)

    visit(model)
    return order[:-1]


def dependents(model: ModelIdentifier, needs: Needs) -> list[ModelIdentifier]:
    """All ensembles that need a model, be it through others; each after what it needs itself.

    There are no circles: what has one is never served.
    """
    affected: set[ModelIdentifier] = set()
    found = {model}
    while found:
        found = {one for one, needed in needs.items() if found.intersection(needed)} - affected
        affected |= found
    affected.discard(model)
    order: list[ModelIdentifier] = []
    while affected:
        free = sorted(one for one in affected if not affected.intersection(needs[one]))
        order += free or sorted(affected)
        affected.difference_update(free or affected.copy())
    return order


def no_longer_needed(
    model: ModelIdentifier,
    needs: Needs,
    serving: Iterable[ModelIdentifier],
    explicit: Collection[ModelIdentifier],
) -> list[ModelIdentifier]:
    """What is unloaded with an ensemble on request: models that it needs, that nobody has asked to
    load by name, and that no other ensemble which serves needs. In the order of unloading.
    """
    left = set(serving) - {model}
    order: list[ModelIdentifier] = []
    looked_at = [model]
    while looked_at:
        for needed in needs.get(looked_at.pop(0), ()):
            others = any(needed in needs.get(one, ()) for one in left)
            if needed in left and needed not in explicit and not others:
                left.discard(needed)
                order.append(needed)
                looked_at.append(needed)
    return order
