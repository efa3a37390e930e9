"""Spans are handed out side by side, warm addresses first, and grow together again when freed."""

from __future__ import annotations

import pytest

from tritonpy.ipc.allocator import ALIGNMENT, Allocator

UNIT = ALIGNMENT


def allocate(allocator: Allocator, units: int) -> int:
    offset = allocator.allocate(units * UNIT)
    assert offset is not None
    return offset // UNIT


@pytest.mark.parametrize("size", [0, -64, 1, 63, 65, 100])
def test_a_size_that_is_no_multiple_of_the_alignment_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"positive multiple of 64, got {size}"):
        Allocator(size)


def test_consecutive_spans_are_adjacent() -> None:
    allocator = Allocator(16 * UNIT)

    assert [allocate(allocator, 3) for _ in range(3)] == [0, 3, 6]


def test_sizes_are_rounded_up_to_the_alignment() -> None:
    allocator = Allocator(16 * UNIT)

    assert [allocator.allocate(size) for size in (0, 1, 64, 65)] == [0, 64, 128, 192]
    assert allocator.used == 5 * UNIT
    assert allocator.span_count == 4


def test_a_full_allocator_hands_out_nothing() -> None:
    allocator = Allocator(4 * UNIT)
    allocate(allocator, 4)

    assert allocator.allocate(1) is None
    assert allocator.holes() == []


def test_a_span_larger_than_every_hole_is_not_handed_out() -> None:
    allocator = Allocator(4 * UNIT)
    spans = [allocate(allocator, 1) for _ in range(4)]
    allocator.free(spans[0] * UNIT)
    allocator.free(spans[2] * UNIT)

    assert allocator.allocate(2 * UNIT) is None
    assert allocator.allocate(UNIT) is not None


def test_freed_neighbours_become_one_hole_in_any_order() -> None:
    for order in ([0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]):
        allocator = Allocator(3 * UNIT)
        for _ in range(3):
            allocate(allocator, 1)
        for span in order:
            allocator.free(span * UNIT)

        assert allocator.holes() == [(0, 3 * UNIT)]
        assert allocator.used == 0


def test_freeing_what_was_not_handed_out_is_refused() -> None:
    allocator = Allocator(4 * UNIT)
    allocate(allocator, 2)

    with pytest.raises(KeyError):
        allocator.free(UNIT)
    allocator.free(0)
    with pytest.raises(KeyError):
        allocator.free(0)


def test_one_long_lease_does_not_block_the_rest() -> None:
    allocator = Allocator(4 * UNIT)
    allocate(allocator, 1)  # kept
    for _ in range(20):
        allocator.free(allocate(allocator, 2) * UNIT)


def test_addresses_that_were_used_before_come_before_fresh_ones() -> None:
    allocator = Allocator(100 * UNIT)
    first = [allocate(allocator, 2) for _ in range(5)]
    for span in first:
        allocator.free(span * UNIT)

    again = [allocate(allocator, 2) for _ in range(5)]

    assert sorted(again) == first
    assert allocator.frontier == 10 * UNIT


def test_a_hole_that_is_too_small_is_passed_over() -> None:
    allocator = Allocator(16 * UNIT)
    small, _, large, _ = (allocate(allocator, units) for units in (1, 1, 3, 1))
    allocator.free(small * UNIT)
    allocator.free(large * UNIT)

    assert allocate(allocator, 2) == large


def test_the_frontier_falls_to_the_highest_span_in_use() -> None:
    allocator = Allocator(16 * UNIT)
    spans = [allocate(allocator, 2) for _ in range(4)]
    allocator.free(spans[1] * UNIT)
    allocator.free(spans[3] * UNIT)

    allocator.lower_frontier()

    assert allocator.frontier == 6 * UNIT


def test_the_frontier_of_a_full_allocator_is_its_end() -> None:
    allocator = Allocator(4 * UNIT)
    allocate(allocator, 4)

    allocator.lower_frontier()

    assert allocator.frontier == 4 * UNIT


def test_its_repr_counts() -> None:
    allocator = Allocator(16 * UNIT)
    allocate(allocator, 2)

    assert repr(allocator) == "<Allocator 128 of 1024 bytes used in 1 spans, 1 holes, frontier 128>"
