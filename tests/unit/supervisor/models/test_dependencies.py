"""Which models go with which: loaded before, renewed after, unloaded together."""

from __future__ import annotations

import pytest

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.supervisor.models.dependencies import dependents, load_order, no_longer_needed
from tritonpy.supervisor.models.identifier import ModelIdentifier


def named(names: str) -> list[ModelIdentifier]:
    """Models without a namespace."""
    return [ModelIdentifier("", name) for name in names.split()]


def needs(**ensembles: str) -> dict[ModelIdentifier, list[ModelIdentifier]]:
    """What each ensemble needs."""
    return {ModelIdentifier("", name): named(models) for name, models in ensembles.items()}


NESTED = needs(inner="a b", outer="inner b", other="b")
(INNER,), (OUTER,), (OTHER,), (A,), (B,) = (named(n) for n in ("inner", "outer", "other", "a", "b"))


def test_what_is_needed_is_loaded_first() -> None:
    order = load_order(OUTER, lambda one: NESTED.get(one, []))
    assert order == named("a b inner")
    assert load_order(A, lambda one: NESTED.get(one, [])) == []


@pytest.mark.parametrize(
    ("circle", "words"),
    [
        (needs(a="b", b="a"), "a -> ... -> b -> a"),
        (needs(a="a"), "a -> ... -> a -> a"),
        (needs(a="b", b="c", c="b"), "b -> ... -> c -> b"),
    ],
)
def test_a_circle_is_told_in_tritons_words(
    circle: dict[ModelIdentifier, list[ModelIdentifier]], words: str
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        load_order(A, lambda one: circle.get(one, []))
    assert raised.value.message == f"circular dependency between ensembles: {words}"


def test_dependents_come_after_what_they_need() -> None:
    assert dependents(A, NESTED) == named("inner outer")
    assert dependents(B, NESTED) == named("inner other outer")
    assert dependents(OUTER, NESTED) == []


def test_models_that_somebody_else_needs_or_asked_for_stay() -> None:
    serving = named("a b inner outer other")
    assert no_longer_needed(OUTER, NESTED, serving, []) == named("inner a")
    assert no_longer_needed(OUTER, NESTED, serving, [INNER]) == []
    assert no_longer_needed(OUTER, NESTED, named("a b inner outer"), []) == named("inner b a")
    assert no_longer_needed(OUTER, NESTED, named("a b inner outer"), [B]) == named("inner a")
    assert no_longer_needed(A, NESTED, serving, []) == []
