"""Quantiles of a stream: within their error, and only of the last minute."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.supervisor.telemetry.quantiles import (
    WINDOW_NS,
    Sketch,
    Target,
    WindowedQuantiles,
)

TARGETS = (Target(0.5, 0.05), Target(0.9, 0.01), Target(0.99, 0.001))


def assert_within_error(numbers: list[float], sketch: Sketch) -> None:
    ordered = sorted(numbers)
    for quantile, error in TARGETS:
        got = sketch.quantile(quantile)
        lowest, highest = bisect_left(ordered, got) + 1, bisect_right(ordered, got)
        wanted = quantile * len(ordered)
        allowed = error * len(ordered) + 1
        assert lowest - allowed <= wanted <= highest + allowed, (quantile, got)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=3000), st.booleans())
def test_ranks_are_within_the_error(numbers: list[float], ordered: bool) -> None:
    if ordered:
        numbers.sort()
    sketch = Sketch(TARGETS)
    for number in numbers:
        sketch.insert(number)
    assert_within_error(numbers, sketch)


@pytest.mark.parametrize("seed", range(3))
def test_many_numbers_need_few_samples(seed: int) -> None:
    source = random.Random(seed)
    numbers = [source.lognormvariate(5, 2) for _ in range(50_000)]
    sketch = Sketch(TARGETS)
    for number in numbers:
        sketch.insert(number)
    assert_within_error(numbers, sketch)
    kept = int(repr(sketch).split(" in ")[1].split()[0])
    assert kept < 1500


def test_nothing_has_no_quantile() -> None:
    assert math.isnan(Sketch(TARGETS).quantile(0.5))


def test_numbers_older_than_the_window_are_forgotten_a_part_at_a_time() -> None:
    window = WindowedQuantiles((Target(0.5, 0.01),), now_ns=0)
    for _ in range(9):
        window.insert(1000, now_ns=0)
    later = WINDOW_NS // 5 * 4
    window.insert(1, now_ns=later)
    assert window.values(later) == [(0.5, 1000)]
    assert window.values(WINDOW_NS) == [(0.5, 1)]
    ((_, value),) = window.values(WINDOW_NS * 2)
    assert math.isnan(value)


def test_after_a_long_silence_everything_is_forgotten() -> None:
    window = WindowedQuantiles((Target(0.5, 0.01),), now_ns=0)
    window.insert(7, now_ns=1)
    window.insert(8, now_ns=WINDOW_NS * 100)
    assert window.values(WINDOW_NS * 100 + 1) == [(0.5, 8)]
