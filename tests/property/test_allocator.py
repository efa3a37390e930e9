"""Whatever is allocated and freed in whatever order, the allocator agrees with a naive model."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from tritonpy.ipc.allocator import ALIGNMENT, Allocator

UNITS = 48
SIZE = UNITS * ALIGNMENT

#: What a rule returns that has made no span.
NOTHING: tuple[int, ...] = ()


class AllocatorMachine(RuleBasedStateMachine):
    """The model is one mark a unit: the span that has it, or None."""

    spans: Bundle[int] = Bundle("spans")

    def __init__(self) -> None:
        super().__init__()
        self.allocator = Allocator(SIZE)
        self.units: list[int | None] = [None] * UNITS
        self.sizes: dict[int, int] = {}
        self.last_end: int | None = None

    @rule(target=spans, size=st.integers(0, 12 * ALIGNMENT))
    def allocate(self, size: int) -> int | MultipleResults[int]:
        need = max(1, -(-size // ALIGNMENT))
        fits = self.first_fits(need)
        frontier = self.allocator.frontier
        offset = self.allocator.allocate(size)

        if offset is None:
            assert not fits, f"{need} units fit at {fits}"
            return multiple(*NOTHING)
        assert offset % ALIGNMENT == 0
        unit = offset // ALIGNMENT
        assert unit in fits
        warm = [at for at in fits if (at + need) * ALIGNMENT <= frontier]
        if warm:
            assert unit in warm, "fresh pages were taken although used ones were free"
            if self.last_end in warm:
                assert unit == self.last_end, "the span does not follow the one before it"
        else:
            assert unit == fits[0]
        assert self.allocator.frontier == max(frontier, (unit + need) * ALIGNMENT)
        self.units[unit : unit + need] = [offset] * need
        self.sizes[offset] = need
        self.last_end = unit + need
        return offset

    @rule(offset=consumes(spans))
    def free(self, offset: int) -> None:
        self.allocator.free(offset)
        need = self.sizes.pop(offset)
        unit = offset // ALIGNMENT
        self.units[unit : unit + need] = [None] * need

    @rule()
    def lower_frontier(self) -> None:
        self.allocator.lower_frontier()
        used = [unit for unit, span in enumerate(self.units) if span is not None]
        assert self.allocator.frontier == (used[-1] + 1 if used else 0) * ALIGNMENT

    def first_fits(self, need: int) -> list[int]:
        """Every unit at which so many are free."""
        return [
            unit
            for unit in range(UNITS - need + 1)
            if all(span is None for span in self.units[unit : unit + need])
        ]

    @invariant()
    def holes_are_what_is_free_and_never_adjacent(self) -> None:
        expected: list[tuple[int, int]] = []
        for unit, span in enumerate(self.units):
            if span is None:
                start = unit * ALIGNMENT
                if expected and expected[-1][1] == start:
                    expected[-1] = (expected[-1][0], start + ALIGNMENT)
                else:
                    expected.append((start, start + ALIGNMENT))
        assert self.allocator.holes() == expected

    @invariant()
    def counts_are_right(self) -> None:
        assert self.allocator.used == sum(self.sizes.values()) * ALIGNMENT
        assert self.allocator.span_count == len(self.sizes)

    @invariant()
    def nothing_above_the_frontier_is_in_use(self) -> None:
        frontier = self.allocator.frontier // ALIGNMENT
        assert all(span is None for span in self.units[frontier:])


TestAllocator = AllocatorMachine.TestCase
TestAllocator.settings = settings(max_examples=100, stateful_step_count=60)
