"""Which instances may stand for those that are wanted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.fakes import ARENA_BYTES, recipe

from tritonpy.supervisor.memory.buffers import InputArena
from tritonpy.supervisor.scheduling.rate_limiter import Demand
from tritonpy.supervisor.workers.host_policy import HostPolicy
from tritonpy.supervisor.workers.recipe import match


@pytest.fixture
def inputs() -> Iterator[InputArena]:
    arena = InputArena(1, ARENA_BYTES, "test")
    yield arena
    arena.close()


@pytest.mark.parametrize(
    ("wanted", "there", "missing", "superfluous"),
    [
        ("a", "a", [], []),
        ("ab", "a", [1], []),
        ("a", "ab", [], [1]),
        ("ba", "ab", [], []),
        ("xy", "a", [1], []),
        ("xa", "ab", [], []),
        ("", "ab", [], [0, 1]),
    ],
)
def test_an_instance_stands_for_another_in_the_same_place(
    inputs: InputArena, wanted: str, there: str, missing: list[int], superfluous: list[int]
) -> None:
    made = [[recipe(inputs, name=name) for name in names] for names in (wanted, there)]
    assert match(made[0], made[1]) == (missing, superfluous)


def test_an_instance_with_another_demand_is_another(inputs: InputArena) -> None:
    modest, greedy = (recipe(inputs, demand=Demand({("R", 0): count})) for count in (1, 2))
    assert match([modest, greedy], [greedy]) == ([0], [])
    assert match([recipe(inputs, demand=Demand({("R", 0): 1}))], [modest]) == ([], [])


def test_an_instance_elsewhere_or_without_requests_is_another(inputs: InputArena) -> None:
    plain = recipe(inputs)
    for other in (
        recipe(inputs, host_policy=HostPolicy(frozenset({1}))),
        recipe(inputs, host_policy=HostPolicy(numa_node=0)),
        recipe(inputs, passive=True),
    ):
        assert match([other], [plain]) == ([0], [0])
        assert match([other], [other]) == ([], [])


def test_an_instance_on_another_gpu_is_another(inputs: InputArena) -> None:
    first, second = (
        recipe(inputs, environment={"CUDA_VISIBLE_DEVICES": visible}) for visible in "01"
    )
    assert match([first, second], [second]) == ([0], [])
    assert match([first], [second]) == ([0], [0])
